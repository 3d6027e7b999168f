/**
 * Choose the endpoint of the next attempt (spec/retry.md 27-43).
 *
 * This file owns which endpoint is up, when a client moves to another, and when it returns. It is
 * a state machine over values: each event gives a new `Fleet`, the clock and the random number
 * are arguments, nothing is sent from here.
 *
 *     up       = neither of
 *     suspect  = the last attempt failed
 *     down     = `downAfter` failures in a row; probed until `upAfter` probes in a row are good
 *
 * A refused result moves at once. An ambiguous one (bytes may have arrived) stays until the
 * endpoint is down: two regions that both say "new" are a conflict.
 */

import { configError } from './errors.js';
import { checkInteger, completed, type Result } from './retry.js';

/** One place to send to: https, or http on loopback; no user-info, query or fragment. */
export interface Endpoint {
  readonly url: string;
  /** Needed only where `allowedRegions` is set. */
  readonly region?: string | undefined;
}

/** Say when to leave an endpoint and when to return. */
export interface FailoverPolicy {
  readonly downAfter: number;
  readonly upAfter: number;
  readonly probeIntervalMs: number;
  readonly probeTimeoutMs: number;
  /** null: never return. */
  readonly failbackAfterMs: number | null;
  /** An endpoint of another region, or of none, is never used, whatever fails. */
  readonly allowedRegions?: readonly string[] | undefined;
  readonly redirectHops: number;
}

/** What is known about one endpoint. Times are Unix milliseconds. */
export interface EndpointState {
  readonly failures: number;
  readonly goodProbes: number;
  readonly down: boolean;
  readonly failedAtMs: number;
  readonly boundUntilMs: number;
  readonly probeAtMs?: number | undefined;
}

/** All endpoints of a client; `current` is the index that the next call starts with. */
export interface Fleet {
  readonly endpoints: readonly Endpoint[];
  readonly policy: FailoverPolicy;
  readonly states: readonly EndpointState[];
  readonly eligible: readonly number[];
  readonly current: number;
  readonly failbackAtMs?: number | undefined;
  readonly hintEpoch: number;
}

const LOWEST = {
  downAfter: 1,
  upAfter: 1,
  probeIntervalMs: 1,
  probeTimeoutMs: 1,
  failbackAfterMs: 0,
  redirectHops: 0,
};

const DEFAULTS: FailoverPolicy = {
  downAfter: 3,
  upAfter: 2,
  probeIntervalMs: 10_000,
  probeTimeoutMs: 2_000,
  failbackAfterMs: 600_000,
  redirectHops: 3,
};

const URL_FORM = /^(https?):\/\/(\[[\da-f:.]+\]|[^\s/?#:@\\[\]]+)(?::(\d*))?(\/[^?#\\]*)?$/i;
const LOOPBACK = /^(localhost|127(\.\d{1,3}){3}|\[::1\])$/;

/** Check an endpoint's URL and write it in one form, without a slash at the end. */
export function normalUrl(url: string): string {
  const [, scheme = '', host = '', port = '', path = ''] = URL_FORM.exec(url) ?? [];
  const [kind, name] = [scheme.toLowerCase(), host.toLowerCase()];
  const isAllowed = kind === 'https' || LOOPBACK.test(name);
  if (!kind || !isAllowed || +port > 65_535 || !/^[!-~]+$/.test(url) || !isUsable(url)) {
    throw configError('endpoint', 'https://host, or http on loopback, without user-info or query');
  }
  const shownPort = port && +port !== (kind === 'https' ? 443 : 80) ? `:${+port}` : '';
  return `${kind}://${name}${shownPort}${path.replace(/\/+$/, '')}`;
}

/** Say whether `fetch` can ask it: a host it cannot read would look like a lost connection. */
function isUsable(url: string): boolean {
  try {
    return !!new URL(url);
  } catch {
    return false;
  }
}

/** Start with every endpoint up, at the first eligible one (retry 27, 28). */
export function fleetOf(
  given: string | Endpoint | readonly (string | Endpoint)[],
  failover: Partial<FailoverPolicy> = {},
): Fleet {
  const policy = completed(DEFAULTS, failover);
  for (const [name, low] of Object.entries(LOWEST)) {
    const value = policy[name as keyof typeof LOWEST];
    if (value !== null || name !== 'failbackAfterMs') checkInteger(name, value, low);
  }
  const list = Array.isArray(given) ? given : [given];
  const endpoints = list.map((item: string | Endpoint): Endpoint => {
    const { url, region } = typeof item === 'string' ? { url: item, region: undefined } : item;
    if (region !== undefined && !/^[a-z0-9-]{1,64}$/.test(region)) {
      throw configError('region', '1 to 64 of a-z 0-9 -', region);
    }
    return { url: normalUrl(url), region };
  });
  if (new Set(endpoints.map(({ url }) => url)).size !== endpoints.length) {
    throw configError('endpoints', 'each URL once');
  }
  const { allowedRegions } = policy;
  // A text has `includes` too, which would allow every region that it holds.
  if (allowedRegions && !Array.isArray(allowedRegions)) throw configError('regions', 'an array');
  const eligible = [...endpoints.keys()].filter(
    (index) => !allowedRegions || allowedRegions.includes(endpoints[index]?.region as string),
  );
  const [current] = eligible;
  if (current === undefined) throw configError('endpoints', 'at least one in the allowed regions');
  const state = { failures: 0, goodProbes: 0, down: false, failedAtMs: 0, boundUntilMs: 0 };
  return { endpoints, policy, states: endpoints.map(() => state), eligible, current, hintEpoch: 0 };
}

/** Name the state of an endpoint. */
export function stateName({ down, failures }: EndpointState): 'up' | 'suspect' | 'down' {
  return down ? 'down' : failures ? 'suspect' : 'up';
}

// --- events ----------------------------------------------------------------------------------

/** Begin a call: return home if that is due, leave an endpoint that is down. */
export function begun(fleet: Fleet, nowMs: number, u: number): Fleet {
  const home = homeOf(fleet);
  const state = stateAt(fleet, home);
  const due = fleet.failbackAtMs !== undefined && nowMs >= fleet.failbackAtMs;
  if (due && stateName(state) === 'up' && state.goodProbes >= fleet.policy.upAfter) {
    return move(fleet, home, nowMs, u);
  }
  if (!stateAt(fleet, fleet.current).down) return fleet;
  return move(fleet, other(fleet, fleet.current, nowMs), nowMs, u);
}

/** Take in what one attempt at `sender` came to. `u` in [0, 1) spreads the timers. */
export function attempted(
  fleet: Fleet,
  sender: number,
  result: Result,
  nowMs: number,
  u: number,
): Fleet {
  const { status = 0, code, retryAfterMs } = result;
  let next = fleet;
  if (retryAfterMs !== undefined && (status === 429 || status === 503)) {
    next = change(next, sender, { boundUntilMs: nowMs + retryAfterMs });
  }
  if (status >= 500 || isNoAnswer(code)) next = failed(next, sender, nowMs);
  else if (status) next = change(next, sender, { failures: 0, down: false });
  if (sender === next.current && leaves(next, sender, result)) {
    next = move(next, other(next, sender, nowMs), nowMs, u);
  }
  return scheduled(next, sender, nowMs, u);
}

/**
 * Follow the redirect hint of a 421 or 423, or give undefined if it is to be ignored.
 *
 * `hops` counts the hints that this call has followed already (retry 41).
 */
export function hinted(
  fleet: Fleet,
  url: string,
  regionEpoch: number,
  hops: number,
  nowMs: number,
  u: number,
): Fleet | undefined {
  const target = indexOf(fleet, url);
  const isStale = regionEpoch < fleet.hintEpoch || hops >= fleet.policy.redirectHops;
  if (target === undefined || isStale) return undefined;
  return { ...move(fleet, target, nowMs, u), hintEpoch: regionEpoch };
}

/** Take in a probe (retry 39). */
export function probed(
  fleet: Fleet,
  index: number,
  good: boolean,
  nowMs: number,
  u: number,
): Fleet {
  const { down, failures, goodProbes } = stateAt(fleet, index);
  let next = fleet;
  if (good) {
    const enough = !down || goodProbes + 1 >= fleet.policy.upAfter;
    const state = { goodProbes: goodProbes + 1, failures: enough ? 0 : failures, down: !enough };
    next = change(fleet, index, state);
  } else {
    next = down ? change(fleet, index, { goodProbes: 0 }) : failed(fleet, index, nowMs);
  }
  return scheduled(change(next, index, { probeAtMs: undefined }), index, nowMs, u);
}

// --- questions -------------------------------------------------------------------------------

/**
 * Name the endpoint of a call's next attempt, after `attempted` took in the last one.
 *
 * Other calls may have moved `current` meanwhile; an ambiguous result must not follow them.
 */
export function nextFor(fleet: Fleet, sender: number, result: Result): number {
  return leaves(fleet, sender, result) ? fleet.current : sender;
}

/** Name the endpoints to ask `GET /health` now. */
export function probesDue({ states }: Fleet, nowMs: number): number[] {
  return [...states.keys()].filter((index) => {
    const { probeAtMs } = states[index] as EndpointState;
    return probeAtMs !== undefined && probeAtMs <= nowMs;
  });
}

/** Say when the next probe is due, or undefined if none is. */
export function nextProbeMs({ states }: Fleet): number | undefined {
  const times = states.flatMap(({ probeAtMs }) => probeAtMs ?? []);
  return times.length ? Math.min(...times) : undefined;
}

// --- inside ----------------------------------------------------------------------------------

/** No answer: a failure of the endpoint (retry 29). So is every status from 500. */
function isNoAnswer(code: string | undefined): boolean {
  return code === 'connect_failed' || code === 'tls_failed' || isCut(code);
}

/** Refused if no byte of the request was sent, ambiguous otherwise (retry 30, 31). */
function isCut(code: string | undefined): boolean {
  return code === 'connection_lost' || code === 'attempt_timeout';
}

/** Say whether a result moves the call away: refused, or ambiguous and the sender is down. */
function leaves(fleet: Fleet, sender: number, { status, code, sent = true }: Result): boolean {
  const refused = status ? status === 503 : code === 'connect_failed' || (isCut(code) && !sent);
  const ambiguous = status ? status >= 500 : isCut(code);
  return refused || (ambiguous && stateAt(fleet, sender).down);
}

function homeOf({ eligible }: Fleet): number {
  return eligible[0] as number;
}

function stateAt({ states }: Fleet, index: number): EndpointState {
  return states[index] as EndpointState;
}

function change(fleet: Fleet, index: number, changes: Partial<EndpointState>): Fleet {
  const states = [...fleet.states];
  states[index] = { ...stateAt(fleet, index), ...changes };
  return { ...fleet, states };
}

function indexOf({ endpoints, eligible }: Fleet, url: string): number | undefined {
  let wanted: string;
  try {
    wanted = normalUrl(url);
  } catch {
    return undefined;
  }
  return eligible.find((index) => endpoints[index]?.url === wanted);
}

function failed(fleet: Fleet, index: number, nowMs: number): Fleet {
  const state = stateAt(fleet, index);
  const failures = state.failures + 1;
  const down = state.down || failures >= fleet.policy.downAfter;
  return change(fleet, index, { failures, goodProbes: 0, down, failedAtMs: nowMs });
}

/** Choose where to go from `sender` (retry 34, 35); the answer may be `sender`. */
function other(fleet: Fleet, sender: number, nowMs: number): number {
  const { eligible } = fleet;
  const at = (index: number): EndpointState => stateAt(fleet, index);
  const least = (indexes: readonly number[], time: 'failedAtMs' | 'boundUntilMs'): number =>
    indexes.reduce((best, index) => (at(index)[time] < at(best)[time] ? index : best));
  const alive = eligible.filter((index) => index !== sender && !at(index).down);
  const free = alive.filter((index) => at(index).boundUntilMs <= nowMs);
  const up = free.find((index) => !at(index).failures);
  if (up !== undefined) return up;
  if (free.length) return least(free, 'failedAtMs');
  if (!at(sender).down) return sender;
  return alive.length ? least(alive, 'boundUntilMs') : least(eligible, 'failedAtMs');
}

/** Make `target` current; leaving home notes when to return (retry 40). */
function move(fleet: Fleet, target: number, nowMs: number, u: number): Fleet {
  if (target === fleet.current) return fleet;
  const home = homeOf(fleet);
  const afterMs = fleet.policy.failbackAfterMs;
  let moved: Fleet = { ...fleet, current: target };
  if (target === home) {
    moved = { ...moved, failbackAtMs: undefined };
  } else if (fleet.current === home) {
    // Probes from before do not count towards the return. A down home has begun its row, which
    // hints that lead to it and away again must not end.
    if (!stateAt(fleet, home).down) moved = change(moved, home, { goodProbes: 0 });
    if (afterMs !== null) {
      moved = { ...moved, failbackAtMs: nowMs + Math.floor(afterMs * (0.5 + u)) };
    }
  }
  return scheduled(moved, home, nowMs, u);
}

/** Plan the next probe of an endpoint that is down, or of home while away (retry 38). */
function scheduled(fleet: Fleet, index: number, nowMs: number, u: number): Fleet {
  const { down, probeAtMs } = stateAt(fleet, index);
  const isWanted = down || (index === homeOf(fleet) && fleet.current !== index);
  const next = nowMs + Math.floor(fleet.policy.probeIntervalMs * (0.8 + 0.4 * u));
  return change(fleet, index, { probeAtMs: isWanted ? (probeAtMs ?? next) : undefined });
}
