/**
 * Deliver what the outbox holds: keep first, attempt, then settle. Pure, like `call.ts`.
 *
 * This file owns the order that loses nothing: a letter is durable before its first attempt, and
 * its entry ends only by a verdict about an answer to these very bytes.
 */

import { type BatchAnswer, MAX_BATCH_BYTES, MAX_BATCH_LINES } from './batch.js';
import type { Call, Frozen, State } from './call.js';
import { type FractalLBAError, isFractalLBAError } from './errors.js';
import { judgeRecorded } from './held.js';
import type { RawResponse, Request } from './http.js';
import type { Letter } from './outbox.js';
import type { Level, Submitted } from './outcome.js';
import { readRegionStatus } from './regionStatus.js';
import { watermarkOf } from './response.js';
import { type Due, judge, type Verdict } from './schedule.js';

/** Answers to a batch as a whole that say: this server takes no such batch, send singles. */
const UNSUPPORTED_BATCH = [400, 404, 405, 413, 415, 422];

/** While something is held, a region is asked so often how far it is replicated. */
const ASK_MS = 5_000;

/** How long an endpoint has to say how far it is replicated. */
const ASK_TIMEOUT_MS = 2_000;

/**
 * Keep a letter, attempt, settle at the level of the client.
 *
 * The error of a delivery that stopped says by `queued` whether the outbox goes on with it.
 */
export function* submitKept(
  letter: Letter,
  call: () => Call<Submitted>,
  level: Level,
): Call<Submitted> {
  const id = yield* keep(letter, true);
  return yield* deliver(id, call(), level);
}

/** Keep a letter and leave it to the courier; give the id of its entry. */
export function enqueue(letter: Letter): Call<string> {
  return keep(letter, false);
}

function* keep(letter: Letter, inFlight: boolean): Call<string> {
  const { answer } = yield { do: 'keep', letter, inFlight };
  if (isFractalLBAError(answer)) throw answer;
  return (answer as Letter).id;
}

/** Attempt one entry in flight and settle it. */
export function* deliver(id: string, call: Call<Submitted>, level: Level): Call<Submitted> {
  let submitted: Submitted;
  try {
    submitted = yield* call;
  } catch (error) {
    if (!isFractalLBAError(error)) throw error;
    const verdict = verdictOf(error);
    error.queued = verdict.what === 'later' || verdict.what === 'pause';
    yield { do: 'settle', id, verdict };
    throw error;
  }
  yield { do: 'settle', id, verdict: judgeRecorded(submitted, level) };
  return submitted;
}

/** Attempt entries of one tenant as a batch and settle each by its own answer. */
export function* deliverBatch(
  letters: readonly Letter[],
  batch: Call<readonly BatchAnswer[]>,
  state: State,
  level: Level,
): Call<void> {
  let verdicts: Verdict[];
  try {
    const answers = yield* batch;
    if (answers.every(isUnreadable)) state.takesBatches = false;
    verdicts = answers.map((each) =>
      isFractalLBAError(each) ? verdictOf(each) : judgeRecorded(each, level),
    );
  } catch (error) {
    if (!isFractalLBAError(error)) throw error;
    let verdict = verdictOf(error);
    if (UNSUPPORTED_BATCH.includes(error.status ?? 0) && !isUnreadable(error)) {
      state.takesBatches = false;
      verdict = { what: 'later', endpointDown: false };
    }
    verdicts = letters.map(() => verdict);
  }
  for (const [index, verdict] of verdicts.entries()) {
    yield { do: 'settle', id: (letters[index] as Letter).id, verdict };
  }
}

/** Say whether an answer could not be read: that says nothing about a record. */
function isUnreadable(answer: BatchAnswer): boolean {
  return isFractalLBAError(answer) && /^response_(malformed|too_large)$/.test(answer.code);
}

/** Decide what an error means for the entry. */
export function verdictOf(error: FractalLBAError): Verdict {
  const { code, message, body, retryAfterMs } = error;
  const status = isUnreadable(error) ? undefined : error.status;
  return judge(status, code, message.slice(`${code}: `.length), body, retryAfterMs);
}

/** Give a kept letter the shape of a record that somebody signed. */
export function signedOf({ body, pcsId, key }: Letter): Frozen {
  return { body, pcsId, content: key };
}

/** Ask an endpoint once how far its region is replicated; what cannot be read says nothing. */
export function* ask(request: Request, timeoutMs: number): Call<void> {
  const bounds = { connectTimeoutMs: timeoutMs, attemptTimeoutMs: timeoutMs };
  const { answer } = yield { do: 'send', request, ...bounds };
  if (isFractalLBAError(answer)) return;
  const { status, headers, body } = answer as RawResponse;
  // First: it knows which entries stand in a region_epoch that the header only names.
  for (const news of [status === 200 && readRegionStatus(body), watermarkOf(headers)]) {
    if (news) yield { do: 'hear', news };
  }
}

/**
 * Deliver what is due, again and again; ask how far regions are replicated, where that helps.
 *
 * With a deadline, on the clock of `Turn.monotonicMs`, until then or until nothing is left that may
 * be sent or, if it can ask, that is held; without one until the client is closed.
 */
export function* pump(
  deliveries: (letters: readonly Letter[]) => readonly Call<unknown>[],
  canAsk: boolean,
  deadlineMs?: number,
): Call<void> {
  let askAtMs: number | undefined;
  for (;;) {
    const turn = yield { do: 'take', limit: MAX_BATCH_LINES, bytesMax: MAX_BATCH_BYTES };
    if (isFractalLBAError(turn.answer)) throw turn.answer;
    const { letters, nextDueMs, inFlight, held } = turn.answer as Due;
    const ids = letters.map(({ id }) => id);
    const { monotonicMs: nowMs } = turn;
    const isLate = deadlineMs !== undefined && nowMs >= deadlineMs;
    if (!held || !canAsk) askAtMs = undefined;
    else askAtMs ??= deadlineMs === undefined ? nowMs + ASK_MS : nowMs;
    const asks = askAtMs !== undefined && nowMs >= askAtMs && !isLate;
    if (asks) {
      askAtMs = nowMs + ASK_MS;
      const leftMs = (deadlineMs ?? Number.POSITIVE_INFINITY) - nowMs;
      yield { do: 'ask', ids, timeoutMs: Math.min(leftMs, ASK_TIMEOUT_MS) };
    }
    if (letters.length) {
      const { monotonicMs } = yield { do: 'deliver', calls: deliveries(letters), ids };
      if (deadlineMs !== undefined && monotonicMs >= deadlineMs) return;
    }
    if (asks || letters.length) continue;
    const isDone = nextDueMs === undefined && !inFlight && askAtMs === undefined;
    if (deadlineMs !== undefined && (isLate || isDone)) return;
    // An entry that is due has no room until something that is in flight settles.
    const ends = [nextDueMs && nextDueMs - turn.nowMs, askAtMs && askAtMs - nowMs];
    const waits = [...ends, deadlineMs && deadlineMs - nowMs].filter((ms = 0) => ms > 0);
    const waitMs = waits.length ? Math.min(...(waits as number[])) : undefined;
    const { answer } = yield { do: 'doze', waitMs };
    if (isFractalLBAError(answer)) return;
  }
}

/** Group letters by tenant, in their order: a batch holds the lines of one. */
export function byTenant(letters: readonly Letter[]): Letter[][] {
  const groups = new Map<string | undefined, Letter[]>();
  for (const letter of letters) {
    const group = groups.get(letter.tenant) ?? [];
    groups.set(letter.tenant, group);
    group.push(letter);
  }
  return [...groups.values()];
}
