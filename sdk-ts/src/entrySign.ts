/** The entry `./sign`: sign a record, and nothing else. */

export { type FractalLBAError, isFractalLBAError } from './errors.js';
export type { PcsInput, PcsRecord } from './record.js';
export type { Secret } from './secret.js';
export { type SignedRecord, type SignOptions, sign } from './sign.js';
export {
  type Algorithm,
  CallableSigner,
  Ed25519Signer,
  HmacSigner,
  type Signer,
  type SignerOptions,
} from './signers.js';
