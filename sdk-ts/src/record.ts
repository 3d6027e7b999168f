/** Hold one record, typed and closed; `recordCheck` says what its members must be. */

import { canonicalize, signatureVersion } from './canonical.js';
import { derivePcsId } from './ids.js';
import { checkRecord } from './recordCheck.js';
import { type Members, parse } from './scanner.js';
import { SignedRecord } from './sign.js';
import type { Algorithm } from './signers.js';

/** The delivery conditions of a record; not part of its content. */
export type Ft = {
  readonly outbox_seq: number;
  readonly degraded: boolean;
  readonly fallbacks: readonly string[];
  readonly clock_skew_ms: number;
};

export type Regime = 'sticky' | 'mixed' | 'non_sticky';

/**
 * One Proof-of-Computation Summary: frozen, closed, and valid from the start.
 *
 * The last five members belong to a signed record and are absent before.
 */
export type PcsRecord = {
  readonly pcs_id: string;
  readonly schema: 'fractal-lba-kakeya';
  readonly version: '0.1';
  readonly shard_id: string;
  readonly epoch: number;
  readonly attempt: number;
  readonly sent_at: string;
  readonly seed: number;
  readonly scales: readonly number[];
  readonly N_j: Readonly<Record<string, number>>;
  readonly coh_star: number;
  readonly v_star: readonly number[];
  readonly D_hat: number;
  readonly r: number;
  readonly regime: Regime;
  readonly budget: number;
  readonly merkle_root: string;
  readonly ft: Ft;
  readonly sig?: string | undefined;
  readonly sig_v?: 2 | undefined;
  readonly alg?: Algorithm | undefined;
  readonly kid?: string | undefined;
  readonly tenant_id?: string | undefined;
};

type Defaulted = 'pcs_id' | 'schema' | 'version' | 'attempt' | 'seed' | 'ft';

/** The members of a record as a caller gives them: what has a default can be left out. */
export type PcsInput = Omit<PcsRecord, Defaulted> & Partial<Pick<PcsRecord, Defaulted>>;

/** Give every number its plain form, and freeze what is within. */
function frozen(value: unknown): unknown {
  if (value instanceof Number) return +value;
  if (typeof value !== 'object' || value === null) return value;
  if (Array.isArray(value)) return Object.freeze(value.map(frozen));
  const members = Object.entries(value).map(([name, item]) => [name, frozen(item)] as const);
  return Object.freeze(Object.fromEntries(members.filter(([, item]) => item !== undefined)));
}

/**
 * Make a record; what has a default is completed, and `pcs_id` derived.
 *
 * Throws ValidationError.
 */
export function pcsRecord(given: PcsInput): PcsRecord {
  const ft = { outbox_seq: 0, degraded: false, fallbacks: [], clock_skew_ms: 0, ...given.ft };
  const defaults = { schema: 'fractal-lba-kakeya', version: '0.1', attempt: 1, seed: 0 };
  const members: Members = { ...defaults, pcs_id: '0'.repeat(64), ...given, ft };
  checkRecord(members);
  return frozen(
    given.pcs_id === undefined ? withId({ ...members, pcs_id: undefined }) : members,
  ) as PcsRecord;
}

/** Read a record from JSON text. Throws ValidationError. */
export function pcsRecordFromJson(data: Uint8Array): PcsRecord {
  const members = parse(data);
  checkRecord(members);
  return frozen(members) as PcsRecord;
}

/** Copy the members of a record; an absent `pcs_id` is derived if it can be. */
export function withId(record: Members): Members {
  const { pcs_id, merkle_root, epoch, shard_id } = record;
  if (pcs_id !== undefined || [merkle_root, epoch, shard_id].includes(undefined))
    return { ...record };
  return { ...record, pcs_id: derivePcsId(`${merkle_root}`, epoch as number, `${shard_id}`) };
}

/**
 * Take a record that somebody else signed; its bytes stay as they are.
 *
 * The form is checked, the signature is not: that needs the key.
 */
export function signedRecord(body: Uint8Array): SignedRecord {
  const record = parse(body);
  checkRecord(record, true);
  return new SignedRecord(body.slice(), record, canonicalize(record, signatureVersion(record)));
}
