/**
 * The outbox on a file system that fails or stops at the k-th call, for every k.
 *
 * `Told` is what a caller knows: which letters `put` gave back, which were acknowledged, which were
 * purged. After any fault and any restart every letter that was given back is live or dead with the
 * same bytes, unless it was acknowledged or purged; and nothing else is there.
 */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isFractalLBAError } from '../src/errors.js';
import type { OutboxEvent } from '../src/hooks.js';
import { DEAD_LOG, firstIdOf, type Letter } from '../src/outbox.js';
import type { Verdict } from '../src/schedule.js';
import type { Outbox } from '../src/spool.js';
import { FaultFiles, type How, IMAGES } from './faultFiles.js';
import {
  bytesOf,
  CONFLICT,
  codeOf,
  letterNo,
  logNo,
  NOW_MS,
  numberOf,
  openBox,
  textOf,
} from './outboxParts.js';

const LOCK_NAME = 'outbox.lock';

/** What the caller was told, by the number of the letter. */
class Told {
  tried = new Set<number>();
  kept = new Map<number, string>();
  acknowledged = new Set<number>();
  purging = new Set<number>();
  purged = new Set<number>();

  copy(): Told {
    const other = new Told();
    other.tried = new Set(this.tried);
    other.kept = new Map(this.kept);
    other.acknowledged = new Set(this.acknowledged);
    other.purging = new Set(this.purging);
    other.purged = new Set(this.purged);
    return other;
  }

  async put(box: Outbox, from: number, to: number): Promise<void> {
    for (let number = from; number <= to; number++) {
      this.tried.add(number);
      this.kept.set(number, (await box.put(letterNo(number), NOW_MS, true)).id);
    }
  }

  async acknowledge(box: Outbox, from: number, to: number): Promise<void> {
    for (let number = from; number <= to; number++) {
      this.acknowledged.add(number);
      await this.settle(box, number, { what: 'acknowledge', status: 200 });
    }
  }

  async settle(box: Outbox, number: number, verdict: Verdict): Promise<void> {
    const id = this.kept.get(number);
    if (id) await box.settle(id, verdict, NOW_MS, 0.5);
  }

  async requeue(box: Outbox, number: number): Promise<void> {
    const id = this.kept.get(number);
    if (id) this.kept.set(number, await box.requeue(id));
  }

  async purge(box: Outbox, number: number): Promise<void> {
    const id = this.kept.get(number);
    if (!id) return;
    this.purging.add(number);
    await box.purge(id);
    this.purged.add(number);
  }
}

type Act = (told: Told, box: Outbox) => Promise<void>;

// Everything that writes: append, acknowledge, bury, requeue, purge, rotate, remove, carry, and
// write the dead letters anew.
const ACTS: readonly Act[] = [
  (told, box) => told.put(box, 1, 3),
  (told, box) => told.acknowledge(box, 2, 2),
  (told, box) => told.settle(box, 3, CONFLICT),
  (told, box) => told.put(box, 4, 8),
  (told, box) => told.settle(box, 4, { what: 'later', retryAfterMs: 10, endpointDown: true }),
  (told, box) => told.requeue(box, 3),
  (told, box) => told.settle(box, 5, CONFLICT),
  (told, box) => told.settle(box, 6, CONFLICT),
  (told, box) => told.purge(box, 5),
  (told, box) => told.put(box, 9, 15),
  (told, box) => told.acknowledge(box, 7, 14),
  (told, box) => told.settle(box, 15, { what: 'pause', group: 'kid', code: 'kid_unknown' }),
  (told, box) => told.put(box, 16, 25),
  (told, box) => told.acknowledge(box, 16, 24),
  (told, box) => told.put(box, 26, 35),
  (told, box) => told.acknowledge(box, 26, 35),
  (told, box) => told.put(box, 36, 36),
  (told, box) => told.purge(box, 6),
  (told, box) => told.put(box, 37, 40),
  (told, box) => told.settle(box, 37, CONFLICT),
  (told, box) => told.settle(box, 38, CONFLICT),
  (told, box) => told.settle(box, 39, CONFLICT),
  (told, box) => told.settle(box, 40, CONFLICT),
  (told, box) => told.purge(box, 37),
  (told, box) => told.purge(box, 38),
  (told, box) => told.requeue(box, 39),
];

/** Play the acts; a caller goes on after an error, until the machine is gone. */
async function play(files: FaultFiles, told: Told, acts = ACTS): Promise<void> {
  const ours = (error: unknown): undefined => {
    if (!isFractalLBAError(error)) throw error;
  };
  const box = await openBox(files, 0).catch(ours);
  if (!box) return;
  for (const act of acts) {
    await act(told, box).catch(ours);
    if (files.gone) return;
  }
  await box.close().catch(ours);
}

/** Give the live and the dead letters by number. */
async function contents(box: Outbox): Promise<[Map<number, Letter>, Map<number, Letter>]> {
  const live = new Map<number, Letter>();
  for (const kid of ['k0', 'k1']) {
    for (const each of await box.lettersOf(kid)) live.set(numberOf(each), each);
  }
  const dead = new Map((await box.dead()).map(({ letter }) => [numberOf(letter), letter]));
  const { entries, dead: count } = box.stats();
  assert.deepEqual([entries, count], [live.size, dead.size], 'each letter is there once');
  return [live, dead];
}

/** Restart on these files and hold what is there against what the caller was told. */
async function check(files: FaultFiles, told: Told, boot: number, isDamaged = false) {
  const box = await openBox(files, boot);
  const [live, dead] = await contents(box);
  const found = new Map([...live, ...dead]);
  assert.equal(found.size, live.size + dead.size, 'no letter is live and dead');
  for (const [number, { body }] of found) {
    assert.ok(told.tried.has(number));
    assert.equal(textOf(body), textOf(letterNo(number).body));
    assert.ok(!told.purged.has(number), `letter ${number} was purged and is back`);
  }
  for (const number of told.kept.keys()) {
    const isGone = told.acknowledged.has(number) || told.purging.has(number);
    assert.ok(isGone || found.has(number), `letter ${number} was kept and is lost`);
  }
  assert.ok(isDamaged || !box.stats().corruptFiles.length);
  // It goes on working, and what it keeps then survives as well.
  const added = 1000 + boot;
  await told.put(box, added, added);
  await box.close();
  const next = await openBox(files.crash('synced'), boot + 1);
  const [liveAgain, deadAgain] = await contents(next);
  live.set(added, liveAgain.get(added) as Letter);
  assert.deepEqual(new Map([...liveAgain].sort()), new Map([...live].sort()));
  assert.deepEqual(deadAgain, dead);
  await next.close();
  await checkDeadLeave(files.crash('synced'), boot + 2);
}

/**
 * Requeue the even dead letters and purge the odd ones: whatever marks a crash has forgotten, each
 * even one is live once, and no odd one comes back.
 */
async function checkDeadLeave(files: FaultFiles, boot: number): Promise<void> {
  const box = await openBox(files, boot);
  const [live, dead] = await contents(box);
  for (const [number, { id }] of dead) await (number % 2 ? box.purge(id) : box.requeue(id));
  const [liveAgain, deadAgain] = await contents(await openBox(files.crash('synced'), boot + 1));
  const back = [...dead.keys()].filter((number) => number % 2 === 0);
  assert.deepEqual([...liveAgain.keys()].sort(), [...live.keys(), ...back].sort());
  assert.equal(deadAgain.size, 0);
}

async function callsOf(files: FaultFiles, acts = ACTS): Promise<number> {
  await play(files, new Told(), acts);
  return files.calls;
}

test('without a fault everything is as it was told', async () => {
  const files = new FaultFiles();
  const told = new Told();
  await play(files, told);
  const kinds = new Set(files.log.map((line) => line.split(' ')[1]));
  for (const kind of ['create', 'pwrite', 'fsync', 'fsyncDir', 'unlink', 'rename']) {
    assert.ok(kinds.has(kind), `the scenario never calls ${kind}`);
  }
  assert.equal(files.openHandles, 0);
  await check(files, told, 1);
  const [live, dead] = await contents(await openBox(files.crash('synced'), 9));
  assert.deepEqual(
    [...live.keys()].sort((a, b) => a - b),
    [1, 3, 4, 15, 25, 36, 39, 1001],
  );
  assert.deepEqual([...dead.keys()], [40]);
  assert.ok(files.inodes.size < 9, 'files in which nothing is live have gone');
});

for (const how of ['fail', 'stop', 'torn', 'full'] as const satisfies readonly How[]) {
  test(`a fault at any call loses nothing that was told to be kept: ${how}`, async (t) => {
    const total = await callsOf(new FaultFiles());
    for (let at = 1; at <= total; at++) {
      const files = new FaultFiles(at, how);
      const told = new Told();
      await play(files, told);
      for (const image of IMAGES) await check(files.crash(image), told.copy(), 1);
    }
    t.diagnostic(`every k of 1..${total}, ${IMAGES.length * total} restarts`);
    assert.ok(total > 100);
  });
}

// An entry that is carried forward must not be given up in its old place before it is in the new.
test('a disk that is full for a while loses nothing', async () => {
  const total = await callsOf(new FaultFiles());
  for (let at = 1; at <= total; at++) {
    for (const length of [2, 3, 5, 9]) {
      const files = new FaultFiles();
      // Full for each call in the range: `at` is always the next one.
      Object.defineProperty(files, 'at', {
        get: () => (files.calls >= at && files.calls < at + length ? files.calls : 0),
      });
      files.how = 'full';
      const told = new Told();
      await play(files, told);
      for (const image of ['all', 'synced'] as const)
        await check(files.crash(image), told.copy(), 1);
    }
  }
});

test('a full disk refuses one entry and the next is kept', async () => {
  const total = await callsOf(new FaultFiles());
  let refused = 0;
  for (let at = 1; at <= total; at++) {
    const files = new FaultFiles(at, 'full');
    if (await codeOf(openBox(files.copy(at, 'full'), 0))) continue;
    const box = await openBox(files, 0);
    const codes: unknown[] = [];
    for (let number = 1; number < 30; number++) {
      const code = await codeOf(box.put(letterNo(number), NOW_MS, true));
      if (code) codes.push(code);
    }
    assert.ok(codes.length < 2 && codes.every((code) => code === 'outbox_full'), `${codes}`);
    assert.equal(box.stats().entries, 29 - codes.length);
    refused += codes.length;
    await box.close();
  }
  assert.ok(refused > 20);
});

/** Write on until the file is closed; then it must hold whole frames alone. */
async function fillTheFile(files: FaultFiles): Promise<void> {
  const box = await openBox(files, 1);
  for (let number = 10; number < 20; number++) await box.put(letterNo(number), NOW_MS, true);
  assert.ok(files.inodes.size > 2);
  await box.close();
  const { corruptFiles, entries } = (await openBox(files, 2)).stats();
  assert.deepEqual([corruptFiles, entries], [[], 11]);
}

async function withOneLetter(): Promise<[FaultFiles, Outbox]> {
  const files = new FaultFiles();
  const box = await openBox(files, 0);
  await box.put(letterNo(1), NOW_MS, true);
  return [files, box];
}

test('what was cut never comes back behind shorter frames', async () => {
  for (const garbage of ['\0', 'x']) {
    const [files, box] = await withOneLetter();
    await box.close();
    files.place(logNo(1), joined(files.read(logNo(1)), bytesOf(garbage.repeat(5000))));
    await fillTheFile(files);
  }
  const [files, box] = await withOneLetter();
  const long = { ...letterNo(2), body: bytesOf(`{${' '.repeat(2000)}}`) };
  [files.at, files.how] = [files.calls + 1, 'full'];
  assert.equal(await codeOf(box.put(long, NOW_MS, true)), 'outbox_full');
  await box.close();
  await fillTheFile(files);
});

test('an outbox that cannot be opened leaves no lock and no handle', async () => {
  let failed = 0;
  for (let at = 1; at < 20; at++) {
    const files = new FaultFiles(at, 'fail');
    const code = await codeOf(openBox(files, 0));
    if (!code) continue;
    failed++;
    assert.deepEqual([code, files.openHandles], ['outbox_corrupt', 0]);
    assert.ok(!files.inodes.has(LOCK_NAME));
  }
  assert.ok(failed > 0);
});

test('after a failed sync the outbox is closed until it is opened anew', async () => {
  for (let at = 1; at < 20; at++) {
    const files = new FaultFiles(at, 'fail');
    const box = await openBox(files, 0).catch(() => undefined);
    if (!box) continue;
    const codes: unknown[] = [];
    for (let number = 1; number < 12; number++) {
      const code = await codeOf(box.put(letterNo(number), NOW_MS, true));
      if (code) codes.push(code);
    }
    assert.deepEqual([...new Set(codes)], ['outbox_corrupt']);
    assert.ok(box.stats().entries <= 12 - codes.length, 'no put succeeds after one failed');
    await assert.rejects(box.take(NOW_MS, 1, 1), /opened anew/);
    await box.close().catch(() => {});
    assert.ok(!files.inodes.has(LOCK_NAME));
    await (await openBox(files, 0)).close();
  }
});

// --- faults while recovering ---------------------------------------------------------------------

function changed(data: Uint8Array, place: number): Uint8Array {
  return data.map((byte, index) => (index === place ? byte ^ 0x40 : byte));
}

function joined(...parts: Uint8Array[]): Uint8Array {
  return new Uint8Array(parts.flatMap((part) => [...part]));
}

/** Give directories with every kind of damage, and what must be found in them. */
async function damaged(): Promise<Map<string, [FaultFiles, Told]>> {
  const files = new FaultFiles();
  const told = new Told();
  await play(files, told);
  const logs = files
    .names()
    .filter((name) => firstIdOf(name) !== undefined)
    .sort();
  const [oldest = '', newest = ''] = [logs[0], logs.at(-1)];
  const torn = files.copy();
  torn.place(newest, joined(torn.read(newest), bytesOf('\0\0\0 torn')));
  const tornDead = files.copy();
  tornDead.place(DEAD_LOG, joined(tornDead.read(DEAD_LOG), bytesOf('\0\0\x01')));
  const first = files.copy();
  first.place(oldest, changed(first.read(oldest), first.read(oldest).length >> 1));
  const lost = told.copy();
  for (const number of [1, 2, 3]) lost.kept.delete(number);
  const both = first.copy();
  const more = lost.copy();
  const box = await openBox(both, 0);
  await more.put(box, 50, 51);
  await more.settle(box, 50, CONFLICT);
  await more.settle(box, 51, CONFLICT);
  await box.close();
  both.place(DEAD_LOG, changed(both.read(DEAD_LOG), 10));
  more.kept.delete(40); // it lies first in the file, and rots
  return new Map([
    ['whole', [files.copy(), told]],
    ['torn tail', [torn, told]],
    ['torn dead letters', [tornDead, told]],
    ['rotten first file', [first, lost]],
    ['rotten dead letters', [both, more]],
    ['rotten file with later marks', await damagedWithLaterMarks()],
  ]);
}

/** Give a rotten file beside a younger one that says what became of its entries. */
async function damagedWithLaterMarks(): Promise<[FaultFiles, Told]> {
  const files = new FaultFiles();
  const told = new Told();
  await play(files, told, [
    (told, box) => told.put(box, 1, 7),
    (told, box) => told.settle(box, 3, CONFLICT),
    (told, box) => told.purge(box, 3),
  ]);
  files.place(logNo(1), changed(files.read(logNo(1)), 40));
  told.kept.delete(1);
  return [files, told];
}

function hasSetAside(files: FaultFiles, name: string): boolean {
  const kind = name.includes('letters') ? /^dead-.*\.corrupt$/ : /^outbox-.*\.corrupt$/;
  return files.names().some((each) => kind.test(each));
}

for (const how of ['fail', 'stop', 'torn'] as const) {
  test(`a fault at any call of a recovery loses nothing: ${how}`, async (t) => {
    for (const [name, [start, told]] of await damaged()) {
      const total = await callsOf(start.copy(), []);
      for (let at = 1; at <= total; at++) {
        const files = start.copy(at, how);
        await play(files, new Told(), []);
        for (const image of IMAGES) {
          const after = files.crash(image);
          const isRotten = name.startsWith('rotten');
          await check(after, told.copy(), 2, isRotten);
          if (isRotten) assert.ok(hasSetAside(after, name));
        }
      }
      t.diagnostic(`${name}: every k of 1..${total}`);
      assert.ok(total >= 4);
    }
  });
}

test('damage is set aside, counted and told to the first client', async () => {
  const [files] = (await damaged()).get('rotten first file') as [FaultFiles, Told];
  const name = files
    .names()
    .filter((each) => firstIdOf(each) !== undefined)
    .sort()[0] as string;
  const before = files.read(name);
  const box = await openBox(files, 1);
  const { corruptFiles, unreadableFrames } = box.stats();
  assert.deepEqual([corruptFiles, unreadableFrames], [[name], 1]);
  assert.deepEqual(files.read(`${name}.corrupt`), before);
  const told: OutboxEvent[] = [];
  await box.take(0, 1, 1);
  box.listen(
    (event) => told.push(event),
    () => {},
  );
  await box.take(0, 1, 1);
  await box.take(0, 1, 1);
  const event = { type: 'outbox', kind: 'outbox_corrupt', id: undefined, code: 'outbox_corrupt' };
  assert.deepEqual(told, [event]);
  await box.close();
  assert.deepEqual((await openBox(files, 2)).stats().corruptFiles, []);
});

test('rotten dead letters are set aside and the readable ones kept', async () => {
  const [files] = (await damaged()).get('rotten dead letters') as [FaultFiles, Told];
  const box = await openBox(files, 1);
  const [, dead] = await contents(box);
  assert.deepEqual(box.stats().corruptFiles, [DEAD_LOG]);
  assert.ok(dead.has(51) && hasSetAside(files, 'letters'));
});

test('an entry whose frame rots under the running outbox is counted and told', async () => {
  const files = new FaultFiles();
  const box = await openBox(files, 0);
  const told: unknown[] = [];
  box.listen(
    ({ kind, id }) => told.push(`${kind} ${id}`),
    () => {},
  );
  const { id } = await box.put(letterNo(1), NOW_MS, false);
  await box.put(letterNo(2), NOW_MS, false);
  const inode = files.inodes.get(logNo(1)) as { data: Uint8Array };
  inode.data = changed(inode.data, 60);
  const { letters } = await box.take(NOW_MS, 10, 10 ** 6);
  assert.deepEqual(letters.map(numberOf), [2]);
  assert.equal(box.stats().unreadableFrames, 1);
  assert.ok(told.includes(`outbox_corrupt ${id}`));
});
