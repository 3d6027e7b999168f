/** Step a call by hand: no socket, no clock. */

import assert from 'node:assert/strict';
import {
  type Answer,
  type Bounds,
  type Call,
  type Effect,
  exchange,
  type State,
  submitSpec,
  type Turn,
} from '../src/call.js';
import { errorFor } from '../src/codes.js';
import { type Endpoint, type FailoverPolicy, fleetOf } from '../src/endpoints.js';
import { type FractalLBAError, isFractalLBAError } from '../src/errors.js';
import type { ClientEvent } from '../src/hooks.js';
import type { RawResponse } from '../src/http.js';
import { jcs } from '../src/jcs.js';
import type { Submitted } from '../src/outcome.js';
import { QUOTA_FULL, retryPolicy } from '../src/retry.js';
import { sign } from '../src/sign.js';
import { outcomeBody } from '../src/testing.js';
import { record, SIGNER } from './clientParts.js';

export const NOW_MS = 1_767_225_600_000;
export const START_MS = 1_000;
export const SIGNED = await sign(record(), SIGNER, { tenant: 'acme' });
export const [A, B, C] = ['https://a.example', 'https://b.example', 'https://c.example'] as const;

type Scripted = RawResponse | FractalLBAError | ((play: Play) => RawResponse | FractalLBAError);

export function ok(status = 200, headers: Record<string, string> = {}): RawResponse {
  const verdict =
    status === 200 ? {} : { accepted: false, escalated: true, reason: 'n_j_implausible' };
  return { status, headers: Object.entries(headers), body: outcomeBody(SIGNED.pcsId, verdict) };
}

export function no(status: number, headers: Record<string, string> = {}, body = {}): RawResponse {
  return { status, headers: Object.entries(headers), body: jcs({ status, ...body }) };
}

export const lost = (code: string): FractalLBAError => errorFor(code, 'scripted');

/** Step a call: answers to `send` come from the script, time passes only in waits. */
export class Play {
  readonly effects: Effect[] = [];
  nowMs = NOW_MS;
  monotonicMs = START_MS;
  readonly #script: Iterator<Scripted>;

  constructor(
    script: readonly Scripted[],
    readonly how: {
      readonly u?: number;
      readonly enter?: FractalLBAError;
      readonly isCancelledInSleep?: boolean;
      readonly attemptMs?: number;
      readonly oversleepMs?: number;
    } = {},
  ) {
    this.#script = script[Symbol.iterator]();
  }

  run<T>(call: Call<T>): T {
    let step = call.next(undefined as never);
    while (!step.done) {
      this.effects.push(step.value);
      const answer = this.#answer(step.value);
      const { nowMs, monotonicMs } = this;
      step = call.next({ nowMs, monotonicMs, u: this.how.u ?? 0.5, answer } satisfies Turn);
    }
    return step.value;
  }

  error(call: Call<unknown>): FractalLBAError {
    try {
      this.run(call);
    } catch (error) {
      assert.ok(isFractalLBAError(error), `${error}`);
      return error;
    }
    throw new assert.AssertionError({ message: 'expected an error' });
  }

  #answer(effect: Effect): Answer {
    const pass = (stepMs: number): void => {
      this.nowMs += stepMs;
      this.monotonicMs += stepMs;
    };
    if (effect.do === 'send') {
      pass(this.how.attemptMs ?? 0);
      const { value, done } = this.#script.next();
      assert.ok(!done, 'the script ended');
      return typeof value === 'function' ? value(this) : value;
    }
    if (effect.do === 'sleep') {
      pass(effect.waitMs + (this.how.oversleepMs ?? 0));
      return this.how.isCancelledInSleep ? lost('cancelled') : undefined;
    }
    return effect.do === 'enter' ? this.how.enter : undefined;
  }

  of<K extends Effect['do']>(kind: K): Extract<Effect, { do: K }>[] {
    return this.effects.filter((each) => each.do === kind) as Extract<Effect, { do: K }>[];
  }

  told<K extends ClientEvent['type']>(type: K): Extract<ClientEvent, { type: K }>[] {
    const events = this.of('tell').map(({ event }) => event);
    return events.filter((each) => each.type === type) as Extract<ClientEvent, { type: K }>[];
  }

  get waitsMs(): number[] {
    return this.of('sleep').map(({ waitMs }) => waitMs);
  }

  get urls(): string[] {
    return this.of('send').map(({ request }) => request.url.replace('/v1/pcs/submit', ''));
  }
}

export function stateOf(
  endpoints: readonly (string | Endpoint)[] = [A],
  policy: Partial<FailoverPolicy> = {},
): State {
  const fleet = fleetOf(endpoints, policy);
  return { fleet, quota: QUOTA_FULL, probing: new Set(), takesBatches: true };
}

export const BOUNDS: Bounds = {
  retry: retryPolicy(),
  connectTimeoutMs: 5_000,
  attemptTimeoutMs: 10_000,
  maxResponseBytes: 1_048_576,
  maxResponseHeaders: 100,
};

export function submit(
  state = stateOf(),
  totalMs = 60_000,
  bounds: Partial<Bounds> = {},
): Call<Submitted> {
  const spec = submitSpec(SIGNED, { agent: 'agent', tenant: 'acme' });
  return exchange(spec, state, { ...BOUNDS, ...bounds }, START_MS + totalMs, 'agent');
}
