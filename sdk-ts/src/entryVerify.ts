/** The entry `./verify`: verify a record, and what that needs. */

export { type Canonical, canonicalize, payload } from './canonical.js';
export { ed25519PublicKey } from './ed25519.js';
export {
  AuthError,
  ConfigError,
  FractalLBAError,
  isFractalLBAError,
  SignatureError,
  ValidationError,
} from './errors.js';
export { derivePcsId } from './ids.js';
export { Key, type KeyOptions, type Keyring, keyring } from './keys.js';
export { type Members, parse } from './scanner.js';
export { Secret } from './secret.js';
export type { Algorithm } from './signers.js';
export { type Verified, type VerifyOptions, verify } from './verify.js';
