/** The tools for tests are themselves tested: they are public API. */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { RawResponse, Request } from '../src/http.js';
import { readOutcome } from '../src/response.js';
import {
  FakeClock,
  outcomeBody,
  ScriptedTransport,
  START_MS,
  seededRandom,
} from '../src/testing.js';
import { fails } from './clientParts.js';

const REQUEST: Request = { method: 'GET', url: 'https://a.example/health', headers: [] };
const NEVER = new AbortController().signal;

function play(script: ScriptedTransport, signal = NEVER): Promise<RawResponse> {
  return script.send(REQUEST, { connectTimeoutMs: 1_000, attemptTimeoutMs: 2_000, signal });
}

test('a fake clock moves only when told', async () => {
  const clock = new FakeClock();
  assert.deepEqual([clock.nowMs(), clock.monotonicMs()], [START_MS, START_MS]);
  clock.advance(5);
  assert.equal(await clock.wait(7), false);
  assert.deepEqual([clock.nowMs() - START_MS, clock.waitsMs], [12, [7]]);
  assert.throws(() => clock.advance(-1), RangeError);
  assert.throws(() => clock.advance(Number.NaN), RangeError);
});

test('a cancelled wait takes no time', async () => {
  const clock = new FakeClock(0);
  assert.equal(await clock.wait(9, AbortSignal.abort()), true);
  assert.deepEqual([clock.nowMs(), clock.waitsMs], [0, []]);
});

test('seeded numbers are those of SplitMix64', () => {
  const draw = seededRandom(0);
  assert.deepEqual([draw(), draw()], [0.8833108082136426, 0.43152799704850997]);
  assert.equal(seededRandom(1)(), seededRandom(1n + 2n ** 64n)());
  assert.notEqual(seededRandom(1)(), seededRandom()());
  const many = Array.from({ length: 2_000 }, draw);
  assert.ok(many.every((u) => u >= 0 && u < 1));
  assert.ok(Math.abs(many.reduce((sum, u) => sum + u) / many.length - 0.5) < 0.03);
});

test('a script is played in order', async () => {
  const clock = new FakeClock(0);
  const headers = [['Retry-After', '1']] as const;
  const script = new ScriptedTransport(
    [
      { status: 503, headers, delayMs: 30 },
      ({ url }) => ({ status: 200, body: new TextEncoder().encode(url) }),
    ],
    clock,
  );
  assert.deepEqual(await play(script), { status: 503, headers, body: new Uint8Array() });
  assert.equal(new TextDecoder().decode((await play(script)).body), REQUEST.url);
  assert.deepEqual([script.requests, clock.nowMs()], [[REQUEST, REQUEST], 30]);
  await assert.rejects(play(script), { message: 'the script ended before request 3' });
});

test('faults are errors of the network, and take their time', async () => {
  const clock = new FakeClock(0);
  const late = { status: 200, delayMs: 2_001 };
  const script = new ScriptedTransport([{ code: 'connection_lost', delayMs: 9 }, late], clock);
  assert.equal((await fails(play(script))).name, 'ConnectionError');
  assert.equal(clock.nowMs(), 9);
  assert.equal((await fails(play(script))).code, 'attempt_timeout');
  assert.equal(clock.nowMs(), 2_009);
});

test('a cancelled request is not sent', async () => {
  const script = new ScriptedTransport([{ status: 200 }]);
  assert.equal((await fails(play(script, AbortSignal.abort()))).code, 'cancelled');
  assert.deepEqual(script.requests, []);
  assert.equal((await play(script)).status, 200);
});

test('an outcome body is an outcome', () => {
  const pcsId = 'a'.repeat(64);
  const response = { status: 200, headers: {}, body: outcomeBody(pcsId) };
  assert.equal(readOutcome(response, pcsId).accepted, true);
});
