/**
 * Deliver what the outbox holds: keep first, attempt, then settle. Pure, like `call.ts`.
 *
 * This file owns the order that loses nothing: a letter is durable before its first attempt, and
 * its entry ends only by a verdict about an answer to these very bytes.
 */

import { type BatchAnswer, MAX_BATCH_BYTES, MAX_BATCH_LINES } from './batch.js';
import type { Call, Frozen, State } from './call.js';
import { type FractalLBAError, isFractalLBAError } from './errors.js';
import type { Letter } from './outbox.js';
import type { Submitted } from './outcome.js';
import { type Due, judge, type Verdict } from './schedule.js';

/** Answers to a batch as a whole that say: this server takes no such batch, send singles. */
const UNSUPPORTED_BATCH = [400, 404, 405, 413, 415, 422];

/**
 * Keep a letter, attempt, settle.
 *
 * The error of a delivery that stopped says by `queued` whether the outbox goes on with it.
 */
export function* submitKept(letter: Letter, call: () => Call<Submitted>): Call<Submitted> {
  const id = yield* keep(letter, true);
  return yield* deliver(id, call());
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
export function* deliver(id: string, call: Call<Submitted>): Call<Submitted> {
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
  yield { do: 'settle', id, verdict: acknowledged(submitted) };
  return submitted;
}

/** Attempt entries of one tenant as a batch and settle each by its own answer. */
export function* deliverBatch(
  letters: readonly Letter[],
  batch: Call<readonly BatchAnswer[]>,
  state: State,
): Call<void> {
  let verdicts: Verdict[];
  try {
    const answers = yield* batch;
    if (answers.every(isUnreadable)) state.takesBatches = false;
    verdicts = answers.map((each) =>
      isFractalLBAError(each) ? verdictOf(each) : acknowledged(each),
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

function acknowledged({ raw }: Submitted): Verdict {
  return { what: 'acknowledge', status: raw.status };
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

/**
 * Deliver what is due, again and again.
 *
 * With a deadline, on the clock of `Turn.monotonicMs`, until then or until nothing is left that may
 * be sent; without one until the client is closed.
 */
export function* pump(
  deliveries: (letters: readonly Letter[]) => readonly Call<unknown>[],
  deadlineMs?: number,
): Call<void> {
  for (;;) {
    const turn = yield { do: 'take', limit: MAX_BATCH_LINES, bytesMax: MAX_BATCH_BYTES };
    if (isFractalLBAError(turn.answer)) throw turn.answer;
    const { letters, nextDueMs, inFlight } = turn.answer as Due;
    if (letters.length) {
      const ids = letters.map(({ id }) => id);
      const { monotonicMs } = yield { do: 'deliver', calls: deliveries(letters), ids };
      if (deadlineMs !== undefined && monotonicMs >= deadlineMs) return;
      continue;
    }
    let waitMs = nextDueMs === undefined ? nextDueMs : nextDueMs - turn.nowMs;
    // Due, but no room until something that is in flight settles.
    if (waitMs !== undefined && waitMs <= 0) waitMs = undefined;
    if (deadlineMs !== undefined) {
      const leftMs = deadlineMs - turn.monotonicMs;
      if (leftMs <= 0 || (nextDueMs === undefined && !inFlight)) return;
      waitMs = Math.min(waitMs ?? leftMs, leftMs);
    }
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
