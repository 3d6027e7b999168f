/** What tests of the client share: records, a signer, a client whose waits pass at once. */

import assert from 'node:assert/strict';
import type { FractalLBAError } from '../src/errors.js';
import { derivePcsId } from '../src/ids.js';
import { type Clock, FractalLBAClient, HmacSigner, isFractalLBAError } from '../src/index.js';
import type { ClientOptions } from '../src/options.js';
import type { PcsRecord } from '../src/record.js';
import { FakeClock, seededRandom } from '../src/testing.js';

export const KEY = Uint8Array.from({ length: 32 }, (_, index) => index);
export const SIGNER = new HmacSigner(KEY, { kid: 'k1' });
export const MERKLE_ROOT = 'c3'.repeat(32);

/** Give a record of its own for each number; every check of it passes. */
export function record(number = 7, changes: Readonly<Record<string, unknown>> = {}): PcsRecord {
  return {
    schema: 'fractal-lba-kakeya',
    version: '0.1',
    pcs_id: derivePcsId(MERKLE_ROOT, number, 'shard-001'),
    merkle_root: MERKLE_ROOT,
    epoch: number,
    shard_id: 'shard-001',
    attempt: 1,
    sent_at: '2026-01-15T12:00:00Z',
    seed: 0,
    scales: [2, 4, 8, 16],
    N_j: { '2': 4, '4': 16, '8': 64, '16': 256 },
    v_star: [0.6, 0.8],
    D_hat: 2,
    coh_star: 0.5,
    r: 0.5,
    regime: 'mixed',
    budget: 0.35,
    ft: { outbox_seq: 0, degraded: false, fallbacks: [], clock_skew_ms: 0 },
    ...changes,
  };
}

/** Give the options of a client whose waits pass at once. */
export function options(
  endpoints: ClientOptions['endpoints'],
  changes: Partial<ClientOptions> = {},
): ClientOptions & { readonly clock?: Clock | undefined } {
  const clock = new FakeClock();
  return { endpoints, signer: SIGNER, tenant: 'acme', clock, random: seededRandom(1), ...changes };
}

/** Run a test with a client, and close it. */
export async function withClient<T>(
  endpoints: ClientOptions['endpoints'],
  changes: Partial<ClientOptions>,
  test: (client: FractalLBAClient, clock: FakeClock) => Promise<T>,
): Promise<T> {
  const chosen = options(endpoints, changes);
  const client = new FractalLBAClient(chosen);
  try {
    return await test(client, chosen.clock as FakeClock);
  } finally {
    await client.close();
  }
}

/** Give the error that a promise ends with. */
export async function fails(promise: Promise<unknown>): Promise<FractalLBAError> {
  try {
    await promise;
  } catch (error) {
    assert.ok(isFractalLBAError(error), `expected an error of the package, got ${error}`);
    return error;
  }
  throw new assert.AssertionError({ message: 'expected an error, got a result' });
}
