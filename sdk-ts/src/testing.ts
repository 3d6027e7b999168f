/**
 * Test programs that use this package: a fake clock, a seeded random, a scripted transport.
 *
 *     const clock = new FakeClock();
 *     const script = new ScriptedTransport([{ status: 503 }, { status: 404 }], clock);
 *     const client = new FractalLBAClient({ ...options, transport: script.send, clock });
 */

import type { Clock, Random } from './clock.js';
import type { HeaderFields, RawResponse, Request } from './http.js';
import { jcs } from './jcs.js';
import { cancelled, type Transport, transportError } from './transport.js';

/** Where a fake clock starts: 2026-01-01T00:00:00Z. */
export const START_MS = 1_767_225_600_000;

/** Tell a time that only moves when it is told to; waiting moves it at once. */
export class FakeClock implements Clock {
  /** Every wait, in order. */
  readonly waitsMs: number[] = [];
  #nowMs: number;

  constructor(nowMs = START_MS) {
    this.#nowMs = nowMs;
  }

  nowMs(): number {
    return this.#nowMs;
  }

  monotonicMs(): number {
    return this.#nowMs;
  }

  /** Let time pass. */
  advance(stepMs: number): void {
    if (!(stepMs >= 0)) throw new RangeError(`stepMs: expected >= 0, got ${stepMs}`);
    this.#nowMs += stepMs;
  }

  /** Let `waitMs` pass unless the signal has aborted; say whether it had. */
  async wait(waitMs: number, signal?: AbortSignal): Promise<boolean> {
    if (signal?.aborted) return true;
    this.waitsMs.push(waitMs);
    this.advance(waitMs);
    return false;
  }
}

const MASK = (1n << 64n) - 1n;

/** Draw the same numbers in [0, 1) for the same seed, in every language (SplitMix64). */
export function seededRandom(seed: number | bigint = 0): Random {
  let state = BigInt(seed) & MASK;
  return () => {
    state = (state + 0x9e3779b97f4a7c15n) & MASK;
    let z = ((state ^ (state >> 30n)) * 0xbf58476d1ce4e5b9n) & MASK;
    z = ((z ^ (z >> 27n)) * 0x94d049bb133111ebn) & MASK;
    return Number((z ^ (z >> 31n)) >> 11n) / 2 ** 53;
  };
}

/** Answer a request, after `delayMs` of the clock. */
export interface Reply {
  readonly status: number;
  readonly headers?: HeaderFields;
  readonly body?: Uint8Array;
  readonly delayMs?: number;
}

/** Fail a request with one of the codes that a transport may throw. */
export interface Fault {
  readonly code: Parameters<typeof transportError>[0];
  readonly delayMs?: number;
}

/** One step of a script; it may be a function of the request. */
export type Step = Reply | Fault | ((request: Request) => Reply | Fault);

/** Answer requests from a script, one step each. */
export class ScriptedTransport {
  /** What was sent, in order. */
  readonly requests: Request[] = [];
  readonly #script: Iterator<Step>;
  readonly #clock: FakeClock;

  constructor(script: Iterable<Step>, clock = new FakeClock()) {
    this.#script = script[Symbol.iterator]();
    this.#clock = clock;
  }

  /**
   * Play the next step: the option `transport` of a client.
   *
   * A delay past the bound of the attempt is an `attempt_timeout`. A script that has run out is an
   * error: the program sent more than the test expects.
   */
  readonly send: Transport = async (request, { attemptTimeoutMs, signal }) => {
    if (signal.aborted) throw cancelled();
    this.requests.push(request);
    const { done, value } = this.#script.next();
    if (done) throw new RangeError(`the script ended before request ${this.requests.length}`);
    const step = typeof value === 'function' ? value(request) : value;
    const { delayMs = 0 } = step;
    this.#clock.advance(Math.min(delayMs, attemptTimeoutMs));
    const what = `scripted for ${request.method} ${request.url}`;
    if (delayMs > attemptTimeoutMs) throw transportError('attempt_timeout', what);
    if ('code' in step) throw transportError(step.code, what);
    const { status, headers = [], body = new Uint8Array() } = step;
    return { status, headers, body } satisfies RawResponse;
  };
}

/** Write an outcome as a server stores it: accepted, unless `changes` say otherwise. */
export function outcomeBody(pcsId: string, changes: Readonly<Record<string, unknown>> = {}) {
  return jcs({
    accepted: true,
    escalated: false,
    first_seen: { region: 'fra', hlc: '019b76da35b10000' },
    pcs_id: pcsId,
    policy_version: '0123456789abcdef',
    recomputed_D_hat: 2,
    recomputed_budget: 0.35,
    ...changes,
  });
}
