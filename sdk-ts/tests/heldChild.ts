/** A child process that submits for ever at the level replicated, and says what was answered. */

import { writeSync } from 'node:fs';
import process from 'node:process';
import { pathToFileURL } from 'node:url';
import { FractalLBAClient } from '../src/index.js';
import { openOutbox } from '../src/outboxNode.js';
import { record, SIGNER } from './clientParts.js';

/** Give a record of now, for a client on the real clock. */
export function fresh(number: number) {
  return record(number, { sent_at: new Date().toISOString() });
}

async function submitForEver(directory: string, endpoints: string, start: number) {
  const outbox = await openOutbox(directory);
  const durability = 'replicated';
  const client = new FractalLBAClient({
    endpoints,
    signer: SIGNER,
    tenant: 'acme',
    outbox,
    durability,
  });
  for (let number = start; ; number++) {
    await client.submit(fresh(number));
    writeSync(1, `${number}\n`);
  }
}

const [, script = '', directory = '', url = '', start] = process.argv;
if (import.meta.url === pathToFileURL(script).href) {
  await submitForEver(directory, url, Number(start));
}
