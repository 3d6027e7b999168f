/** Entries for the vectors of retries, endpoints, requests and responses. */

import assert from 'node:assert/strict';
import { errorFor } from '../src/codes.js';
import {
  attempted,
  begun,
  type Endpoint,
  type Fleet,
  fleetOf,
  hinted,
  nextFor,
  normalUrl,
  probed,
  stateName,
} from '../src/endpoints.js';
import { type FractalLBAError, isFractalLBAError } from '../src/errors.js';
import {
  type HeaderFields,
  healthRequest,
  joinHeaders,
  outcomeRequest,
  type RawResponse,
  submitRequest,
} from '../src/http.js';
import type { Outcome, Position } from '../src/outcome.js';
import { statusRequest } from '../src/regionStatus.js';
import { readOutcome, readResponse, readSubmitted } from '../src/response.js';
import {
  isRetryable,
  parseRetryAfter,
  parseShouldRetry,
  plan,
  type Result,
  resultOf,
  retryPolicy,
} from '../src/retry.js';
import { Secret } from '../src/secret.js';
import { bits, bytes, digits, double, present } from './values.js';
import type { Answer, Args, Entry } from './vectorFiles.js';

type Texts = Readonly<Record<string, string>>;

const camel = (name: string): string =>
  name.replace(/_(.)/g, (_, letter: string) => letter.toUpperCase());

function optionsOf(given: Texts): Record<string, unknown> {
  const entries = Object.entries(given).map(([name, value]) => {
    const plain = Array.isArray(value) ? value : value === 'none' ? null : Number(value);
    return [camel(name), plain] as const;
  });
  return Object.fromEntries(entries);
}

function errorOf(raw: RawResponse, nowMs: number): FractalLBAError {
  try {
    readResponse(raw, nowMs);
  } catch (error) {
    assert(isFractalLBAError(error));
    return error;
  }
  return assert.fail('expected an error');
}

// --- retry -----------------------------------------------------------------------------------

interface Given {
  readonly status: string;
  readonly headers: HeaderFields;
  readonly error?: string;
}

function planned(args: Args, result: Result): Answer {
  const { policy, attempt, u, now_ms, deadline_ms, quota, alternate } = args as Texts;
  const next = plan(
    retryPolicy(policy === 'default' || policy === 'none' ? policy : optionsOf(args.policy)),
    result,
    Number(attempt),
    double(u as string),
    Number(now_ms),
    Number(deadline_ms),
    Number(quota),
    alternate === 'true',
  );
  if (next.stop) return { stop: next.stop, quota: `${next.quota}` };
  assert.equal(next.quota + next.cost, Number(quota));
  return { wait_ms: `${next.waitMs}`, quota: `${next.quota}` };
}

const planByParts: Entry = (args) => {
  const { status, headers, error } = args.outcome as unknown as Given;
  const after = headers.filter(([name]) => name.toLowerCase() === 'retry-after');
  const joined = joinHeaders(headers);
  const values = after.map(([, value]) => value);
  return planned(args, {
    status: Number(status) || undefined,
    code: error,
    retryAfterMs: parseRetryAfter(values, joined.date, Number(args.now_ms)),
    shouldRetry: parseShouldRetry(joined['x-should-retry']),
  });
};

/** The way of a client: bytes in, an error out, and from that what decides. */
const planByResponse: Entry = (args) => {
  const { status, headers, error } = args.outcome as unknown as Given;
  const answered = Number(status) || undefined;
  if (error) return planned(args, resultOf(errorFor(error, 'x', { status: answered })));
  const raw = { status: Number(status), headers, body: new Uint8Array() };
  if (raw.status >= 200 && raw.status < 300) {
    return planned(args, { status: readResponse(raw, 0).status });
  }
  return planned(args, resultOf(errorOf(raw, Number(args.now_ms))));
};

const waitAnswer = (waitMs: number | undefined): Answer =>
  waitMs === undefined ? { none: 'true' } : { ms: `${waitMs}` };

const afterByValues: Entry = ({ values, date, now_ms }) =>
  waitAnswer(parseRetryAfter(values as readonly string[], date, Number(now_ms)));

const afterByResponse: Entry = ({ values, date, now_ms }) => {
  const fields: [string, string][] = (values as string[]).map((value) => ['Retry-After', value]);
  if (date) fields.push(['Date', date]);
  const raw = { status: 503, headers: fields, body: new Uint8Array() };
  return waitAnswer(errorOf(raw, Number(now_ms)).retryAfterMs);
};

// --- endpoints -------------------------------------------------------------------------------

function resultFrom({ result, sent, retry_after_ms }: Texts): Result {
  const isStatus = /^\d+$/.test(`${result}`);
  return {
    status: isStatus ? Number(result) : undefined,
    code: isStatus ? undefined : result,
    retryAfterMs: retry_after_ms === undefined ? undefined : Number(retry_after_ms),
    sent: sent === 'true',
  };
}

/** Play a history; a client keeps the hops of a call, and asks where its retry goes. */
const fleetByEvents: Entry = ({ options, endpoints, events }) => {
  let fleet: Fleet = fleetOf(endpoints as Endpoint[], optionsOf(options));
  let hops = 0;
  const steps = (events as unknown as Texts[]).map((event) => {
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
      if (event.hint && (result.status === 421 || result.status === 423)) {
        const next = hinted(fleet, event.hint, Number(event.hint_epoch), hops, nowMs, u);
        if (next) {
          fleet = next;
          hops++;
          target = next.current;
        }
      }
      assert.equal(target, fleet.current);
      isAlternate = target !== sender;
    }
    const states = fleet.states.map(stateName);
    return { current: `${fleet.current}`, states, alternate: `${isAlternate}` };
  });
  return { steps };
};

// --- http ------------------------------------------------------------------------------------

const requestAt = (args: Args, endpoint: string): Answer => {
  const { agent, attempt, tenant, token, min_ack, pcs_id, content, body } = args;
  const options = { agent, tenant, attempt: Number(attempt) };
  const made = {
    submit: () => submitRequest(endpoint, bytes(body), content, { ...options, minAck: min_ack }),
    get: () =>
      outcomeRequest(endpoint, pcs_id, { ...options, token: token ? new Secret(token) : token }),
    status: () => statusRequest(endpoint, { agent, tenant, token: new Secret(token) }),
    health: () => healthRequest(endpoint, { agent }),
  }[args.request as 'submit' | 'get' | 'status' | 'health']();
  const headers = made.headers.map(([name, value]) => [name.toLowerCase(), value]).sort();
  const sent = made.body ? digits(made.body) : '';
  return { method: made.method, url: made.url, headers, body: sent };
};

const requestByKind: Entry = (args) => requestAt(args, args.endpoint);

/** A client sends to the URL as `fleetOf` writes it; only default ports may differ. */
const requestAtEndpoint: Entry = (args) => {
  const given: string = args.endpoint;
  const url = normalUrl(given);
  assert.equal(url, given.replace(/\/$/, '').replace(/:80$/, ''));
  const answer = requestAt(args, url);
  return { ...answer, url: `${answer.url}`.replace(url, given.replace(/\/$/, '')) };
};

const rawOf = ({ status, headers, body }: Args): RawResponse => ({
  status: Number(status),
  headers: headers as HeaderFields,
  body: bytes(body),
});

function outcomeAnswer(outcome: Outcome): Answer {
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

const placeAnswer = (position: Position | undefined): Answer | undefined =>
  position && {
    region: position.region,
    placement: position.placement,
    region_epoch: `${position.regionEpoch}`,
    seq: `${position.seq}`,
  };

const responseByKind: Entry = (args) => {
  const response = readResponse(rawOf(args), 0);
  const facts = { request_id: response.requestId };
  if (args.request === 'get') {
    return present({ outcome: outcomeAnswer(readOutcome(response, args.pcs_id)), ...facts });
  }
  const submitted = readSubmitted(response, args.pcs_id);
  const { outcome, replayed, level, position, replicated, raw } = submitted;
  assert.deepEqual(raw.body, bytes(args.body));
  return present({
    outcome: outcomeAnswer(outcome),
    replayed: `${replayed}`,
    level,
    position: placeAnswer(position),
    replicated: placeAnswer(replicated),
    ...facts,
  });
};

const mappedByResponse: Entry = (args) => {
  const error = errorOf(rawOf(args), Number(args.now_ms));
  assert.deepEqual(error.body, bytes(args.body));
  const wait = error.retryAfterMs;
  return present({
    class: error.constructor.name,
    code: error.code,
    fault: error.fault,
    retryable: `${isRetryable(resultOf(error))}`,
    request_id: error.requestId,
    pointer: error.pointer,
    retry_after_ms: wait === undefined ? undefined : `${wait}`,
  });
};

export const ENTRIES: Readonly<Record<string, readonly Entry[]>> = {
  'retry.plan': [planByParts, planByResponse],
  'retry.after': [afterByValues, afterByResponse],
  'endpoint.plan': [fleetByEvents],
  'http.request': [requestByKind, requestAtEndpoint],
  'http.response': [responseByKind],
  'errors.map': [mappedByResponse],
};
