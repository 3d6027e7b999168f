/** What the samples submit. */

import { pcsRecord } from '@fractal-lba/client';

/**
 * Describe eight points on a line, as `summarize` of the Python SDK would.
 *
 * @param {number} epoch
 * @param {string} shardId
 */
export function makeRecord(epoch, shardId) {
  return pcsRecord({
    shard_id: shardId,
    epoch,
    sent_at: `${new Date().toISOString().slice(0, 19)}Z`,
    merkle_root: '3f'.repeat(32),
    scales: [2, 4, 8],
    N_j: { 2: 2, 4: 4, 8: 8 },
    D_hat: 1,
    coh_star: 0.5,
    v_star: [1],
    r: 0.5,
    regime: 'mixed',
    budget: 0.35,
  });
}
