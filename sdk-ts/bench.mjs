/**
 * Measure what a signature and a plan cost, against what the runtime alone would cost.
 *
 *     npm run build && node bench.mjs
 *
 * What is compared is measured in turns, in short rounds, and the best round of each counts: other
 * programs on the machine make rounds longer, never shorter.
 */

import { createHmac } from 'node:crypto';
import { HmacSigner, sign } from './dist/entrySign.js';
import { plan, retryPolicy } from './dist/retry.js';

const ROUNDS = 200;
const CALLS = 200;

const KEY = Uint8Array.from({ length: 32 }, (_, index) => index);
const SIGNER = new HmacSigner(KEY, { kid: 'k1' });
const POLICY = retryPolicy();
const RECORD = {
  pcs_id: '747ed8d569ff038929e8d9a740df0d2180afeaaddd80ac64c9b256aa10761e08',
  schema: 'fractal-lba-kakeya',
  version: '0.1',
  shard_id: 'shard-001',
  epoch: 7,
  attempt: 1,
  sent_at: '2026-01-15T12:00:00Z',
  seed: 0,
  scales: [2, 4, 8, 16],
  N_j: { 2: 4, 4: 16, 8: 64, 16: 256 },
  coh_star: 0.5,
  v_star: [0.6, 0.8],
  D_hat: 2,
  r: 0.5,
  regime: 'mixed',
  budget: 0.35,
  merkle_root: 'c3'.repeat(32),
  ft: { outbox_seq: 0, degraded: false, fallbacks: [], clock_skew_ms: 0 },
};

const WAYS = {
  'JSON and HMAC of node': () => {
    const text = JSON.stringify(RECORD);
    return createHmac('sha256', KEY).update(text).digest('base64');
  },
  'sign, version 1': () => sign(RECORD, SIGNER, { sigVersion: 1 }),
  'sign, version 2': () => sign(RECORD, SIGNER, { tenant: 'acme' }),
  'retry plan': () => plan(POLICY, { status: 503 }, 1, 0.5, 0, 60_000, 500, false),
};

const best = Object.fromEntries(Object.keys(WAYS).map((name) => [name, Number.POSITIVE_INFINITY]));
for (let round = 0; round < ROUNDS; round++) {
  for (const [name, way] of Object.entries(WAYS)) {
    const begun = process.hrtime.bigint();
    for (let call = 0; call < CALLS; call++) await way();
    const ns = Number(process.hrtime.bigint() - begun) / CALLS;
    best[name] = Math.min(best[name], ns);
  }
}
const [plain, v1, v2, planned] = Object.values(best);
for (const [name, ns] of Object.entries(best)) {
  process.stdout.write(`${name.padEnd(24)} ${(ns / 1000).toFixed(2).padStart(8)} us\n`);
}
process.stdout.write(`version 1 / node          ${(v1 / plain).toFixed(2).padStart(7)}\n`);
process.stdout.write(`version 2 / version 1     ${(v2 / v1).toFixed(2).padStart(7)}\n`);
process.stdout.write(
  `plans per second          ${(1e9 / planned / 1e6).toFixed(1).padStart(7)} M\n`,
);
