/**
 * Submit each line of the input, a record without a signature, and print the answer:
 * {"pcs_id", "replayed", "body"}, the body in hex.
 *
 * It reads FLK_ENDPOINT, FLK_TENANT, PCS_KID and PCS_HMAC_KEY.
 */

import { Buffer } from 'node:buffer';
import process from 'node:process';
import { createInterface } from 'node:readline';
import { FractalLBAClient, hmacSignerFromEnv } from '../../sdk-ts/dist/index.js';

const { FLK_ENDPOINT: endpoints = '', FLK_TENANT: tenant } = process.env;
const signer = hmacSignerFromEnv(process.env);
const client = new FractalLBAClient({ endpoints, signer, tenant });

for await (const line of createInterface({ input: process.stdin })) {
  const { outcome, replayed, raw } = await client.submit(JSON.parse(line));
  const body = Buffer.from(raw.body).toString('hex');
  process.stdout.write(`${JSON.stringify({ pcs_id: outcome.pcsId, replayed, body })}\n`);
}

await client.close();
