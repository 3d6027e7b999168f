/**
 * Ed25519 (RFC 8032) of the runtime's WebCrypto; where there is none, `ed25519_unavailable`.
 *
 * A check here is cofactorless and takes no S that is not below the order: what WebCrypto leaves
 * to an implementation does not decide whether a signature holds (spec/canonical.md 3.8(3)).
 */

import { SignatureError } from './errors.js';
import { hex } from './sha256.js';

const NAME = 'Ed25519';

// What stands before the 32 bytes of a seed in PKCS #8, the one private format of WebCrypto.
const PKCS8 = [48, 46, 2, 1, 0, 48, 5, 6, 3, 43, 101, 112, 4, 34, 4, 32];

async function offered<T>(task: (subtle: SubtleCrypto) => Promise<T>): Promise<T> {
  try {
    return await task(crypto.subtle);
  } catch (cause) {
    throw new SignatureError('ed25519_unavailable', 'runtime: expected Ed25519 in WebCrypto', {
      cause,
    });
  }
}

function imported(seed: Uint8Array, extractable: boolean): Promise<CryptoKey> {
  const pkcs8 = Uint8Array.of(...PKCS8, ...seed);
  return offered((subtle) => subtle.importKey('pkcs8', pkcs8, NAME, extractable, ['sign']));
}

/** Prepare a seed of 32 bytes for signing, when it is first asked for; it cannot be read back. */
export function ed25519Key(seed: Uint8Array): () => Promise<CryptoKey> {
  let key: Promise<CryptoKey> | undefined;
  return () => {
    key ??= imported(seed, false);
    return key;
  };
}

/** Give the 32 bytes to register with the server. */
export async function ed25519PublicKey(seed: Uint8Array): Promise<Uint8Array> {
  const { x = '' } = await crypto.subtle.exportKey('jwk', await imported(seed, true));
  const text = atob(x.replace(/-/g, '+').replace(/_/g, '/'));
  return Uint8Array.from(text, (character) => character.charCodeAt(0));
}

/** Say whether `signature` is that of `message` under a public key of 32 bytes. */
export async function ed25519Holds(
  publicKey: Uint8Array,
  message: Uint8Array,
  signature: Uint8Array<ArrayBuffer>,
): Promise<boolean> {
  // L of RFC 8032: a signature whose S is not below it has a twin.
  const order = 2n ** 252n + 27_742_317_777_372_353_535_851_937_790_883_648_493n;
  if (BigInt(`0x${hex(signature.slice(32).reverse())}`) >= order) return false;
  return offered(async (subtle) => {
    const key = await subtle.importKey('raw', publicKey as BufferSource, NAME, false, ['verify']);
    return subtle.verify(NAME, key, signature, message as BufferSource);
  });
}
