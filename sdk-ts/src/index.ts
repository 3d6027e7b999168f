/**
 * Sign Proof-of-Computation Summaries, submit them, and keep the answer.
 *
 *     import { FractalLBAClient, HmacSigner } from '@fractal-lba/client';
 *
 *     const client = new FractalLBAClient({ endpoints: 'https://eu.example', signer, tenant });
 *     const submitted = await client.submit(record);
 */

export type { EndpointHealth } from './call.js';
export {
  type AnyRecord,
  FractalLBAClient,
  type Item,
  type ManyOptions,
} from './client.js';
export { type Clock, type Random, systemClock } from './clock.js';
export type { ClientOutbox } from './courier.js';
export type { Endpoint, FailoverPolicy } from './endpoints.js';
export {
  APIError,
  AuthError,
  CancelledError,
  ConfigError,
  ConflictError,
  ConnectionError,
  type ErrorFields,
  type Fault,
  FractalLBAError,
  isFractalLBAError,
  NotFoundError,
  OutboxError,
  ProofError,
  RateLimitError,
  SignatureError,
  TimeoutError,
  UnavailableError,
  ValidationError,
} from './errors.js';
export type {
  AttemptEvent,
  FailoverEvent,
  Hooks,
  Logger,
  OutboxEvent,
  RetryEvent,
} from './hooks.js';
export type { HeaderFields, RawResponse, Request } from './http.js';
export { contentDigest, derivePcsId, idempotencyKey } from './ids.js';
export { jcs } from './jcs.js';
export type { CallOptions, ClientOptions, Token } from './options.js';
export type { Level, Outcome, Position, Raw, Reason, Submitted } from './outcome.js';
export {
  type Ft,
  type PcsInput,
  type PcsRecord,
  pcsRecord,
  pcsRecordFromJson,
  type Regime,
  signedRecord,
} from './record.js';
export { checkRecord } from './recordCheck.js';
export type { RetryPolicy, StopReason } from './retry.js';
export { type Members, parse } from './scanner.js';
export { Secret } from './secret.js';
export { type SignedRecord, type SignOptions, sign } from './sign.js';
export {
  type Algorithm,
  CallableSigner,
  Ed25519Signer,
  HmacSigner,
  hmacSignerFromEnv,
  type Signer,
  type SignerOptions,
} from './signers.js';
export {
  type AttemptOptions,
  type FetchOptions,
  fetchTransport,
  type Transport,
  transportError,
} from './transport.js';
