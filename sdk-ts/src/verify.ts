/**
 * Verify signed records (spec/canonical.md 3.8, 3.10, 4.3).
 *
 * This file owns the order in which a verifier asks. Keys, and the check of one signature, are in
 * `keys`.
 */

import { canonicalize, signatureVersion, versionError } from './canonical.js';
import { AuthError, invalid, SignatureError } from './errors.js';
import { checkSignature, type Key, type Keyring } from './keys.js';
import type { SignedFloat, SignedValues } from './number.js';
import { type Members, parse } from './scanner.js';

/** A record whose signature was checked; its four numbers are the signed ones. */
export interface Verified {
  readonly record: Readonly<Members>;
  readonly key: Key;
  readonly sigV: 1 | 2;
  /** The four numbers as they were signed, n / 10^9. */
  readonly values: SignedValues;
  /** The content digest. */
  readonly content: string;
}

export interface VerifyOptions {
  /** Refuse a number that is not n / 10^9. */
  readonly strict?: boolean | undefined;
  /** The key of version-1 records without a kid; keys are never tried in turn. */
  readonly v1DefaultKid?: string | undefined;
  /** 2 refuses version 1. */
  readonly minVersion?: 1 | 2 | undefined;
}

/**
 * Check the signature of a record's JSON text, and give the record with the signed values.
 *
 * Throws ValidationError for text or members outside the specification, AuthError
 * `tenant_mismatch`, and SignatureError for everything about keys and signatures.
 */
export async function verify(
  recordJson: Uint8Array,
  keyring: Keyring,
  { strict, v1DefaultKid, minVersion = 1 }: VerifyOptions = {},
): Promise<Verified> {
  const given = parse(recordJson);
  const sig = required(given, 'sig');
  const sigV = signatureVersion(given);
  if (sigV < minVersion) {
    throw versionError(sigV);
  }
  const key = keyOf(given, sigV, keyring, v1DefaultKid);
  const canonical = canonicalize(given, sigV);
  await checkSignature(key, canonical.digest, sig);
  const { values } = canonical;
  for (const name of Object.keys(values) as SignedFloat[]) {
    if (strict && Number(given[name]) !== values[name]) {
      throw invalid('number_out_of_range', `/${name}`, `${values[name]}`, given[name]);
    }
  }
  const record = Object.freeze({ ...given, ...values });
  return {
    record,
    key,
    sigV,
    values,
    get content(): string {
      return canonical.content;
    },
  };
}

/**
 * Find the one key of a record and hold `alg` and `tenant_id` against it.
 *
 * The message names a key; what that key can do is the keyring's word (spec/canonical.md 3.10).
 */
function keyOf(record: Members, sigV: 1 | 2, keyring: Keyring, defaultKid?: string): Key {
  const member = sigV === 2 ? required : optional;
  const [alg, kid = defaultKid, tenant] = ['alg', 'kid', 'tenant_id'].map((name) =>
    member(record, name),
  );
  const key = kid === undefined ? undefined : keyring.get(kid);
  if (!key) throw refused('kid_unknown', '/kid', 'a known key');
  if (alg !== undefined && alg !== key.alg) throw refused('alg_mismatch', '/alg', key.alg);
  if (tenant !== undefined && tenant !== key.tenant) {
    const pointer = '/tenant_id';
    throw new AuthError('tenant_mismatch', 'tenant_id: expected that of the key', { pointer });
  }
  return key;
}

function refused(code: string, pointer: string, expected: string): SignatureError {
  return new SignatureError(code, `${pointer.slice(1)}: expected ${expected}`, { pointer });
}

function optional(record: Members, name: string): string | undefined {
  const value = record[name];
  if (value === undefined || typeof value === 'string') return value;
  throw invalid('member_type', `/${name}`, 'a string');
}

function required(record: Members, name: string): string {
  const value = optional(record, name);
  if (value === undefined) throw invalid('member_missing', `/${name}`, 'this member');
  return value;
}
