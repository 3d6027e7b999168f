/**
 * Submit one record twice: the second answer is the first outcome, byte for byte.
 *
 *     export FLK_ENDPOINT=http://127.0.0.1:8080 FLK_TENANT=demo PCS_KID=demo PCS_HMAC_KEY=<hex>
 *     node submit.mjs [epoch]
 *
 * Another epoch is another record; the default is 1. It runs under Deno and Bun, too.
 */

import { Buffer } from 'node:buffer';
import process from 'node:process';
import { FractalLBAClient, hmacSignerFromEnv } from '@fractal-lba/client';
import { makeRecord } from './record.mjs';

const record = makeRecord(Number(process.argv[2] ?? 1), 'sample/submit');
const { FLK_ENDPOINT: endpoints = '', FLK_TENANT: tenant } = process.env;
const signer = hmacSignerFromEnv(process.env);
const client = new FractalLBAClient({ endpoints, signer, tenant });

const first = await client.submit(record);
console.log('pcs_id', first.outcome.pcsId);
console.log('accepted', first.outcome.accepted);

const again = await client.submit(record);
console.log('replayed', again.replayed);
console.log('same', Buffer.compare(again.raw.body, first.raw.body) === 0);

await client.close();
