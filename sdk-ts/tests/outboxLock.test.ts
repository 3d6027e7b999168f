/** The owner of an outbox directory: one live process, and a stale lock is taken over once. */

import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import process from 'node:process';
import { test } from 'node:test';
import { openOutbox, startTicksOf, thisProcess } from '../src/outboxNode.js';
import { acquireLock, isStale, type Owner, releaseLock } from '../src/store.js';
import { FaultFiles, systemError } from './faultFiles.js';
import { bytesOf, codeOf, textOf } from './outboxParts.js';

const LOCK_NAME = 'outbox.lock';
const LOCK_SETTLE_MS = 10_000;
const GONE: Owner = { pid: 5, boot_id: 'old boot', start_ticks: 1, host: 'host' };
const HERE: Owner = { pid: 6, boot_id: 'new boot', start_ticks: 1, host: 'host' };
const OTHER: Owner = { ...HERE, pid: 7 };
const isLinux = process.platform === 'linux';

/** Take the lock for a process beside which all others live. */
const acquire = (files: FaultFiles, here: Owner): Promise<void> =>
  acquireLock(files, here, () => 1);

const lockOf = (owner: Owner): Uint8Array => bytesOf(JSON.stringify(owner));

function expectLock(files: FaultFiles, owner: Owner): void {
  assert.deepEqual(files.names(), [LOCK_NAME]);
  assert.deepEqual(JSON.parse(textOf(files.read(LOCK_NAME))), owner);
}

function withFolder(body: (folder: string) => Promise<void>): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), 'fractal-lba-lock-'));
  return body(folder).finally(() => rmSync(folder, { recursive: true }));
}

test('a lock is stale when its boot or process is gone', () => {
  const here: Owner = { pid: 10, boot_id: 'boot', start_ticks: 500, host: 'host' };
  for (const [holder, ticks, ageMs, stale] of [
    [here, 500, 0, false],
    [here, undefined, 0, true], // the process is gone
    [here, 501, 0, true], // another process has its number
    [{ ...here, boot_id: 'other' }, 500, 0, true], // the machine was restarted
    [{ ...here, host: 'other' }, undefined, 10 ** 9, false], // nothing here can tell
    [{ ...here, host: 'other', boot_id: 'other' }, undefined, 10 ** 9, false],
    [undefined, undefined, LOCK_SETTLE_MS, false], // perhaps being written
    [undefined, undefined, LOCK_SETTLE_MS + 1, true],
  ] as const) {
    assert.equal(isStale(holder, here, ticks, ageMs), stale);
  }
});

test('a lock is read as any SDK writes it, and a text that names no owner is none', async () => {
  const files = new FaultFiles();
  const python = '{"pid": 7, "boot_id": "new boot", "start_ticks": 1, "host": "host"}';
  files.place(LOCK_NAME, bytesOf(python));
  await assert.rejects(acquire(files, HERE), /outbox_locked.*process 7 on host/);
  for (const text of [
    ...['', '{', '[]', '7', 'null', '{"pid":"x"}', '{"pid":1}'],
    '{"pid":"6","boot_id":"b","start_ticks":1,"host":"h"}',
    '{"pid":6,"boot_id":"b","start_ticks":1.5,"host":"h"}',
    '{"pid":6,"boot_id":null,"start_ticks":1,"host":"h"}',
  ]) {
    files.place(LOCK_NAME, bytesOf(text), LOCK_SETTLE_MS);
    await assert.rejects(acquire(files, HERE), /an unreadable lock/, text);
  }
  files.place(LOCK_NAME, bytesOf('{"pid":'), LOCK_SETTLE_MS + 1);
  await acquire(files, HERE);
  expectLock(files, HERE);
});

test('a second owner is refused by name', () =>
  withFolder(async (folder) => {
    const directory = join(folder, 'outbox');
    const box = await openOutbox(directory);
    await assert.rejects(openOutbox(directory), new RegExp(`process ${process.pid} on`));
    const text = readFileSync(join(directory, LOCK_NAME), 'utf8');
    assert.deepEqual(JSON.parse(text), thisProcess());
    await box.close();
    await (await openOutbox(directory)).close();
    assert.ok(!readdirSync(directory).includes(LOCK_NAME));
  }));

test('the lock of a process that is gone is taken over', { skip: !isLinux }, () =>
  withFolder(async (folder) => {
    const directory = join(folder, 'outbox');
    // A shell that nobody waits for: once it has ended it is a zombie with its old number.
    const child = spawn('sh', ['-c', 'read line'], { stdio: ['pipe', 'ignore', 'ignore'] });
    const holder = { ...thisProcess(), pid: child.pid as number };
    mkdirSync(directory, { mode: 0o700 });
    const ticks = startTicksOf(holder.pid) as number;
    writeFileSync(join(directory, LOCK_NAME), JSON.stringify({ ...holder, start_ticks: ticks }));
    assert.equal(await codeOf(openOutbox(directory)), 'outbox_locked');
    const ended = new Promise((resolve) => child.on('exit', resolve));
    child.stdin.end();
    await ended;
    await (await openOutbox(directory)).close();
  }),
);

test('a process has a start, and a free number has none', { skip: !isLinux }, () =>
  withFolder(async (folder) => {
    assert.equal(startTicksOf(process.pid), thisProcess().start_ticks);
    assert.ok(thisProcess().start_ticks > 0 && thisProcess().boot_id);
    assert.equal(startTicksOf(2 ** 22 + 1), undefined);
    for (const [pid, text] of [
      ['self', '1 (x) S'],
      ['7', `7 (a) Z) Z${' 1'.repeat(30)}`],
      ['8', `8 (a) b) S${' 1'.repeat(18)} 77 1`],
    ] as const) {
      mkdirSync(join(folder, pid));
      writeFileSync(join(folder, pid, 'stat'), text);
    }
    assert.deepEqual(
      [7, 8, 9].map((pid) => startTicksOf(pid, folder)),
      [undefined, 77, undefined],
    );
  }),
);

test('a system that does not tell is asked by signal', () =>
  withFolder(async (folder) => {
    assert.equal(startTicksOf(process.pid, folder), 0);
    assert.equal(startTicksOf(1, folder), 0);
    const { pid } = spawnSync(process.execPath, ['--version']);
    assert.equal(startTicksOf(pid, folder), undefined);
    // A folder in the place of the file stands for what may not be looked at.
    mkdirSync(join(folder, '5', 'stat'), { recursive: true });
    assert.throws(() => startTicksOf(5, folder));
  }));

/** Run a rival at one step of taking a stale lock over. */
function racing(when: (call: string, name: string) => boolean) {
  const files = new FaultFiles();
  files.place(LOCK_NAME, lockOf(GONE));
  const rivals: Promise<string | undefined>[] = [];
  files.before = (call, name) => {
    if (!rivals.length && when(call, name)) {
      files.before = () => {};
      rivals.push(codeOf(acquire(files, OTHER)));
    }
  };
  return { files, rivals };
}

test('of two that find one stale lock only one takes it', async () => {
  for (const when of [
    (call: string, name: string) => call === 'create' && name !== LOCK_NAME,
    (call: string) => call === 'fsync',
    (call: string) => call === 'rename',
  ]) {
    const { files, rivals } = racing(when);
    const mine = await codeOf(acquire(files, HERE));
    const theirs = await rivals[0];
    assert.deepEqual([mine, theirs].filter(Boolean), ['outbox_locked']);
    expectLock(files, mine ? OTHER : HERE);
  }
});

test('a claim whose holder died is claimed in turn', async () => {
  const files = new FaultFiles();
  files.place(LOCK_NAME, lockOf(GONE));
  const broken = systemError('stopped');
  files.before = (call) => {
    if (call === 'rename') throw broken;
  };
  await assert.rejects(acquire(files, { ...GONE, pid: 8, boot_id: 'middle boot' }), broken);
  assert.equal(files.names().length, 2);
  files.before = () => {};
  await acquire(files, HERE);
  expectLock(files, HERE);
});

test('a lock that goes while it is looked at is tried for again', async () => {
  for (const when of ['read', 'ageMs', 'fsync']) {
    const files = new FaultFiles();
    files.place(LOCK_NAME, lockOf(GONE));
    files.before = (call) => {
      if (call === when) {
        files.inodes.delete(LOCK_NAME);
        files.before = () => {};
      }
    };
    await acquire(files, HERE);
    expectLock(files, HERE);
  }
});

test('only the own lock is released, and one that cannot be written is taken away', async () => {
  const files = new FaultFiles();
  files.place(LOCK_NAME, lockOf(OTHER));
  releaseLock(files, HERE);
  expectLock(files, OTHER);
  releaseLock(new FaultFiles(), HERE);
  const full = new FaultFiles(2, 'full');
  await assert.rejects(acquire(full, HERE), { code: 'ENOSPC' });
  assert.deepEqual(full.names(), []);
  const claim = new FaultFiles(2, 'full');
  claim.place(LOCK_NAME, lockOf(GONE));
  await assert.rejects(acquire(claim, HERE), { code: 'ENOSPC' });
  expectLock(claim, GONE);
});
