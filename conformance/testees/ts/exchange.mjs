/** Operations of retries, endpoints, requests and responses. */

import { errorFor } from './.build/codes.js';
import {
  attempted,
  begun,
  fleetOf,
  hinted,
  nextFor,
  probed,
  stateName,
} from './.build/endpoints.js';
import { healthRequest, outcomeRequest, submitRequest } from './.build/http.js';
import { statusRequest } from './.build/regionStatus.js';
import { leaderHint, readOutcome, readResponse, readSubmitted } from './.build/response.js';
import { isRetryable, parseRetryAfter, plan, resultOf, retryPolicy } from './.build/retry.js';
import { Secret } from './.build/secret.js';
import { bits, bytes, double, hex } from './signing.mjs';

const camel = (name) => name.replace(/_(.)/g, (_, letter) => letter.toUpperCase());

/** Give options by the names of the SDK, with numbers for texts. */
export function optionsOf(given) {
  const entries = Object.entries(given).map(([name, value]) => {
    return [camel(name), value === 'none' ? null : Array.isArray(value) ? value : Number(value)];
  });
  return Object.fromEntries(entries);
}

const present = (members) =>
  Object.fromEntries(Object.entries(members).filter(([, value]) => value !== undefined));

function errorOf(raw, nowMs) {
  try {
    readResponse(raw, nowMs);
  } catch (error) {
    return error;
  }
  return undefined;
}

function planned({ policy, outcome, attempt, u, now_ms, deadline_ms, quota, alternate }) {
  const { headers, error } = outcome;
  const status = Number(outcome.status) || undefined;
  const raw = { status, headers, body: new Uint8Array() };
  const failure = error ? errorFor(error, 'x', { status }) : errorOf(raw, Number(now_ms));
  const next = plan(
    retryPolicy(typeof policy === 'string' ? policy : optionsOf(policy)),
    failure ? resultOf(failure) : { status },
    Number(attempt),
    double(u),
    Number(now_ms),
    Number(deadline_ms),
    Number(quota),
    alternate === 'true',
  );
  const left = `${next.quota}`;
  return next.stop ? { stop: next.stop, quota: left } : { wait_ms: `${next.waitMs}`, quota: left };
}

function resultFrom({ result, sent, retry_after_ms }) {
  const isStatus = /^\d+$/.test(result);
  return {
    status: isStatus ? Number(result) : undefined,
    code: isStatus ? undefined : result,
    retryAfterMs: retry_after_ms === undefined ? undefined : Number(retry_after_ms),
    sent: sent === 'true',
  };
}

/** Play a history; a client keeps the hops of a call, and asks where its retry goes. */
function endpointPlan({ options, endpoints, events }) {
  let fleet = fleetOf(endpoints, optionsOf(options));
  let hops = 0;
  const steps = events.map((event) => {
    const [nowMs, sender] = [Number(event.at_ms), Number(event.endpoint)];
    const u = double(event.u ?? '3fe0000000000000');
    let isAlternate = false;
    if (event.event === 'call') {
      fleet = begun(fleet, nowMs, u);
      hops = 0;
    } else if (event.event === 'probe') {
      fleet = probed(fleet, sender, event.ok === 'true', nowMs, u);
    } else {
      const result = resultFrom(event);
      fleet = attempted(fleet, sender, result, nowMs, u);
      let target = nextFor(fleet, sender, result);
      const isHinted = (result.status === 421 || result.status === 423) && event.hint;
      const next = isHinted && hinted(fleet, event.hint, Number(event.hint_epoch), hops, nowMs, u);
      if (next) {
        fleet = next;
        hops++;
        target = next.current;
      }
      isAlternate = target !== sender;
    }
    const states = fleet.states.map(stateName);
    return { current: `${fleet.current}`, states, alternate: `${isAlternate}` };
  });
  return { steps };
}

function request(args) {
  const { endpoint, agent, attempt, tenant, token, min_ack: minAck, pcs_id, content, body } = args;
  const options = { agent, tenant, attempt: Number(attempt) };
  const kinds = {
    submit: () => submitRequest(endpoint, bytes(body), content, { ...options, minAck }),
    get: () => outcomeRequest(endpoint, pcs_id, { ...options, token: token && new Secret(token) }),
    status: () => statusRequest(endpoint, { agent, tenant, token: new Secret(token) }),
    health: () => healthRequest(endpoint, { agent }),
  };
  const made = kinds[args.request]();
  const headers = made.headers.map(([name, value]) => [name.toLowerCase(), value]).sort();
  return { method: made.method, url: made.url, headers, body: hex(made.body ?? '') };
}

const rawOf = ({ status, headers, body }) => ({
  status: Number(status),
  headers,
  body: bytes(body),
});

/** Write an outcome as the operations have it. */
export function outcomeAnswer(outcome) {
  return present({
    accepted: `${outcome.accepted}`,
    escalated: `${outcome.escalated}`,
    first_seen: outcome.firstSeen,
    pcs_id: outcome.pcsId,
    policy_version: outcome.policyVersion,
    reason: outcome.reason,
    recomputed_D_hat: bits(outcome.recomputedDHat),
    recomputed_budget: bits(outcome.recomputedBudget),
  });
}

/** Write the facts of a submit as the operations have them. */
const placeAnswer = (place) =>
  place && {
    region: place.region,
    placement: place.placement,
    region_epoch: `${place.regionEpoch}`,
    seq: `${place.seq}`,
  };

export function submittedAnswer({ outcome, replayed, level, position, replicated, raw }) {
  return present({
    outcome: outcomeAnswer(outcome),
    replayed: `${replayed}`,
    level,
    position: placeAnswer(position),
    replicated: placeAnswer(replicated),
    request_id: raw.requestId,
  });
}

function response(args) {
  const read = readResponse(rawOf(args), 0);
  if (args.request !== 'get') return submittedAnswer(readSubmitted(read, args.pcs_id));
  const outcome = outcomeAnswer(readOutcome(read, args.pcs_id));
  return present({ outcome, request_id: read.requestId });
}

function mapped(args) {
  const error = errorOf(rawOf(args), Number(args.now_ms));
  leaderHint(error);
  return present({
    class: error.name,
    code: error.code,
    fault: error.fault,
    retryable: `${isRetryable(resultOf(error))}`,
    request_id: error.requestId,
    pointer: error.pointer,
    retry_after_ms: error.retryAfterMs === undefined ? undefined : `${error.retryAfterMs}`,
  });
}

export const OPS = {
  'retry.plan': planned,
  'retry.after': ({ values, date, now_ms }) => {
    const ms = parseRetryAfter(values, date, Number(now_ms));
    return ms === undefined ? { none: 'true' } : { ms: `${ms}` };
  },
  'endpoint.plan': endpointPlan,
  'http.request': request,
  'http.response': response,
  'errors.map': mapped,
};
