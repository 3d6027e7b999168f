/**
 * Own the one tree of errors.
 *
 *     FractalLBAError
 *     +-- ConfigError       an option is wrong
 *     +-- ValidationError   a record, or its text, is outside the specification
 *     +-- SignatureError    a key or a signature is wrong
 *     +-- ProofError        a receipt or its proof does not hold
 *     +-- OutboxError       the durable outbox cannot take or keep an entry
 *     +-- CancelledError    the caller cancelled
 *     +-- ConnectionError   no answer: the network
 *     +-- TimeoutError      no answer in time
 *     +-- APIError          the server refused
 *         +-- AuthError 401 403      +-- NotFoundError 404     +-- ConflictError 409
 *         +-- RateLimitError 429     +-- UnavailableError 503
 *
 * The closed list of codes is in `codes`. A program that needs to tell errors apart reads `code`;
 * the class is a coarser choice, and `isFractalLBAError` holds for two copies of this package.
 */

export type Fault = 'caller' | 'server' | 'network';

/** The facts an error can carry, under the same names in every error. */
export interface ErrorFields {
  /** The JSON pointer (RFC 6901) of the member at fault. */
  readonly pointer?: string | undefined;
  readonly status?: number | undefined;
  readonly requestId?: string | undefined;
  readonly retryAfterMs?: number | undefined;
  readonly attempts?: number | undefined;
  /** Header fields of the response, by lower-case name. */
  readonly headers?: Readonly<Record<string, string>> | undefined;
  readonly body?: Uint8Array | undefined;
  readonly fault?: Fault | undefined;
  /** Why no further attempt was made (spec/retry.md 1-9). */
  readonly stop?: string | undefined;
  /** Whether the outbox keeps the record and will send it again. */
  readonly queued?: boolean | undefined;
  readonly cause?: unknown;
}

const BRAND = Symbol.for('fractal-lba.error');

/** Carry one code of the closed list and the facts of the exchange that led to it. */
export class FractalLBAError extends Error {
  override name = 'FractalLBAError';
  readonly [BRAND] = true;
  declare readonly pointer?: string;
  declare readonly status?: number;
  declare readonly requestId?: string;
  declare readonly retryAfterMs?: number;
  declare stop?: string;
  readonly fault: Fault = 'caller';
  readonly headers: Readonly<Record<string, string>> = {};
  readonly body = new Uint8Array();
  attempts = 0;
  queued = false;

  constructor(
    readonly code: string,
    what: string,
    fields: ErrorFields = {},
  ) {
    const { requestId } = fields;
    super(`${code}: ${what}${requestId ? ` (request ${requestId})` : ''}`, fields);
    Object.assign(this, fields);
    // No text form of an error shows what a server said (formats 12.12).
    const hidden = { enumerable: false };
    Object.defineProperties(this, { headers: hidden, body: hidden });
  }
}

/** Say whether a value is an error of this package, of this copy of it or another. */
export function isFractalLBAError(value: unknown): value is FractalLBAError {
  return !!(value as FractalLBAError | null | undefined)?.[BRAND];
}

export class ConfigError extends FractalLBAError {
  override name = 'ConfigError';
}

export class ValidationError extends FractalLBAError {
  override name = 'ValidationError';
}

export class SignatureError extends FractalLBAError {
  override name = 'SignatureError';
}

export class ProofError extends FractalLBAError {
  override name = 'ProofError';
}

export class OutboxError extends FractalLBAError {
  override name = 'OutboxError';
}

export class CancelledError extends FractalLBAError {
  override name = 'CancelledError';
}

export class ConnectionError extends FractalLBAError {
  override name = 'ConnectionError';
}

export class TimeoutError extends FractalLBAError {
  override name = 'TimeoutError';
}

export class APIError extends FractalLBAError {
  override name = 'APIError';
}

export class AuthError extends APIError {
  override name = 'AuthError';
}

export class NotFoundError extends APIError {
  override name = 'NotFoundError';
}

export class ConflictError extends APIError {
  override name = 'ConflictError';
}

export class RateLimitError extends APIError {
  override name = 'RateLimitError';
}

export class UnavailableError extends APIError {
  override name = 'UnavailableError';
}

const MAX_SHOWN_CHARACTERS = 80;

const said = (what: string, expected: string, got: unknown): string => {
  const shown = typeof got === 'object' ? 'an object' : String(got).slice(0, MAX_SHOWN_CHARACTERS);
  return `${what}: expected ${expected}, got ${shown}`;
};

/** Build the error of an option that is wrong: what it is, what was expected, what came. */
export function configError(name: string, expected: string, got?: unknown): ConfigError {
  return new ConfigError('config_invalid', said(name, expected, got));
}

/** Build the error of the member at `pointer`. */
export function invalid(
  code: string,
  pointer: string,
  expected: string,
  got?: unknown,
): ValidationError {
  return new ValidationError(code, said(pointer.slice(1) || 'JSON', expected, got), { pointer });
}
