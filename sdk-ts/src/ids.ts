/** Derive the names of a record: its id, its content digest, its idempotency key. */

import { canonicalize } from './canonical.js';
import { invalid } from './errors.js';
import { checkWellFormed } from './jcs.js';
import type { Members } from './scanner.js';
import { hex, sha256 } from './sha256.js';

/** Hash `merkle_root|epoch|shard_id` to 64 hexadecimal digits (spec/canonical.md 5.5). */
export function derivePcsId(merkleRoot: string, epoch: number, shardId: string): string {
  checkWellFormed(shardId, '/shard_id');
  return hex(sha256(`${merkleRoot}|${epoch}|${shardId}`));
}

/**
 * Refuse a record whose `pcs_id` is not the derived one: `pcs_id_mismatch`.
 *
 * The record must have passed `checkRecord`. Signing does not ask this; `submit` does.
 */
export function checkPcsId(record: Members): void {
  const { merkle_root, epoch, shard_id, pcs_id } = record as Record<string, string>;
  const expected = derivePcsId(`${merkle_root}`, Number(epoch), `${shard_id}`);
  if (pcs_id !== expected) throw invalid('pcs_id_mismatch', '/pcs_id', expected, pcs_id);
}

/**
 * Digest what a record says, without how it was delivered (spec/canonical.md 5.1).
 *
 * One record signed with version 1, and with version 2 and any key, has one digest. It is the
 * idempotency key.
 */
export function contentDigest(record: Members): string {
  return canonicalize(record, 1).content;
}

/** Give the value of `Idempotency-Key`: the content digest, constant over all attempts. */
export const idempotencyKey = contentDigest;
