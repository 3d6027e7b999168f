/** When an outbox entry is due again, and what an answer means for it, beside the vectors. */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { deadFrame, type Entry, encodeFrame, readDeadLetter, readFrame } from '../src/outbox.js';
import { judge, type Later, Schedule } from '../src/schedule.js';
import { below, chance } from './chance.js';
import { bytesOf, idNo, letterNo } from './outboxParts.js';

const MAX_DEAD_RESPONSE_BYTES = 65_536;
const EVERYTHING = 10 ** 9;
const DOWN: Later = { what: 'later', endpointDown: true };

function entryNo(number: number): Entry {
  const place = { file: 'file', offset: 0, length: 100 };
  return { id: idNo(number), key: '', kid: 'k1', tenant: 'acme', atMs: 0, ...place };
}

function scheduled(...numbers: number[]): Schedule {
  const schedule = new Schedule(16);
  for (const number of numbers) schedule.add(entryNo(number), false);
  return schedule;
}

function take(schedule: Schedule, nowMs = 0, limit = 1000): number[] {
  const taken = schedule.take(nowMs, limit, EVERYTHING);
  return taken.map(({ id }) => Number.parseInt(id, 16));
}

test('an answer buries, pauses or postpones', () => {
  const body = bytesOf('body');
  for (const status of [400, 409, 413, 422]) {
    const bury = { what: 'bury', status, code: 'c', reason: 'r', response: 'body' };
    assert.deepEqual(judge(status, 'c', 'r', body, 70), bury);
  }
  assert.deepEqual(judge(401, 'c', 'r', body), { what: 'pause', group: 'kid', code: 'c' });
  assert.deepEqual(judge(403, 'c', 'r', body), { what: 'pause', group: 'tenant', code: 'c' });
  for (const status of [undefined, 404, 405, 415, 421, 429, 500, 503]) {
    const later = { what: 'later', retryAfterMs: 70, endpointDown: status !== 429 };
    assert.deepEqual(judge(status, 'c', 'r', body, 70), later);
  }
  const { endpointDown } = judge(undefined, 'cancelled', '', body) as Later;
  assert.equal(endpointDown, false, 'a cancel says nothing about the endpoint');
});

test('a dead letter keeps the head of a long answer, and can always be read', () => {
  const long = judge(409, 'c', 'cut\ud83d', new Uint8Array(10 ** 6).fill(255));
  assert.ok(long.what === 'bury');
  assert.equal(long.response.length, MAX_DEAD_RESPONSE_BYTES);
  assert.equal(long.reason, 'cut\ufffd');
  const letter = { ...letterNo(1), id: idNo(1), body: bytesOf('"'.repeat(65_536)) };
  const response = '\0'.repeat(MAX_DEAD_RESPONSE_BYTES);
  for (const each of [long, { ...long, response }]) {
    const found = readFrame(encodeFrame(deadFrame({ ...each, id: letter.id, letter })));
    assert.equal(readDeadLetter(found?.value ?? {})?.response, each.response);
  }
});

test('entries go by due time and then by id, whatever the order in which they came', () => {
  const random = chance(3);
  for (let round = 0; round < 50; round++) {
    const count = 1 + below(random, 60);
    const schedule = scheduled(...Array(count).keys());
    take(schedule);
    const due = Array.from({ length: count }, (_, number): [number, number] => {
      const retryAfterMs = below(random, 20);
      schedule.postpone(idNo(number), { ...DOWN, endpointDown: false, retryAfterMs }, 0, 0);
      return [retryAfterMs, number];
    });
    due.sort(([aMs, a], [bMs, b]) => aMs - bMs || a - b);
    assert.equal(schedule.nextDueMs(), due[0]?.[0]);
    const half = due.filter(([dueMs]) => dueMs <= 10).map(([, number]) => number);
    assert.deepEqual(take(schedule, 10), half);
    assert.deepEqual(
      [...half, ...take(schedule, 20)],
      due.map(([, number]) => number),
    );
    assert.equal(schedule.nextDueMs(), undefined);
  }
});

test('the wait doubles to its cap', () => {
  const random = chance(4);
  for (let tries = 0; tries <= 40; tries++) {
    const schedule = scheduled(1);
    for (let count = 0; count < tries; count++) {
      take(schedule, EVERYTHING);
      schedule.postpone(idNo(1), DOWN, 0, 0);
    }
    take(schedule, EVERYTHING);
    const u = random();
    schedule.postpone(idNo(1), DOWN, 5_000, u);
    assert.equal(
      schedule.nextDueMs(),
      5_000 + Math.floor(u * Math.min(1_000 * 2 ** tries, 30_000)),
    );
  }
});

test('what the server asked for is a floor that no hurry goes below', () => {
  const schedule = scheduled(1);
  take(schedule);
  schedule.postpone(idNo(1), { ...DOWN, retryAfterMs: 120_000 }, 1_000, 0.5);
  assert.equal(schedule.nextDueMs(), 121_500);
  schedule.hurry();
  assert.equal(schedule.nextDueMs(), 121_000);
  assert.deepEqual([take(schedule, 120_999), take(schedule, 121_000)], [[], [1]]);
});

test('an accepted entry ends pauses, a dropped one leaves no trace', () => {
  const schedule = scheduled(1, 2);
  take(schedule);
  schedule.pause(idNo(1), 'kid');
  assert.deepEqual(schedule.blocked, [{ group: 'kid', name: 'k1' }]);
  schedule.resume(entryNo(2));
  assert.deepEqual([schedule.blocked, take(schedule)], [[], [1]]);
  schedule.pause(idNo(1), 'tenant');
  for (const number of [1, 1, 2]) schedule.drop(idNo(number));
  schedule.resume();
  assert.deepEqual([take(schedule, EVERYTHING), schedule.nextDueMs()], [[], undefined]);
});

test('a moved entry is the same entry', () => {
  const schedule = scheduled(1);
  schedule.move({ ...entryNo(1), file: 'other' });
  schedule.move({ ...entryNo(9), file: 'other' });
  assert.deepEqual(
    schedule.take(0, 9, 1).map(({ file }) => file),
    ['other'],
  );
});
