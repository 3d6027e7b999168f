/**
 * Decide, step by step, what a call does: which request goes where, what follows, when it ends.
 *
 * A call is a generator. It yields an `Effect`, the client carries that out and hands back a `Turn`
 * with what came of it and the time. Nothing in here sleeps, sends, draws or looks at a clock. The
 * frozen body is built before the first step, and every attempt sends those bytes.
 *
 * `State` is what the calls of one client share.
 */

import { errorFor } from './codes.js';
import {
  attempted,
  begun,
  type Endpoint,
  type Fleet,
  hinted,
  nextFor,
  probed,
  probesDue,
} from './endpoints.js';
import { type FractalLBAError, isFractalLBAError } from './errors.js';
import type { AttemptEvent, ClientEvent } from './hooks.js';
import {
  healthRequest,
  loggableHeaders,
  loggableUrl,
  outcomeRequest,
  type RawResponse,
  type Request,
  type RequestOptions,
  submitRequest,
} from './http.js';
import type { Letter } from './outbox.js';
import type { Outcome, Position, Submitted } from './outcome.js';
import type { RegionStatus } from './regionStatus.js';
import {
  leaderHint,
  type Response,
  readOutcome,
  readResponse,
  readSubmitted,
  watermarkOf,
} from './response.js';
import { plan, type Result, type RetryPolicy, resultOf } from './retry.js';
import type { Due, Verdict } from './schedule.js';
import type { SignedRecord } from './sign.js';

// --- effects and turns ---------------------------------------------------------------------

/** Send a request; the turn brings the response, or the error of the transport. */
export interface Send {
  readonly do: 'send';
  readonly request: Request;
  readonly connectTimeoutMs: number;
  readonly attemptTimeoutMs: number;
}

/** Let time pass; the turn brings the error `cancelled` if the wait was cut short. */
export interface Sleep {
  readonly do: 'sleep';
  readonly waitMs: number;
}

/** Ask an endpoint for its health beside the call; the result goes to `probed`. */
export interface Probe {
  readonly do: 'probe';
  readonly endpoint: number;
  readonly request: Request;
  readonly timeoutMs: number;
}

/** Report an event. */
export interface Tell {
  readonly do: 'tell';
  readonly event: ClientEvent;
}

/**
 * Wait for a free place among the calls in flight; the turn brings an error if none came.
 *
 * The client gives the place back when the call ends.
 */
export interface Enter {
  readonly do: 'enter';
  readonly deadlineMs: number;
}

/**
 * Put a letter into the outbox; the turn brings it with its id, or the outbox's error.
 *
 * `inFlight` says that this call sends it itself.
 */
export interface Keep {
  readonly do: 'keep';
  readonly letter: Letter;
  readonly inFlight: boolean;
}

/** Tell the outbox what became of an entry. */
export interface Settle {
  readonly do: 'settle';
  readonly id: string;
  readonly verdict: Verdict;
}

/** Tell the outbox, if there is one, how far a region is replicated. */
export interface Hear {
  readonly do: 'hear';
  readonly news: Position | RegionStatus;
}

/** Ask each endpoint that may know how far its region is replicated; `ids` go out after that. */
export interface Ask {
  readonly do: 'ask';
  readonly ids: readonly string[];
  readonly timeoutMs: number;
}

/** Take due entries out of the outbox; the turn brings a `Due`, or the outbox's error. */
export interface Take {
  readonly do: 'take';
  readonly limit: number;
  readonly bytesMax: number;
}

/** Run these calls beside each other until all have ended; `ids` are what they settle. */
export interface Deliver {
  readonly do: 'deliver';
  readonly calls: readonly Call<unknown>[];
  readonly ids: readonly string[];
}

/**
 * Wait until the outbox changes, at most so long; without `waitMs` without end.
 *
 * The turn brings the error `cancelled` if the client was closed.
 */
export interface Doze {
  readonly do: 'doze';
  readonly waitMs?: number | undefined;
}

/** What a client with an outbox carries out besides; its courier does. */
export type OutboxEffect = Keep | Settle | Hear | Ask | Take | Deliver | Doze;

export type Effect = Send | Sleep | Probe | Tell | Enter | OutboxEffect;

export type Answer = RawResponse | Letter | Due | FractalLBAError | undefined;

/** What came of an effect, and when: Unix time, a clock that never goes back, and chance. */
export interface Turn {
  readonly nowMs: number;
  readonly monotonicMs: number;
  readonly u: number;
  readonly answer?: Answer;
}

export type Call<T> = Generator<Effect, T, Turn>;

/** What the client must give back when a call ends, and what ends or wakes it. */
export interface Run {
  readonly signal: AbortSignal;
  hasPlace: boolean;
  /** Entries of the outbox that wait for a verdict of this call. */
  unsettled: readonly string[];
  /** Aborts as soon as the outbox changes, from the last `take` on. */
  change?: AbortSignal;
}

// --- what calls share, and what they are -----------------------------------------------------

/** What the calls of one client share. */
export interface State {
  fleet: Fleet;
  quota: number;
  readonly probing: Set<number>;
  takesBatches: boolean;
}

/** How long, how often and how much; the same for every call of a client. */
export interface Bounds {
  readonly retry: RetryPolicy;
  readonly connectTimeoutMs: number;
  readonly attemptTimeoutMs: number;
  readonly maxResponseBytes: number;
  readonly maxResponseHeaders: number;
}

/**
 * One kind of call: how its request is built and its response read.
 *
 * `build` gets an endpoint and the number of the attempt, `read` a 2xx response, the number of
 * attempts and the time.
 */
export interface Spec<T> {
  readonly name: string;
  build(endpoint: string, attempt: number): Request;
  read(response: Response, attempts: number, nowMs: number): T;
}

/** What of a signed record is sent. */
export type Frozen = Pick<SignedRecord, 'body' | 'pcsId' | 'content'>;

/** Describe the submit of one frozen body; `options` holds agent, tenant and level. */
export function submitSpec(frozen: Frozen, options: RequestOptions): Spec<Submitted> {
  const { body, content, pcsId } = frozen;
  return {
    name: 'submit',
    build: (endpoint, attempt) => submitRequest(endpoint, body, content, { ...options, attempt }),
    read: (response, attempts) => readSubmitted(response, pcsId, attempts),
  };
}

/**
 * Describe the reading of one outcome; `options` holds agent, tenant and token.
 *
 * Throws ValidationError for an id that is none.
 */
export function getSpec(pcsId: string, options: RequestOptions): Spec<Outcome> {
  const build = (endpoint: string, attempt: number): Request =>
    outcomeRequest(endpoint, pcsId, { ...options, attempt });
  build('', 1);
  return { name: 'get', build, read: (response) => readOutcome(response, pcsId) };
}

// --- one exchange --------------------------------------------------------------------------

/**
 * Attempt until there is a result or a reason to stop (spec/retry.md 1-19).
 *
 * `deadlineMs` is on the clock of `Turn.monotonicMs`. Throws the error of the last attempt.
 */
export function* exchange<T>(
  spec: Spec<T>,
  state: State,
  bounds: Bounds,
  deadlineMs: number,
  agent?: string,
): Call<T> {
  const { name } = spec;
  let turn = yield { do: 'enter', deadlineMs };
  if (isFractalLBAError(turn.answer)) throw yield* stopped(name, turn.answer, turn.answer.code, 0);
  let attempt = 0;
  let taken = 0;
  let hops = 0;
  let error: FractalLBAError | undefined;
  state.fleet = begun(state.fleet, turn.nowMs, turn.u);
  let sender = state.fleet.current;
  for (;;) {
    yield* probes(state, turn.nowMs, agent);
    const leftMs = deadlineMs - turn.monotonicMs;
    if (leftMs <= 0) {
      error ??= errorFor('deadline_exceeded', 'the total bound of the call has passed');
      throw yield* stopped(name, error, 'deadline_exceeded', attempt);
    }
    const request = spec.build(endpointAt(state, sender).url, ++attempt);
    const sentAtMs = turn.monotonicMs;
    const attemptTimeoutMs = Math.min(bounds.attemptTimeoutMs, leftMs);
    const connectTimeoutMs = Math.min(bounds.connectTimeoutMs, attemptTimeoutMs);
    turn = yield { do: 'send', request, connectTimeoutMs, attemptTimeoutMs };
    yield* heard(turn);
    const value = read(spec, turn, bounds, attempt);
    error = isFractalLBAError(value) ? value : undefined;
    yield { do: 'tell', event: attemptEvent(name, request, turn, sentAtMs, attempt, error) };
    const { nowMs, u } = turn;
    const result = error ? resultOf(error) : { status: (turn.answer as RawResponse).status };
    state.fleet = attempted(state.fleet, sender, result, nowMs, u);
    const next = nextEndpoint(state, sender, result, error, turn, hops);
    const { target } = next;
    hops = next.hops;
    const decision = plan(
      bounds.retry,
      result,
      attempt,
      u,
      nowMs,
      nowMs + deadlineMs - turn.monotonicMs,
      state.quota,
      target !== sender,
      taken,
    );
    state.quota = decision.quota;
    if (decision.stop) {
      if (!error) return value as T;
      throw yield* stopped(name, error, decision.stop, attempt);
    }
    const { waitMs, cost } = decision;
    taken = cost;
    const code = (error as FractalLBAError).code;
    yield { do: 'tell', event: { type: 'retry', call: name, attempt, waitMs, code } };
    if (target !== sender) {
      const fromUrl = loggableUrl(endpointAt(state, sender).url);
      const toUrl = loggableUrl(endpointAt(state, target).url);
      yield { do: 'tell', event: { type: 'failover', fromUrl, toUrl } };
    }
    sender = target;
    turn = yield { do: 'sleep', waitMs };
    if (isFractalLBAError(turn.answer))
      throw yield* stopped(name, turn.answer, 'cancelled', attempt);
  }
}

/** Read the watermark of an answer, whatever the answer is (formats 12.14). */
function* heard({ answer }: Turn): Generator<Effect, void, Turn> {
  const news = isFractalLBAError(answer) ? undefined : watermarkOf((answer as RawResponse).headers);
  if (news) yield { do: 'hear', news };
}

/** Say where the next attempt goes; `hops` counts the hints that the call has followed. */
function nextEndpoint(
  state: State,
  sender: number,
  result: Result,
  error: FractalLBAError | undefined,
  { nowMs, u }: Turn,
  hops: number,
): { target: number; hops: number } {
  const hint = error && leaderHint(error);
  const led = hint && hinted(state.fleet, hint.endpoint, hint.regionEpoch, hops, nowMs, u);
  if (!led) return { target: nextFor(state.fleet, sender, result), hops };
  state.fleet = led;
  return { target: led.current, hops: hops + 1 };
}

function endpointAt({ fleet }: State, index: number): Endpoint {
  return fleet.endpoints[index] as Endpoint;
}

function read<T>(spec: Spec<T>, turn: Turn, bounds: Bounds, attempt: number): T | FractalLBAError {
  if (isFractalLBAError(turn.answer)) return turn.answer;
  try {
    const { maxResponseBytes, maxResponseHeaders } = bounds;
    const raw = turn.answer as RawResponse;
    const response = readResponse(raw, turn.nowMs, maxResponseBytes, maxResponseHeaders);
    return spec.read(response, attempt, turn.nowMs);
  } catch (error) {
    if (isFractalLBAError(error)) return error;
    throw error;
  }
}

function* stopped(
  call: string,
  error: FractalLBAError,
  stop: string,
  attempts: number,
): Generator<Effect, FractalLBAError, Turn> {
  Object.assign(error, { stop, attempts });
  yield { do: 'tell', event: { type: 'stop', call, error } };
  return error;
}

function attemptEvent(
  call: string,
  request: Request,
  turn: Turn,
  sentAtMs: number,
  attempt: number,
  error: FractalLBAError | undefined,
): AttemptEvent {
  const answer = isFractalLBAError(turn.answer) ? undefined : (turn.answer as RawResponse);
  const responseHeaders = loggableHeaders(answer?.headers ?? []);
  return {
    type: 'attempt',
    call,
    method: request.method,
    url: loggableUrl(request.url),
    attempt,
    elapsedMs: turn.monotonicMs - sentAtMs,
    status: answer?.status,
    code: error?.code,
    requestId: responseHeaders['x-request-id'],
    requestHeaders: loggableHeaders(request.headers),
    responseHeaders,
  };
}

// --- probes --------------------------------------------------------------------------------

/** Start the probes that are due: endpoints are probed while calls are made (retry 38). */
function* probes(state: State, nowMs: number, agent?: string): Generator<Effect, void, Turn> {
  for (const endpoint of probesDue(state.fleet, nowMs)) {
    if (!state.probing.has(endpoint)) {
      state.probing.add(endpoint);
      const request = healthRequest(endpointAt(state, endpoint).url, { agent });
      yield { do: 'probe', endpoint, request, timeoutMs: state.fleet.policy.probeTimeoutMs };
    }
  }
}

/** Take in what a probe came to; one that was cancelled says nothing. */
export function probeEnded(state: State, endpoint: number, turn: Turn): void {
  state.probing.delete(endpoint);
  const { answer, nowMs, u } = turn;
  if (isFractalLBAError(answer) && answer.code === 'cancelled') return;
  const isGood = !isFractalLBAError(answer) && (answer as RawResponse).status === 200;
  state.fleet = probed(state.fleet, endpoint, isGood, nowMs, u);
}

/**
 * What `GET /health` at one endpoint said: `ok` if it takes writes now.
 *
 * `error` is a code of the closed list; it is absent if there was an answer with 200.
 */
export interface EndpointHealth {
  readonly url: string;
  readonly region?: string | undefined;
  readonly ok: boolean;
  readonly status?: number | undefined;
  readonly error?: string | undefined;
}

/** Read the answer to a health request; nothing here throws. */
export function readHealth(
  endpoint: Endpoint,
  answer: RawResponse | FractalLBAError,
  nowMs: number,
): EndpointHealth {
  const { url, region } = endpoint;
  const { status } = answer;
  let error = isFractalLBAError(answer) ? answer.code : undefined;
  if (!error && status !== 200) {
    try {
      readResponse(answer as RawResponse, nowMs);
    } catch (refused) {
      error = (refused as FractalLBAError).code;
    }
  }
  return { url, region, ok: status === 200, status, error };
}
