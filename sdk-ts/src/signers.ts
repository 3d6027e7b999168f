/**
 * Own what signs: the algorithms, what counts as a usable key, and the signers.
 *
 * A signer gets the 32-byte digest of a payload (spec/canonical.md 3.6). It shows its algorithm and
 * the name of its key, never the key.
 */

import { ed25519Key } from './ed25519.js';
import { configError, SignatureError } from './errors.js';
import { text } from './rules.js';
import { reveal, type Secret } from './secret.js';
import { hmacSha256 } from './sha256.js';

/** Length of a signature by algorithm; its names are the only spellings of `alg`. */
export const SIGNATURE_BYTES = { HMAC: 32, Ed25519: 64 } as const;

export type Algorithm = keyof typeof SIGNATURE_BYTES;

/** Length of an Ed25519 seed and public key, and shortest HMAC key unless a caller allows less. */
export const KEY_BYTES = 32;

/** Longest `kid` and `tenant_id`, in bytes of UTF-8 (spec/formats.md 1.12). */
export const MAX_NAME_BYTES = 64;

/** Sign 32-byte digests with one key. */
export interface Signer {
  readonly alg: Algorithm;
  /** The name under which the verifier knows the key. */
  readonly kid?: string | undefined;
  sign(digest: Uint8Array): Uint8Array | Promise<Uint8Array>;
}

export interface SignerOptions {
  readonly kid?: string | undefined;
  /** For tests. */
  readonly allowShortKey?: boolean | undefined;
}

/** Build the error of a key that does not fit its algorithm; it never shows the key. */
export function unusable(expected: string): SignatureError {
  return new SignatureError('key_unusable', `key: expected ${expected}`);
}

const [nameCodeOf, NAME_EXPECTED] = text(1, MAX_NAME_BYTES);

/** Refuse what can be no `kid` and no `tenant_id`: `config_invalid`. */
export function checkName(what: string, value: unknown): void {
  if (nameCodeOf(value)) throw configError(what, NAME_EXPECTED, value);
}

/** Refuse another spelling of an algorithm: `config_invalid`. */
export function checkAlgorithm(alg: Algorithm): void {
  if (!Object.hasOwn(SIGNATURE_BYTES, alg)) throw configError('alg', 'HMAC or Ed25519', alg);
}

/** Refuse key bytes of a length that does not fit the algorithm: `key_unusable`. */
export function checkKeyBytes(alg: Algorithm, key: Uint8Array, allowShortKey = false): Uint8Array {
  const { length } = key;
  if (length === KEY_BYTES || (alg === 'HMAC' && (length > KEY_BYTES || allowShortKey))) return key;
  throw unusable(`${KEY_BYTES} bytes, got ${length}`);
}

/** Sign through a function, for keys in a KMS or HSM; it gets the 32-byte digest. */
export class CallableSigner implements Signer {
  constructor(
    readonly alg: Algorithm,
    readonly kid: string | undefined,
    readonly sign: Signer['sign'],
  ) {
    checkAlgorithm(alg);
    if (kid !== undefined) checkName('kid', kid);
  }
}

const byCryptoKey =
  (alg: Algorithm, key: () => CryptoKey | Promise<CryptoKey>): Signer['sign'] =>
  async (digest) =>
    new Uint8Array(await crypto.subtle.sign(alg, await key(), digest as BufferSource));

/**
 * Sign with HMAC-SHA256. Key bytes are used verbatim, never trimmed or decoded; a `CryptoKey` must
 * be one for HMAC with SHA-256, and may be non-extractable.
 */
export class HmacSigner extends CallableSigner {
  constructor(key: Uint8Array | Secret | CryptoKey, { kid, allowShortKey }: SignerOptions = {}) {
    const sign =
      'algorithm' in key
        ? byCryptoKey('HMAC', () => key)
        : hmacSha256(checkKeyBytes('HMAC', reveal(key), allowShortKey));
    super('HMAC', kid, sign);
  }
}

/** Sign with Ed25519 (RFC 8032): a seed of 32 bytes, or a `CryptoKey`. */
export class Ed25519Signer extends CallableSigner {
  constructor(seed: Uint8Array | Secret | CryptoKey, { kid }: SignerOptions = {}) {
    const key =
      'algorithm' in seed ? () => seed : ed25519Key(checkKeyBytes('Ed25519', reveal(seed)));
    super('Ed25519', kid, byCryptoKey('Ed25519', key));
  }
}

/** Take an HMAC key from `PCS_HMAC_KEY` (hexadecimal) and its kid from `PCS_KID`. */
export function hmacSignerFromEnv(
  environ: Readonly<Record<string, string | undefined>>,
): HmacSigner {
  const { PCS_HMAC_KEY: digits, PCS_KID: kid } = environ;
  if (!digits) throw configError('PCS_HMAC_KEY', 'a key in hex, got none');
  if (!/^([\da-f]{2})+$/i.test(digits)) throw unusable('hex digits');
  const bytes = digits.replace(/../g, '0x$& ').trim().split(' ').map(Number);
  return new HmacSigner(Uint8Array.from(bytes), { kid: kid || undefined });
}
