/**
 * Fill an outbox, or finish what another one left: the TypeScript part of
 * `conformance/tests/test_outbox_interchange.py`.
 *
 * `outboxChild.mjs DIR URL [LEVEL]` opens the outbox in DIR, says what it found there as `found
 * ENTRIES DEAD` and `dead ID STATUS CODE BODY`, then reads lines: a record is kept and answered by
 * `kept ID`, `flush MS` is a flush and answered by `flushed ENTRIES DEAD`. Acknowledged entries are
 * told as `acknowledged ID`. With a level there is a read token, and counts of what is held stand
 * behind those of what is dead. If the outbox cannot be opened, the code of the error is all it
 * says.
 */

import { writeSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { FractalLBAClient } from './.build/client.js';
import { isFractalLBAError } from './.build/errors.js';
import { openOutbox } from './.build/outboxNode.js';
import { parse } from './.build/scanner.js';
import { HmacSigner } from './.build/signers.js';
import { bytes, hex } from './signing.mjs';

const [, , directory, url, durability] = process.argv;
const say = (...words) => writeSync(1, `${words.join(' ')}\n`);
const count = (word, { entries, dead, held }) =>
  say(word, entries, dead, ...(durability ? [held] : []));

async function obey(client, line) {
  if (line.startsWith('flush ')) {
    count('flushed', await client.flush(Number(line.slice('flush '.length))));
  } else say('kept', await client.enqueue(parse(new TextEncoder().encode(line))));
}

async function work(outbox) {
  count('found', outbox.stats());
  for (const { id, status, code, letter } of await outbox.dead()) {
    say('dead', id, status, code, hex(letter.body));
  }
  const key = bytes('000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f');
  const signer = new HmacSigner(key, { kid: 'k1' });
  const hooks = { onOutbox: ({ kind, id }) => kind === 'acknowledged' && say(kind, id) };
  const level = durability ? { durability, token: 't' } : {};
  const options = { endpoints: url, signer, tenant: 'acme', outbox, hooks, ...level };
  const client = new FractalLBAClient(options);
  for await (const line of createInterface({ input: process.stdin })) await obey(client, line);
  await client.close();
  await outbox.close();
}

try {
  await work(await openOutbox(directory, { background: false }));
} catch (error) {
  if (!isFractalLBAError(error)) throw error;
  say(error.code);
}
