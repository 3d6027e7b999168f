/**
 * Hold keys, and check one signature with one key (spec/canonical.md 3.6, 3.8, 3.10).
 *
 * The algorithm of a check is the key's, and there is no algorithm `none`.
 */

import { base64, fromBase64 } from './base64.js';
import { ed25519Holds, ed25519PublicKey } from './ed25519.js';
import { configError, SignatureError } from './errors.js';
import { reveal, Secret } from './secret.js';
import { hex, hmacSha256 } from './sha256.js';
import {
  type Algorithm,
  checkAlgorithm,
  checkKeyBytes,
  checkName,
  KEY_BYTES,
  SIGNATURE_BYTES,
  type SignerOptions,
  unusable,
} from './signers.js';

// The y coordinates of the points of order 1, 2, 4 and 8, in every encoding, without the bit of
// the sign. Under such a key one signature fits many messages.
const SMALL_ORDER = [
  '0'.repeat(64),
  `01${'0'.repeat(62)}`,
  '26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05',
  'c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a',
  `ec${'f'.repeat(60)}7f`,
  `ed${'f'.repeat(60)}7f`,
  `ee${'f'.repeat(60)}7f`,
];

/** One key of a verifier: an HMAC key, or an Ed25519 public key. */
export class Key {
  readonly key: Secret;
  readonly tenant: string | undefined;

  constructor(
    readonly kid: string,
    readonly alg: Algorithm,
    key: Uint8Array | Secret,
    { tenant, allowShortKey }: KeyOptions = {},
  ) {
    checkAlgorithm(alg);
    checkName('kid', kid);
    this.key = new Secret(reveal(key));
    this.tenant = tenant;
    const bytes = checkKeyBytes(alg, this.key.reveal(), allowShortKey);
    if (alg === 'Ed25519') {
      const y = bytes.slice();
      y[31] = (y[31] as number) & 127;
      if (SMALL_ORDER.includes(hex(y))) throw unusable('no point of small order');
    }
  }
}

export interface KeyOptions extends Pick<SignerOptions, 'allowShortKey'> {
  /** The tenant that the key belongs to. */
  readonly tenant?: string | undefined;
}

export type Keyring = ReadonlyMap<string, Key>;

/**
 * Index keys by kid; a kid, or the bytes of a key, may occur once.
 *
 * Bytes that are an HMAC key here and the seed of an Ed25519 key there are refused too.
 */
export async function keyring(keys: Iterable<Key>): Promise<Keyring> {
  const ring = new Map<string, Key>();
  const seen = new Set<string>();
  for (const key of keys) {
    const bytes = hex(key.key.reveal());
    if (ring.has(key.kid)) throw configError('keyring', 'each kid once', key.kid);
    if (seen.has(bytes)) throw unusable(`each key once, got that of ${key.kid} again`);
    ring.set(key.kid, key);
    seen.add(bytes);
  }
  const all = [...ring.values()];
  if (all.every(({ alg }) => alg === 'HMAC')) return ring;
  for (const { alg, key, kid } of all) {
    const seed = key.reveal();
    if (alg !== 'HMAC' || seed.length !== KEY_BYTES) continue;
    if (seen.has(hex(await ed25519PublicKey(seed)))) throw unusable(`no seed, got that of ${kid}`);
  }
  return ring;
}

/** Compare texts in a time that depends on their lengths alone. */
function areEqual(expected: string, given: string): boolean {
  let difference = expected.length ^ given.length;
  for (let i = 0; i < expected.length; i++) {
    difference |= expected.charCodeAt(i) ^ given.charCodeAt(i);
  }
  return difference === 0;
}

/**
 * Refuse a signature that is not the one of `digest` under `key`.
 *
 * Throws SignatureError `signature_malformed` or `signature_invalid` (spec/canonical.md 3.8(3)).
 */
export async function checkSignature(key: Key, digest: Uint8Array, sig: string): Promise<void> {
  const { alg } = key;
  const bytes = key.key.reveal();
  if (alg === 'HMAC' && areEqual(base64(hmacSha256(bytes)(digest)), sig)) return;
  const raw = fromBase64(sig);
  const pointer = '/sig';
  if (raw?.length !== SIGNATURE_BYTES[alg]) {
    const expected = `${SIGNATURE_BYTES[alg]} bytes in canonical base64`;
    throw new SignatureError('signature_malformed', `sig: expected ${expected}`, { pointer });
  }
  if (alg === 'Ed25519' && (await ed25519Holds(bytes, digest, raw))) return;
  throw new SignatureError('signature_invalid', 'sig: expected that of this record', { pointer });
}
