/** The clock of the runtime: never shorter, ended by a signal. */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { MAX_TIMER_MS, systemClock } from '../src/clock.js';

const BOUND = { timeout: 30_000 };

test('it waits no shorter', async () => {
  for (const waitMs of [0, 1, 20.5]) {
    const before = performance.now();
    assert.equal(await systemClock.wait(waitMs), false);
    assert.ok(performance.now() - before >= waitMs);
  }
});

test('it tells two times', () => {
  assert.ok(Math.abs(systemClock.nowMs() - Date.now()) < 1_000);
  assert.ok(Number.isInteger(systemClock.monotonicMs()));
});

test('a signal ends a wait, also one that is longer than any timer', BOUND, async () => {
  assert.equal(await systemClock.wait(60_000, AbortSignal.abort()), true);
  const cancel = new AbortController();
  const wait = systemClock.wait(2 * MAX_TIMER_MS, cancel.signal);
  setTimeout(() => cancel.abort(), 10);
  assert.equal(await wait, true);
});
