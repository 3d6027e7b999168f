/**
 * Keep records on disk while the server is away, and send them once it is back.
 *
 *     export FLK_ENDPOINT=http://127.0.0.1:8080 FLK_TENANT=demo PCS_KID=demo PCS_HMAC_KEY=<hex>
 *     node offline-outbox.mjs DIRECTORY [first epoch]
 *
 * Start it with the server stopped, then start the server: what was enqueued is durable before
 * `enqueue` resolves, survives the end of this program too, and is sent with the same bytes.
 */

import process from 'node:process';
import { FractalLBAClient, hmacSignerFromEnv } from '@fractal-lba/client';
import { openOutbox } from '@fractal-lba/client/outbox-node';
import { makeRecord } from './record.mjs';

const RECORDS = 3;
const FLUSH_TIMEOUT_MS = 60_000;
const [directory = 'outbox', firstEpoch = '1'] = process.argv.slice(2);

const { FLK_ENDPOINT: endpoints = '', FLK_TENANT: tenant } = process.env;
const signer = hmacSignerFromEnv(process.env);
const outbox = await openOutbox(directory);
const client = new FractalLBAClient({ endpoints, signer, tenant, outbox });

for (let index = 0; index < RECORDS; index++) {
  await client.enqueue(makeRecord(Number(firstEpoch) + index, 'sample/outbox'));
}
console.log('kept', RECORDS);
const left = await client.flush(FLUSH_TIMEOUT_MS);
console.log('waiting', left.entries);
console.log('dead', left.dead);

await client.close();
await outbox.close();
