/**
 * Submit a hundred records at once; answers come in the order of the records.
 *
 *     export FLK_ENDPOINT=http://127.0.0.1:8080 FLK_TENANT=demo PCS_KID=demo PCS_HMAC_KEY=<hex>
 *     node submit-many.mjs [first epoch]
 */

import process from 'node:process';
import { FractalLBAClient, hmacSignerFromEnv } from '@fractal-lba/client';
import { makeRecord } from './record.mjs';

const RECORDS = 100;
const firstEpoch = Number(process.argv[2] ?? 1);

/** Make the records one by one: a stream may be longer than memory. */
function* makeRecords() {
  for (let epoch = firstEpoch; epoch < firstEpoch + RECORDS; epoch++) {
    yield makeRecord(epoch, 'sample/many');
  }
}

const { FLK_ENDPOINT: endpoints = '', FLK_TENANT: tenant } = process.env;
const signer = hmacSignerFromEnv(process.env);
const client = new FractalLBAClient({ endpoints, signer, tenant });

let accepted = 0;
let failed = 0;
for await (const item of client.submitMany(makeRecords(), { concurrency: 8 })) {
  if (item.result) accepted += item.result.outcome.accepted ? 1 : 0;
  else {
    failed++;
    console.log('failed', firstEpoch + item.index, item.error.code);
  }
}
console.log('accepted', accepted);
console.log('failed', failed);

await client.close();
