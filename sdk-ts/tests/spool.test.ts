/** The outbox on a real directory: modes, limits, dead letters, files, group commit. */

import assert from 'node:assert/strict';
import {
  chmodSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import process from 'node:process';
import { test } from 'node:test';
import {
  DEAD_LOG,
  encodeFrame,
  idOf,
  LAST_ID,
  type OutboxOptions,
  putFrame,
} from '../src/outbox.js';
import { directoryFiles, openOutbox, startTicksOf, thisProcess } from '../src/outboxNode.js';
import type { Verdict } from '../src/schedule.js';
import { type Outbox, openFiles } from '../src/spool.js';
import { FaultFiles } from './faultFiles.js';
import {
  bytesOf,
  CONFLICT,
  codeOf,
  idNo,
  letterNo,
  logNo,
  NOW_MS,
  numberOf,
  openBox,
  textOf,
} from './outboxParts.js';

const DAY_MS = 86_400_000;
const EVERYTHING = 10 ** 9;
const ACCEPTED: Verdict = { what: 'acknowledge', status: 200 };
const DOWN: Verdict = { what: 'later', endpointDown: true };

/** What a test gets: an outbox, its directory, and the outbox opened anew. */
interface Place {
  readonly box: Outbox;
  readonly directory: string;
  reopen(): Promise<Outbox>;
}

async function withBox(
  body: (place: Place) => Promise<void>,
  options: OutboxOptions = {},
  fileBytes?: number,
) {
  const folder = mkdtempSync(join(tmpdir(), 'fractal-lba-spool-'));
  const directory = join(folder, 'outbox');
  const open = () =>
    openFiles(() => directoryFiles(directory), thisProcess, startTicksOf, options, fileBytes);
  let box = await open();
  const reopen = async () => {
    await box.close();
    box = await open();
    return box;
  };
  try {
    await body({ box, directory, reopen });
  } finally {
    await box.close();
    rmSync(folder, { recursive: true });
  }
}

async function put(box: Outbox, number: number, changes = {}): Promise<string> {
  return (await box.put({ ...letterNo(number), ...changes }, NOW_MS, false)).id;
}

const settle = (box: Outbox, id: string, verdict: Verdict) => box.settle(id, verdict, NOW_MS, 0);

async function take(box: Outbox, nowMs = NOW_MS): Promise<number[]> {
  return (await box.take(nowMs, 1000, EVERYTHING)).letters.map(numberOf);
}

const logsIn = (directory: string): string[] =>
  readdirSync(directory)
    .filter((name) => name.startsWith('outbox-'))
    .sort();

// --- files -------------------------------------------------------------------------------------

test(
  'directory and files are open to their owner alone',
  { skip: process.platform === 'win32' },
  () =>
    withBox(async ({ box, directory }) => {
      await settle(box, await put(box, 1), CONFLICT);
      const modes = ['.', ...readdirSync(directory)].map((name) => [
        name,
        statSync(join(directory, name)).mode & 0o777,
      ]);
      assert.deepEqual(Object.fromEntries(modes), {
        '.': 0o700,
        [DEAD_LOG]: 0o600,
        [logNo(1)]: 0o600,
        'outbox.lock': 0o600,
      });
      await box.close();
      chmodSync(directory, 0o750);
      await assert.rejects(openOutbox(directory), { code: 'config_invalid', message: /chmod 700/ });
      assert.equal(await codeOf(openOutbox(join(directory, logNo(1)))), 'outbox_corrupt');
    }),
);

test('the log holds the frame of the format and nothing else', () =>
  withBox(async ({ box, directory }) => {
    const id = await put(box, 1);
    const data = new Uint8Array(readFileSync(join(directory, logNo(1))));
    assert.deepEqual(data, encodeFrame(putFrame({ ...letterNo(1), id })));
    assert.equal(id, idNo(1));
  }));

test('real files do what the interface says', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'fractal-lba-files-'));
  try {
    const files = directoryFiles(join(folder, 'deep', 'outbox'));
    const handle = files.create('a');
    assert.throws(() => files.create('a'), { code: 'EEXIST' });
    files.pwrite(handle, bytesOf('hello'), 0);
    files.pwrite(handle, bytesOf('world'), 5);
    files.truncate(handle, 8);
    await files.fsync(handle);
    files.close(handle);
    await files.fsyncDir();
    assert.deepEqual(
      [textOf(files.read('a')), textOf(files.readAt('a', 5, 100))],
      ['hellowor', 'wor'],
    );
    assert.ok(files.ageMs('a') > -1000 && files.ageMs('a') < 600_000);
    files.rename('a', 'b');
    files.close(files.open('b'));
    assert.deepEqual(files.names(), ['b']);
    files.unlink('b');
    for (const call of [
      () => files.read('b'),
      () => files.readAt('b', 0, 1),
      () => files.ageMs('b'),
      () => files.open('b'),
      () => files.rename('b', 'c'),
      () => files.unlink('b'),
    ]) {
      assert.throws(call, { code: 'ENOENT' });
    }
    await assert.rejects(files.fsync(999_999));
  } finally {
    rmSync(folder, { recursive: true });
  }
});

// --- entries -----------------------------------------------------------------------------------

test('what waits survives a restart and keeps its order', () =>
  withBox(async ({ box, reopen }) => {
    for (let number = 1; number <= 7; number++) await put(box, number);
    const next = await reopen();
    assert.deepEqual(await take(next), [1, 2, 3, 4, 5, 6, 7]);
    assert.deepEqual(await take(next), []);
    assert.deepEqual([next.stats().inFlight, next.stats().entries], [7, 7]);
  }));

test('an acknowledged entry is not sent again', () =>
  withBox(async ({ box, reopen }) => {
    const [first, second] = [await put(box, 1), await put(box, 2)];
    assert.deepEqual(await take(box), [1, 2]);
    await settle(box, first, ACCEPTED);
    await settle(box, first, ACCEPTED);
    await settle(box, second, DOWN);
    assert.deepEqual(await take(await reopen()), [2]);
  }));

test('counts, bytes and age are told', () =>
  withBox(async ({ box, directory }) => {
    assert.equal(box.stats().oldestSentAtMs, undefined);
    await put(box, 1, { atMs: NOW_MS - 5 });
    await put(box, 2);
    const { entries, bytes, oldestSentAtMs } = box.stats();
    const { size } = statSync(join(directory, logNo(1)));
    assert.deepEqual([entries, bytes, oldestSentAtMs], [2, size, NOW_MS - 5]);
  }));

test('a full outbox refuses and drops nothing', async () => {
  await withBox(
    async ({ box }) => {
      const first = await put(box, 1);
      await put(box, 2);
      assert.equal(await codeOf(put(box, 3)), 'outbox_full');
      assert.deepEqual(await take(box), [1, 2]);
      await settle(box, first, CONFLICT);
      await assert.rejects(put(box, 3), /dead letters included/);
      await box.purge(first);
      await put(box, 3);
    },
    { maxEntries: 2 },
  );
  await withBox(
    async ({ box }) => {
      const body = bytesOf(' '.repeat(900));
      await put(box, 1, { body });
      await assert.rejects(put(box, 2, { body }), /2000 bytes/);
    },
    { maxBytes: 2000 },
  );
});

test('a limit must be a number above zero', async () => {
  for (const name of ['maxEntries', 'maxBytes', 'maxAgeMs']) {
    for (const value of [0, -1, true, '1', null, Number.NaN]) {
      const options = { [name]: value } as OutboxOptions;
      await assert.rejects(openBox(new FaultFiles(), 0, options), { code: 'config_invalid' });
    }
  }
});

test('the last id of all is never given out', async () => {
  const files = new FaultFiles();
  const id = idOf(LAST_ID);
  files.place(logNo(1), encodeFrame(putFrame({ ...letterNo(1), id })));
  const box = await openBox(files, 0);
  assert.equal(await codeOf(put(box, 2)), 'outbox_full');
  await settle(box, id, ACCEPTED);
});

test('an entry that grows too old becomes a dead letter', () =>
  withBox(async ({ box }) => {
    const id = await put(box, 1);
    await put(box, 2, { atMs: NOW_MS + DAY_MS });
    const later = NOW_MS + 13 * DAY_MS;
    assert.deepEqual(await take(box, later), [2]);
    const [dead] = await box.dead();
    assert.deepEqual([dead?.id, dead?.code, dead?.status], [id, 'outbox_expired', undefined]);
    assert.equal(await codeOf(box.put(letterNo(3), later, true)), 'outbox_expired');
  }));

test('a dead letter keeps the answer and the bytes, and is sent again with them', () =>
  withBox(async ({ box, reopen }) => {
    const id = await put(box, 1);
    await settle(box, id, CONFLICT);
    const next = await reopen();
    const { what: _, ...answer } = CONFLICT;
    const letter = { ...letterNo(1), id, from: undefined };
    assert.deepEqual(await next.dead(), [{ id, letter, ...answer }]);
    assert.deepEqual(await take(next), []);
    const again = await next.requeue(id);
    assert.notEqual(again, id);
    assert.deepEqual(await next.dead(), []);
    const { letters } = await next.take(NOW_MS, 9, EVERYTHING);
    assert.deepEqual(letters, [{ ...letter, id: again, from: id }]);
  }));

test('an unknown dead letter is not found, and a purged one is gone for good', () =>
  withBox(async ({ box, reopen }) => {
    for (const act of ['requeue', 'purge'] as const) {
      await assert.rejects(box[act](idNo(99)), { code: 'not_found', name: 'NotFoundError' });
    }
    const id = await put(box, 1);
    await settle(box, id, CONFLICT);
    await box.purge(id);
    const { entries, dead } = (await reopen()).stats();
    assert.deepEqual([entries, dead], [0, 0]);
  }));

test('dead letters are written anew when garbage outweighs them', () =>
  withBox(
    async ({ box, directory, reopen }) => {
      const ids: string[] = [];
      for (let number = 1; number < 20; number++) {
        ids.push(await put(box, number));
        await settle(box, ids.at(-1) as string, CONFLICT);
      }
      const size = () => statSync(join(directory, DEAD_LOG)).size;
      const before = size();
      for (const id of ids.slice(1)) await box.purge(id);
      assert.ok(size() < before / 2);
      const left = async (each: Outbox) => (await each.dead()).map(({ id }) => id);
      assert.deepEqual(await left(box), ids.slice(0, 1));
      assert.deepEqual(await left(await reopen()), ids.slice(0, 1));
    },
    {},
    3000,
  ));

test('entries are listed by key and released', () =>
  withBox(async ({ box }) => {
    const old = await put(box, 1, { kid: 'old' });
    await put(box, 2, { kid: undefined });
    assert.deepEqual(
      (await box.lettersOf('old')).map(({ id }) => id),
      [old],
    );
    assert.deepEqual((await box.lettersOf(undefined)).map(numberOf), [2]);
    await box.release(old, 'resigned');
    await box.release(old, 'resigned');
    assert.deepEqual(await take(box), [2]);
  }));

// --- files come and go -------------------------------------------------------------------------

test('a full file gets a successor and goes with its entries', () =>
  withBox(
    async ({ box, directory }) => {
      const ids: string[] = [];
      for (let number = 1; number <= 12; number++) ids.push(await put(box, number));
      assert.deepEqual(logsIn(directory), [logNo(1), logNo(5), logNo(9)]);
      for (const id of ids.slice(4, 8)) await settle(box, id, ACCEPTED);
      assert.equal(logsIn(directory).length, 3, 'none goes before an older one');
      for (const id of ids.slice(0, 4)) await settle(box, id, ACCEPTED);
      assert.deepEqual(logsIn(directory), [logNo(9)]);
    },
    {},
    1000,
  ));

test('one entry that waits does not keep all that follow', () =>
  withBox(
    async ({ box, directory, reopen }) => {
      const first = await put(box, 1);
      for (let number = 2; number < 200; number++)
        await settle(box, await put(box, number), ACCEPTED);
      const sizes = logsIn(directory).map((name) => statSync(join(directory, name)).size);
      assert.ok(sizes.reduce((sum, size) => sum + size, 0) < 6 * 1000);
      assert.deepEqual(await take(box), [1]);
      await settle(box, first, DOWN);
      const { letters } = await (await reopen()).take(NOW_MS, 9, EVERYTHING);
      assert.deepEqual(
        letters.map(({ id }) => id),
        [first],
      );
    },
    {},
    1000,
  ));

test('a new file is named past every older one', () =>
  withBox(async ({ box, directory }) => {
    await put(box, 1);
    await box.close();
    renameSync(join(directory, logNo(1)), join(directory, logNo(40)));
    writeFileSync(join(directory, 'notes'), 'another file');
    const next = await openOutbox(directory);
    assert.equal(await put(next, 2), idNo(40));
    await next.close();
  }));

// --- events and turns --------------------------------------------------------------------------

test('each change is told once', () =>
  withBox(async ({ box }) => {
    const told: string[] = [];
    let woken = 0;
    box.listen(
      ({ kind, code = '' }) => told.push(`${kind} ${code}`.trim()),
      () => woken++,
    );
    const [first, second] = [await put(box, 1), await put(box, 2)];
    await take(box);
    await settle(box, first, { what: 'pause', group: 'kid', code: 'kid_unknown' });
    assert.deepEqual(box.stats().blocked, [{ group: 'kid', name: 'k1' }]);
    await settle(box, second, CONFLICT);
    await box.requeue(second);
    box.hurry();
    await take(box);
    await settle(box, first, DOWN);
    assert.deepEqual(told, [
      ...['queued', 'queued', 'outbox_blocked kid_unknown', 'dead pcs_id_conflict'],
      ...['requeued', 'postponed'],
    ]);
    assert.equal(woken, 6);
  }));

/** Give an outbox whose log syncs wait for a gate, and count them. */
async function gated() {
  const files = new FaultFiles();
  const box = await openBox(files, 0);
  let open = (): void => {};
  files.gate = new Promise((resolve) => {
    open = resolve;
  });
  const syncs: string[] = [];
  files.before = (call) => {
    if (call === 'fsync') syncs.push(call);
  };
  return { files, box, open, syncs };
}

const turns = () => new Promise((resolve) => setImmediate(resolve));

test('one sync serves all who wait for it', async () => {
  const { box, open, syncs } = await gated();
  const done: number[] = [];
  const keep = (number: number) => put(box, number).then(() => done.push(number));
  const all = [1, 2, 3, 4].map(keep); // as many as fit into the file
  await turns();
  assert.deepEqual([done, syncs.length], [[], 1]);
  open();
  await Promise.all(all);
  assert.deepEqual([done, syncs.length], [[1, 2, 3, 4], 2]);
  assert.deepEqual(await take(box), [1, 2, 3, 4]);
});

test('all who wait for a sync that fails are told', async () => {
  const { files, box, open } = await gated();
  const all = [1, 2, 3, 4].map((number) => codeOf(put(box, number)));
  await turns();
  [files.at, files.how] = [files.calls + 1, 'fail'];
  open();
  assert.deepEqual(await Promise.all(all), Array(4).fill('outbox_corrupt'));
  await assert.rejects(take(box), /opened anew/);
  await box.close();
});

test('puts and settles beside each other across rotations lose nothing', () =>
  withBox(
    async ({ box, reopen }) => {
      const work = async (start: number): Promise<void> => {
        for (let number = start; number < start + 40; number++) {
          const id = await put(box, number);
          if (number % 4) await settle(box, id, ACCEPTED);
        }
      };
      await Promise.all([1000, 2000, 3000, 4000, 5000, 6000].map(work));
      const left = (await take(await reopen())).sort((a, b) => a - b);
      const expected = [1, 2, 3, 4, 5, 6].flatMap((each) =>
        Array.from({ length: 10 }, (_, index) => 1000 * each + 4 * index),
      );
      assert.deepEqual(left, expected);
    },
    {},
    1000,
  ));

test('a closed outbox takes nothing, touches nothing and closes twice', () =>
  withBox(
    async ({ box, directory }) => {
      const [first, second] = [await put(box, 1), await put(box, 2)];
      await put(box, 3);
      const dead = await put(box, 4);
      await settle(box, dead, CONFLICT);
      await box.close();
      await box.close();
      const before = logsIn(directory);
      for (const act of [
        put(box, 5),
        take(box),
        settle(box, first, ACCEPTED),
        settle(box, second, CONFLICT),
        box.requeue(dead),
        box.purge(dead),
      ]) {
        assert.equal(await codeOf(act), 'outbox_corrupt');
      }
      assert.deepEqual(logsIn(directory), before);
    },
    {},
    300,
  ));
