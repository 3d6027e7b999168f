/** A client with an outbox that misbehaves: what is foreign is neither swallowed nor fatal. */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Courier, type Mailbox } from '../src/courier.js';
import { OutboxError } from '../src/errors.js';
import type { Logger } from '../src/hooks.js';
import type { Letter } from '../src/outbox.js';
import { sign } from '../src/sign.js';
import { ScriptedTransport } from '../src/testing.js';
import { fails, record, SIGNER, withClient } from './clientParts.js';

const SIGNED = await sign(record(), SIGNER, { tenant: 'acme' });
const LETTER: Letter = {
  id: '1',
  pcsId: SIGNED.pcsId,
  key: SIGNED.content,
  atMs: 0,
  body: SIGNED.body,
};

/** Give an outbox that holds nothing, but for what a test changes. */
function boxOf(changes: Partial<Mailbox>) {
  const empty = { entries: 0, inFlight: 0, held: 0, dead: 0, bytes: 0, unreadableFrames: 0 };
  const mailbox: Mailbox = {
    background: false,
    listen: () => {},
    put: async (letter) => letter,
    take: async () => ({ letters: [], inFlight: 0, held: 0 }),
    settle: async () => {},
    hear: async () => {},
    heldRegions: () => new Set(),
    lettersOf: async () => [],
    release: async () => {},
    hurry: () => {},
    stats: () => ({ ...empty, blocked: [], corruptFiles: [] }),
    ...changes,
  };
  return {
    courier: (client: ConstructorParameters<typeof Courier>[0]) => new Courier(client, mailbox),
  };
}

const NOBODY = 'https://a.example';
const FOREIGN = new RangeError('a bug of the outbox');
const broken = () => Promise.reject(FOREIGN);

test('what is foreign passes untouched', async () => {
  const outbox = boxOf({ put: broken, take: broken, lettersOf: broken });
  await withClient(NOBODY, { outbox }, async (client) => {
    await assert.rejects(client.enqueue(record()), FOREIGN);
    await assert.rejects(client.submit(record()), FOREIGN);
    await assert.rejects(client.flush(1_000), FOREIGN);
    await assert.rejects(client.resign('k1'), FOREIGN);
  });
});

test('a courier that foreign code breaks says so in the log, and the client goes on', async () => {
  const warnings: string[] = [];
  const logger = { warn: (line: string) => warnings.push(line), debug: () => {} };
  const outbox = boxOf({ background: true, take: broken });
  await withClient(NOBODY, { outbox, logger: logger as unknown as Logger }, async (client) => {
    await client.enqueue(record());
    await new Promise((resolve) => setImmediate(resolve));
    assert.deepEqual(warnings, ['work beside the calls threw RangeError']);
    await client.enqueue(record());
  });
});

test('what is signed again must say the same', async () => {
  const outbox = boxOf({ lettersOf: async () => [{ ...LETTER, key: '0'.repeat(64) }] });
  await withClient(NOBODY, { outbox }, async (client) => {
    const error = await fails(client.resign('k1'));
    assert.deepEqual([error.name, error.code], ['OutboxError', 'outbox_corrupt']);
  });
});

test('an answer counts although what became of its entry cannot be written', async () => {
  const settle = () => Promise.reject(new OutboxError('outbox_corrupt', 'no space'));
  const lost = { code: 'connect_failed' } as const;
  const { send: transport } = new ScriptedTransport([lost, lost, lost]);
  await withClient(NOBODY, { outbox: boxOf({ settle }), transport }, async (client) => {
    const error = await fails(client.submit(record()));
    assert.deepEqual([error.code, error.queued], ['connect_failed', true]);
  });
});
