/** What follows an attempt, where vectors do not reach. */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { errorFor } from '../src/codes.js';
import {
  checkInteger,
  parseRetryAfter,
  plan,
  QUOTA_FULL,
  type Result,
  resultOf,
  retryPolicy,
} from '../src/retry.js';
import { below, chance, oneOf } from './chance.js';

const POLICY = retryPolicy();
const BUSY: Result = { status: 503 };
const NOW_MS = 1_770_000_000_000;

test('a policy is complete, and refuses what no policy has', () => {
  assert.deepEqual(POLICY, retryPolicy('default'));
  assert.equal(retryPolicy('none').maxAttempts, 1);
  const undefinedOption = { maxAttempts: undefined } as unknown as { maxAttempts: number };
  assert.deepEqual(retryPolicy(undefinedOption), POLICY);
  assert.equal(retryPolicy({ waitBaseMs: 0 }).waitBaseMs, 0);
  for (const bad of [
    { maxAttempts: 0 },
    { waitMaxMs: -1 },
    { waitBaseMs: 1.5 },
    { retryAfterMaxMs: Number.NaN },
  ]) {
    assert.throws(() => retryPolicy(bad), { code: 'config_invalid', name: 'ConfigError' });
  }
  assert.throws(() => checkInteger('x', 11, 0, 10), { code: 'config_invalid' });
  checkInteger('x', 10, 0, 10);
});

test('a wait is never shorter than the server asked, and never longer than it may be', () => {
  const random = chance(7);
  for (let count = 0; count < 20_000; count++) {
    const attempt = 1 + below(random, 12);
    const retryAfterMs = random() < 0.5 ? below(random, 60_001) : undefined;
    const policy = { ...POLICY, maxAttempts: 20 };
    const status = oneOf(random, [408, 425, 429, 500, 502, 503, 504]);
    const left = below(random, 120_000);
    const quota = below(random, QUOTA_FULL + 1);
    const next = plan(
      policy,
      { status, retryAfterMs },
      attempt,
      random(),
      NOW_MS,
      NOW_MS + left,
      quota,
      false,
    );
    if (next.stop) {
      assert(next.stop === 'deadline_exceeded' || next.stop === 'quota_exhausted');
      assert.equal(next.quota, quota);
      continue;
    }
    const floor = retryAfterMs ?? 0;
    assert(next.waitMs >= floor && next.waitMs < floor + Math.min(500 * 2 ** (attempt - 1), 8000));
    assert(next.waitMs < left && Number.isSafeInteger(next.waitMs));
    assert(next.quota >= 0 && next.quota === quota - next.cost);
  }
});

test('a success gives back what its retry took, and no more than full', () => {
  const ok = { status: 202 };
  assert.deepEqual(plan(POLICY, ok, 1, 0, 0, 1, 100, false), { stop: 'success', quota: 101 });
  assert.deepEqual(plan(POLICY, ok, 2, 0, 0, 1, 100, false, 14), { stop: 'success', quota: 114 });
  assert.deepEqual(plan(POLICY, ok, 3, 0, 0, 1, 499, false, 14), { stop: 'success', quota: 500 });
});

test('a wait without end is bounded', () => {
  const patient = { ...POLICY, maxAttempts: 10_000, waitBaseMs: 0 };
  const next = plan(patient, BUSY, 9000, 0.99, 0, 1_000_000, 500, false);
  assert.equal(next.stop === undefined && next.waitMs, 0);
  const other = plan({ ...patient, waitBaseMs: 1 }, BUSY, 9000, 0.5, 0, 1_000_000, 500, false);
  assert.equal(other.stop === undefined && other.waitMs, 4000);
});

test('what decides is taken from the error', () => {
  const answered = errorFor('frozen', 'x', {
    status: 423,
    retryAfterMs: 5,
    headers: { 'x-should-retry': 'true' },
  });
  assert.deepEqual(resultOf(answered), {
    status: 423,
    code: undefined,
    retryAfterMs: 5,
    shouldRetry: true,
    sent: true,
  });
  const unread = errorFor('response_malformed', 'x', { status: 200 });
  assert.equal(resultOf(unread).code, 'response_malformed');
  assert.equal(plan(POLICY, resultOf(unread), 1, 0, 0, 1, 500, false).stop, 'not_retryable');
  const lost = resultOf(errorFor('connection_lost', 'x'), false);
  assert.deepEqual([lost.code, lost.sent], ['connection_lost', false]);
});

test('a date is read in its three forms and in no other', () => {
  const at = (value: string, nowMs = NOW_MS) => parseRetryAfter([value], undefined, nowMs);
  for (const date of [
    'Mon, 02 Feb 2026 02:40:07 GMT',
    'Monday, 02-Feb-26 02:40:07 GMT',
    'Mon Feb  2 02:40:07 2026',
  ]) {
    assert.equal(at(date), 7000, date);
    assert.equal(at(`\t ${date} `), 7000, date);
  }
  // biome-ignore format: a table
  const unreadable = [
    'Mon,  2 Feb 2026 02:40:07 GMT', 'Mon, 2 Feb 2026 02:40:07 GMT',
    'Mon, 30 Feb 2026 00:00:00 GMT', 'Mon, 02 Feb 2026 24:00:00 GMT',
    'Mon, 02 Feb 2026 23:60:00 GMT', 'Mon, 02 Feb 2026 23:59:60 GMT',
    'mon, 02 Feb 2026 02:40:07 GMT', 'Mon, 02 feb 2026 02:40:07 GMT',
    'Mon, 02 Foo 2026 02:40:07 GMT', 'Mon, 02 Feb 2026 02:40:07 UTC',
    'Monday, 02 Feb 2026 02:40:07 GMT', 'Mon, 02-Feb-26 02:40:07 GMT', 'Mon Feb 02 02:40:07 26',
    'Mon, 02 Feb 0000 02:40:07 GMT', '2026-02-02T02:40:07Z', '5.', '.5', '+5', '1e3', '5, 6', '',
  ];
  for (const value of unreadable) assert.equal(at(value), undefined, value);
});

test('a short year is at most 50 years ahead', () => {
  const at = (year: number) => Date.UTC(year, 5, 1);
  const yearOf = (short: string, now: number): number => {
    const waitMs =
      parseRetryAfter([`Monday, 01-Jun-${short} 00:00:00 GMT`], undefined, at(now)) ?? -1;
    return new Date(at(now) + waitMs).getUTCFullYear();
  };
  assert.equal(yearOf('76', 2026), 2076);
  assert.equal(yearOf('77', 2026), 2026);
  assert.equal(yearOf('27', 2026), 2027);
  assert.equal(yearOf('00', 1999), 1999);
});

test('a delay is rounded up, and the largest counts', () => {
  const waits: readonly (readonly [readonly string[], number | undefined])[] = [
    [['1.0001'], 1001],
    [['1.0010000'], 1001],
    [['0.5'], 500],
    [['007'], 7000],
    [['-3.2'], 0],
    [['3', '9', 'soon', '4'], 9000],
    [['soon'], undefined],
    [[], undefined],
    [['9'.repeat(400)], Number.MAX_SAFE_INTEGER],
    [['Mon, 02 Feb 2026 02:39:50 GMT'], 0],
  ];
  for (const [values, expected] of waits) {
    assert.equal(parseRetryAfter(values, undefined, NOW_MS), expected, `${values}`);
  }
});
