/**
 * The signing rule: the eight signed members in, the exact bytes that are signed out.
 *
 * This file owns the two payloads (spec/canonical.md 3.5, 4.1) and what is derived from a whole
 * record. Numbers are in `number`, the JSON profile in `scanner`, RFC 8785 in `jcs`.
 */

import { invalid, SignatureError } from './errors.js';
import { jcsText } from './jcs.js';
import { rounded, SIGNED_FLOATS, type SignedFloat, type SignedValues } from './number.js';
import { hex64, lexicalEpoch, number, type Rule, text } from './rules.js';
import type { Members } from './scanner.js';
import { hex, sha256 } from './sha256.js';
import { utf8 } from './utf8.js';

/** Longest `shard_id`, in bytes of UTF-8 (spec/canonical.md 3.1). */
export const MAX_SHARD_ID_BYTES = 256;

const RULES: readonly (readonly [name: string, Rule])[] = [
  ...Object.entries(SIGNED_FLOATS).map(([name, high]) => [name, number(0, high)] as const),
  ['epoch', lexicalEpoch],
  ['merkle_root', hex64],
  ['pcs_id', hex64],
  ['shard_id', text(1, MAX_SHARD_ID_BYTES)],
];

/** Members that say how a record was delivered, not what it holds (spec/canonical.md 5.1). */
const DELIVERY = Object.fromEntries(
  'attempt sent_at ft sig_v alg kid tenant_id'.split(' ').map((name) => [name]),
);

/** Hash the RFC 8785 form of members: 64 hexadecimal digits. */
const hashOf = (members: Members): string => hex(sha256(jcsText(members)));

/** One record read once for everything that is derived from its members. */
export class Canonical {
  /** The SHA-256 of the payload: what a key signs. */
  readonly digest: Uint8Array;
  readonly #members: Members;
  readonly #payload: string;

  /** Take members that were checked and rounded; version 2 has the hash of their `body`. */
  constructor(
    members: Members,
    /** The four numbers as every later step must use them: n / 10^9 (spec/canonical.md 3.8(4)). */
    readonly values: SignedValues,
    sigV: 1 | 2,
  ) {
    this.#members = members;
    const { D_hat, budget, coh_star, r } = values;
    const { epoch, merkle_root, pcs_id, shard_id } = members;
    const [body, end] = sigV === 2 ? [`"body":"${this.body}",`, ',"sig_v":2'] : ['', ''];
    this.#payload =
      `{"D_hat":${D_hat},${body}"budget":${budget},"coh_star":${coh_star},"epoch":${epoch},` +
      `"merkle_root":"${merkle_root}","pcs_id":"${pcs_id}","r":${r},` +
      `"shard_id":${jcsText(shard_id)}${end}}`;
    this.digest = sha256(this.#payload);
  }

  /** The bytes whose digest is signed. */
  get payload(): Uint8Array {
    return utf8(this.#payload);
  }

  /** The hash of the whole record without `sig`; version 2 signs it (spec/canonical.md 4.2). */
  get body(): string {
    return hashOf(this.#members);
  }

  /** The hash of what the record holds, not how it came (spec/canonical.md 5.1). */
  get content(): string {
    return hashOf({ ...this.#members, ...DELIVERY });
  }

  /** Give the record to send: rounded, with its signature. */
  signed(sig: string): Members {
    return { ...this.#members, sig };
  }
}

/** Say which version a record claims: 1 without `sig_v`, else 2 (spec/canonical.md 4.5). */
export function signatureVersion({ sig_v: claimed }: Members): 1 | 2 {
  if (claimed === undefined) return 1;
  if (claimed === 2) return 2;
  throw versionError(claimed);
}

/** Build the error of a version that is not supported, or not any more. */
export function versionError(got: unknown): SignatureError {
  const what = `sig_v: expected another version, got ${got}`;
  return new SignatureError('sig_version_unsupported', what, { pointer: '/sig_v' });
}

/**
 * Check the signed members and derive payload, digest and content.
 *
 * Throws ValidationError for a member outside its domain.
 */
export function canonicalize(record: Members, sigV: 1 | 2): Canonical {
  const values = {} as Record<SignedFloat, number>;
  for (const [name, [codeOf, expected]] of RULES) {
    const value = record[name];
    const code = value === undefined ? 'member_missing' : codeOf(value);
    if (code) throw invalid(code, `/${name}`, expected, value);
    if (name in SIGNED_FLOATS) values[name as SignedFloat] = rounded(Number(value));
  }
  return new Canonical({ ...record, ...values, sig: undefined }, values, sigV);
}

/** Give the exact bytes whose SHA-256 is signed. */
export function payload(record: Members, sigV: 1 | 2 = 1): Uint8Array {
  return canonicalize(record, sigV).payload;
}
