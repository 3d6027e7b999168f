/** The core of a call: what each result leads to, how long it waits, where it goes. */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { stateName } from '../src/endpoints.js';
import type { RawResponse } from '../src/http.js';
import { retryPolicy } from '../src/retry.js';
import { A, B, C, lost, no, ok, Play, SIGNED, START_MS, stateOf, submit } from './play.js';

// --- one attempt -------------------------------------------------------------------------------

for (const status of [200, 202]) {
  test(`a submit recorded with ${status} is a result`, () => {
    const play = new Play([ok(status, { 'Idempotency-Replayed': 'true', 'X-Request-Id': 'r1' })]);
    const submitted = play.run(submit());
    assert.equal(submitted.outcome.accepted, status === 200);
    assert.deepEqual(
      [submitted.replayed, submitted.raw.status, submitted.raw.attempts],
      [true, status, 1],
    );
    assert.deepEqual(play.waitsMs, []);
  });
}

// What each status means for a call: the code, the reason of the stop, the number of attempts.
const STATUSES: readonly (readonly [number, string, string, number])[] = [
  [400, 'bad_request', 'not_retryable', 1],
  [401, 'unauthorized', 'not_retryable', 1],
  [403, 'forbidden', 'not_retryable', 1],
  [404, 'not_found', 'not_retryable', 1],
  [405, 'method_not_allowed', 'not_retryable', 1],
  [408, 'request_timeout', 'attempts_exhausted', 3],
  [409, 'pcs_id_conflict', 'not_retryable', 1],
  [413, 'payload_too_large', 'not_retryable', 1],
  [415, 'unsupported_media_type', 'not_retryable', 1],
  [421, 'wrong_region', 'not_retryable', 1],
  [422, 'unprocessable', 'not_retryable', 1],
  [423, 'frozen', 'not_retryable', 1],
  [425, 'too_early', 'attempts_exhausted', 3],
  [429, 'rate_limited', 'attempts_exhausted', 3],
  [431, 'header_too_large', 'not_retryable', 1],
  [500, 'internal', 'attempts_exhausted', 3],
  [502, 'bad_gateway', 'attempts_exhausted', 3],
  [503, 'unavailable', 'attempts_exhausted', 3],
  [504, 'gateway_timeout', 'attempts_exhausted', 3],
  [302, 'response_malformed', 'not_retryable', 1],
  [204, 'response_malformed', 'not_retryable', 1],
];

for (const [status, code, stop, attempts] of STATUSES) {
  test(`status ${status} ends as the table says`, () => {
    const play = new Play([no(status), no(status), no(status)]);
    const error = play.error(submit());
    assert.deepEqual(
      [error.code, error.stop, error.attempts, error.status],
      [code, stop, attempts, status],
    );
    assert.equal(play.of('send').length, attempts);
    assert.deepEqual(
      play.told('stop').map((event) => event.error),
      [error],
    );
  });
}

for (const [code, attempts] of [
  ['connect_failed', 3],
  ['connection_lost', 3],
  ['attempt_timeout', 3],
  ['tls_failed', 1],
  ['response_too_large', 1],
] as const) {
  test(`${code} ends as the table says`, () => {
    const error = new Play([lost(code), lost(code), lost(code)]).error(submit());
    assert.deepEqual([error.code, error.attempts], [code, attempts]);
  });
}

test('an unreadable success is not sent again', () => {
  const error = new Play([{ ...ok(), body: Uint8Array.of(123) }]).error(submit());
  assert.deepEqual(
    [error.code, error.stop, error.status],
    ['response_malformed', 'not_retryable', 200],
  );
});

test('limits on the response are those of the client', () => {
  const small = submit(stateOf(), 60_000, { maxResponseBytes: 10 });
  assert.equal(new Play([ok()]).error(small).code, 'response_too_large');
  const few = submit(stateOf(), 60_000, { maxResponseHeaders: 1 });
  assert.equal(new Play([ok(200, { a: '1', b: '2' })]).error(few).code, 'response_too_large');
});

// --- retries -----------------------------------------------------------------------------------

test('every attempt sends the same bytes under the same key', () => {
  const play = new Play([no(500), lost('connection_lost'), ok()]);
  assert.equal(play.run(submit()).raw.attempts, 3);
  const requests = play.of('send').map(({ request }) => request);
  assert.deepEqual(new Set(requests.map(({ body }) => body)), new Set([SIGNED.body]));
  const headers = requests.map((request) => Object.fromEntries(request.headers));
  assert.deepEqual(
    new Set(headers.map((each) => each['Idempotency-Key'])),
    new Set([SIGNED.content]),
  );
  assert.deepEqual(
    headers.map((each) => each['X-Retry-Attempt']),
    [undefined, '1', '2'],
  );
});

test('waits have full jitter and double', () => {
  const play = new Play([no(500), no(500), ok()]);
  play.run(submit());
  assert.deepEqual(play.waitsMs, [250, 500]);
  assert.deepEqual(
    play.told('retry').map(({ attempt, waitMs }) => [attempt, waitMs]),
    [
      [1, 250],
      [2, 500],
    ],
  );
});

test('Retry-After is a floor', () => {
  const play = new Play([no(429, { 'Retry-After': '7' }), ok()]);
  play.run(submit());
  assert.deepEqual(play.waitsMs, [7_250]);
});

test('a wait that does not fit is not begun', () => {
  const play = new Play([no(503, { 'Retry-After': '7' })]);
  const error = play.error(submit(stateOf(), 7_000));
  assert.deepEqual(
    [error.code, error.stop, error.retryAfterMs],
    ['unavailable', 'deadline_exceeded', 7_000],
  );
  assert.deepEqual(play.waitsMs, []);
});

test('an attempt gets no more time than the call has left', () => {
  const play = new Play([no(500), no(500), ok()], { attemptMs: 900, u: 0 });
  play.run(submit(stateOf(), 2_000));
  assert.deepEqual(
    play.of('send').map((each) => [each.connectTimeoutMs, each.attemptTimeoutMs]),
    [
      [2_000, 2_000],
      [1_100, 1_100],
      [200, 200],
    ],
  );
});

test('a sleep that ran late ends the call with the last error', () => {
  const error = new Play([no(500)], { oversleepMs: 100_000 }).error(submit());
  assert.deepEqual([error.code, error.stop, error.attempts], ['internal', 'deadline_exceeded', 1]);
});

test('a call that waited too long for its place sends nothing', () => {
  const play = new Play([]);
  play.monotonicMs = START_MS + 60_000;
  const error = play.error(submit());
  assert.deepEqual(
    [error.code, error.stop, error.attempts],
    ['deadline_exceeded', 'deadline_exceeded', 0],
  );
});

for (const code of ['cancelled', 'deadline_exceeded']) {
  test(`a call without a place ends with ${code}`, () => {
    const error = new Play([], { enter: lost(code) }).error(submit());
    assert.deepEqual([error.code, error.stop, error.attempts], [code, code, 0]);
  });
}

test('a cancel during an attempt ends the call and says nothing about the endpoint', () => {
  const state = stateOf();
  const error = new Play([lost('cancelled')]).error(submit(state));
  assert.deepEqual([error.name, error.stop, error.attempts], ['CancelledError', 'cancelled', 1]);
  assert.deepEqual(state.fleet.states.map(stateName), ['up']);
});

test('a cancel during a wait ends the call', () => {
  const error = new Play([no(500)], { isCancelledInSleep: true }).error(submit());
  assert.deepEqual([error.code, error.stop, error.attempts], ['cancelled', 'cancelled', 1]);
});

test('the quota is shared by the calls of a client', () => {
  const state = stateOf([A], { downAfter: 10_000 });
  state.quota = 14;
  const error = new Play([no(500), no(500)]).error(submit(state));
  assert.deepEqual([error.stop, error.attempts, state.quota], ['quota_exhausted', 2, 0]);
  new Play([ok()]).run(submit(state));
  assert.equal(state.quota, 1);
});

test('what a retry took is given back when it succeeds', () => {
  const state = stateOf();
  new Play([no(500), no(429), ok()]).run(submit(state));
  assert.equal(state.quota, 500 - 14 - 5 + 5);
});

test('one attempt means one', () => {
  const once = submit(stateOf(), 60_000, { retry: retryPolicy('none') });
  assert.equal(new Play([no(503)]).error(once).stop, 'attempts_exhausted');
});

// --- endpoints ---------------------------------------------------------------------------------

for (const [name, first] of [
  ['503', no(503)],
  ['connect_failed', lost('connect_failed')],
] as const) {
  test(`${name} fails over at once, and success is sticky`, () => {
    const state = stateOf([A, B]);
    const play = new Play([first, ok()]);
    play.run(submit(state));
    assert.deepEqual(play.urls, [A, B]);
    assert.deepEqual(play.told('failover'), [{ type: 'failover', fromUrl: A, toUrl: B }]);
    const again = new Play([ok()]);
    again.run(submit(state));
    assert.deepEqual(again.urls, [B]);
  });
}

test('Retry-After does not bind another endpoint', () => {
  const play = new Play([no(503, { 'Retry-After': '90' }), ok()]);
  play.run(submit(stateOf([A, B])));
  assert.deepEqual([play.urls, play.waitsMs], [[A, B], [250]]);
});

for (const [name, fault] of [
  ['connection_lost', lost('connection_lost')],
  ['attempt_timeout', lost('attempt_timeout')],
  ['500', no(500)],
] as const) {
  test(`after ${name} the same endpoint is asked until it is down`, () => {
    const play = new Play([fault, fault, fault, ok()]);
    const bounds = { retry: retryPolicy({ maxAttempts: 4 }) };
    play.run(submit(stateOf([A, B]), 60_000, bounds));
    assert.deepEqual(play.urls, [A, A, A, B]);
  });
}

test('an ambiguous call stays although another call has moved on', () => {
  const state = stateOf([A, B]);
  const othersMove = (): RawResponse => {
    new Play([no(503), ok()]).run(submit(state));
    return no(500);
  };
  const play = new Play([othersMove, ok()]);
  play.run(submit(state));
  assert.equal(state.fleet.current, 1);
  assert.deepEqual(play.urls, [A, A]);
});

test('a quota is the tenant’s everywhere: 429 keeps the endpoint', () => {
  const play = new Play([no(429), ok()]);
  play.run(submit(stateOf([A, B])));
  assert.deepEqual(play.urls, [A, A]);
});

test('an endpoint outside the regions is never used', () => {
  const endpoints = [
    { url: A, region: 'eu' },
    { url: B, region: 'us' },
  ];
  const play = new Play([no(503), no(503), no(503)]);
  play.error(submit(stateOf(endpoints, { allowedRegions: ['eu'] })));
  assert.deepEqual(play.urls, [A, A, A]);
});

function hint(endpoint: string, regionEpoch = 1, shouldRetry = 'true'): RawResponse {
  const leader_hint = { endpoint, region_epoch: regionEpoch };
  return no(421, { 'X-Should-Retry': shouldRetry }, { code: 'not_leader', leader_hint });
}

test('a hint leads to a configured endpoint only', () => {
  const play = new Play([hint(B), ok()]);
  play.run(submit(stateOf([A, B])));
  assert.deepEqual(play.urls, [A, B]);
  const stranger = new Play([hint(C), ok()]);
  stranger.run(submit(stateOf([A, B])));
  assert.deepEqual(stranger.urls, [A, A]);
});

test('a hint without leave to retry ends the call', () => {
  const error = new Play([hint(B, 1, 'false')]).error(submit(stateOf([A, B])));
  assert.deepEqual([error.code, error.stop], ['not_leader', 'server_refused']);
});

test('hints are followed a bounded number of times in a call', () => {
  const play = new Play([hint(B), hint(A), hint(B), hint(A), ok()]);
  play.run(submit(stateOf([A, B]), 60_000, { retry: retryPolicy({ maxAttempts: 9 }) }));
  assert.deepEqual(play.urls, [A, B, A, B, B]);
});

test('a stale hint is ignored', () => {
  const play = new Play([hint(B, 5), hint(A, 4), ok()]);
  play.run(submit(stateOf([A, B])));
  assert.deepEqual(play.urls, [A, B, B]);
});
