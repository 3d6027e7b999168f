/** The core of a call: probes, health, reads, and what is told. */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  type Answer,
  exchange,
  getSpec,
  probeEnded,
  readHealth,
  type State,
  type Turn,
} from '../src/call.js';
import { stateName } from '../src/endpoints.js';
import type { FractalLBAError } from '../src/errors.js';
import type { RawResponse } from '../src/http.js';
import { Secret } from '../src/secret.js';
import {
  A,
  B,
  BOUNDS,
  lost,
  NOW_MS,
  no,
  ok,
  Play,
  SIGNED,
  START_MS,
  stateOf,
  submit,
} from './play.js';

// --- probes ------------------------------------------------------------------------------------

function downed(): { state: State; nowMs: number } {
  const state = stateOf([A, B], { downAfter: 1, upAfter: 1 });
  const play = new Play([no(503), ok()]);
  play.run(submit(state));
  return { state, nowMs: play.nowMs + 15_000 };
}

function turn(nowMs: number, answer: Answer): Turn {
  return { nowMs, monotonicMs: 0, u: 0.5, answer };
}

test('an endpoint that is down is probed once at a time, beside a call', () => {
  const { state, nowMs } = downed();
  for (const expected of [[A], []]) {
    const play = new Play([ok()]);
    play.nowMs = nowMs;
    play.run(submit(state));
    const probed = play.of('probe').map(({ request }) => request.url.replace('/health', ''));
    assert.deepEqual(probed, expected);
  }
});

test('a good probe makes an endpoint up, a bad one does not, a cancelled one says nothing', () => {
  const { state, nowMs } = downed();
  const { fleet } = state;
  probeEnded(state, 0, turn(nowMs, lost('cancelled')));
  assert.equal(state.fleet, fleet);
  for (const bad of [lost('connect_failed'), no(503), no(302)]) {
    probeEnded(state, 0, turn(nowMs, bad));
    assert.deepEqual(state.fleet.states.map(stateName), ['down', 'up']);
  }
  probeEnded(state, 0, turn(nowMs, no(200)));
  assert.deepEqual(state.fleet.states.map(stateName), ['up', 'up']);
});

test('health is read without throwing', () => {
  const endpoint = { url: A, region: 'eu' };
  const health = (answer: RawResponse | FractalLBAError) => {
    const { ok: isOk, status, error } = readHealth(endpoint, answer, NOW_MS);
    return [isOk, status, error];
  };
  assert.deepEqual(health(no(200)), [true, 200, undefined]);
  assert.deepEqual(health(no(503, {}, { code: 'not_primary' })), [false, 503, 'not_primary']);
  assert.deepEqual(health(no(307)), [false, 307, 'response_malformed']);
  assert.deepEqual(health(no(204)), [false, 204, undefined]);
  assert.deepEqual(health(lost('connect_failed')), [false, undefined, 'connect_failed']);
});

// --- get ---------------------------------------------------------------------------------------

test('a get reads an outcome with the token, and refuses what is no id', () => {
  const token = new Secret('t0ken');
  const spec = getSpec(SIGNED.pcsId, { agent: 'agent', token });
  const play = new Play([ok()]);
  const outcome = play.run(exchange(spec, stateOf(), BOUNDS, START_MS + 60_000, 'agent'));
  assert.equal(outcome.pcsId, SIGNED.pcsId);
  const [sent] = play.of('send');
  assert.equal(new Map(sent?.request.headers).get('Authorization'), 'Bearer t0ken');
  assert.throws(() => getSpec('no id', {}), { code: 'hex_invalid' });
});

test('an attempt event holds what may be logged, and no more', () => {
  const play = new Play([ok(200, { 'Set-Cookie': 's3cret', 'X-Request-Id': 'r9' })]);
  play.run(submit());
  const [event] = play.told('attempt');
  assert.deepEqual(
    {
      ...event,
      requestHeaders: { ...event?.requestHeaders },
      responseHeaders: { ...event?.responseHeaders },
    },
    {
      type: 'attempt',
      call: 'submit',
      method: 'POST',
      url: `${A}/v1/pcs/submit`,
      attempt: 1,
      elapsedMs: 0,
      status: 200,
      code: undefined,
      requestId: 'r9',
      requestHeaders: { 'content-type': 'application/json', 'idempotency-key': SIGNED.content },
      responseHeaders: { 'x-request-id': 'r9' },
    },
  );
});

test('what is no error of the package passes through a call', () => {
  const foreign = new RangeError('a bug of the caller');
  const read = (): never => {
    throw foreign;
  };
  const spec = { ...getSpec(SIGNED.pcsId, {}), read };
  const call = exchange(spec, stateOf(), BOUNDS, START_MS + 60_000);
  assert.throws(() => new Play([ok()]).run(call), foreign);
});
