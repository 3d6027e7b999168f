/**
 * Own the closed list of error codes: their classes, faults and statuses.
 *
 * `spec/errors.json` holds the same list with a sentence for each; a test keeps the two equal.
 */

import {
  APIError,
  AuthError,
  CancelledError,
  ConfigError,
  ConflictError,
  ConnectionError,
  type ErrorFields,
  type Fault,
  FractalLBAError,
  NotFoundError,
  OutboxError,
  ProofError,
  RateLimitError,
  SignatureError,
  TimeoutError,
  UnavailableError,
  ValidationError,
} from './errors.js';

type ErrorClass = typeof FractalLBAError;

/** What the closed list says about one code. `status` is 0 for what no server sends. */
export interface CodeInfo {
  readonly kind: ErrorClass;
  readonly fault: Fault;
  readonly status: number;
}

// One class a line, in the order of TABLE. A number is the status of what follows it, a mark says
// that the fault is the server's. The first code of a status is that of a response without one.
const KINDS: readonly ErrorClass[] = [
  APIError,
  AuthError,
  NotFoundError,
  ConflictError,
  RateLimitError,
  UnavailableError,
  ConnectionError,
  TimeoutError,
  CancelledError,
  ConfigError,
  OutboxError,
  ProofError,
  ValidationError,
  SignatureError,
];
const TABLE =
  '!response_malformed !response_too_large 400 bad_request 405 method_not_allowed ' +
  '408 request_timeout 413 payload_too_large 415 unsupported_media_type 421 wrong_region ' +
  '!not_leader 422 unprocessable 423 !frozen 425 !too_early 431 header_too_large ' +
  '500 !internal 502 !bad_gateway 504 !gateway_timeout;' +
  '401 unauthorized 403 forbidden tenant_mismatch;' +
  '404 not_found;' +
  '409 pcs_id_conflict;' +
  '429 rate_limited;' +
  '503 !unavailable !not_primary;' +
  'connect_failed connection_lost tls_failed;' +
  'attempt_timeout deadline_exceeded;' +
  'cancelled;' +
  'config_invalid;' +
  'outbox_blocked outbox_corrupt outbox_expired outbox_full outbox_locked;' +
  '!checkpoint_invalid !proof_invalid !proof_malformed !quorum_not_met receipt_key_unknown ' +
  '!receipt_malformed !receipt_signature_invalid record_mismatch;' +
  '422 epoch_invalid hex_invalid member_missing member_type member_unknown number_not_finite ' +
  'number_out_of_range pcs_id_mismatch record_expired schema_unsupported string_length ' +
  '400 json_limit json_malformed member_duplicate string_surrogate;' +
  'ed25519_unavailable key_unusable 401 alg_mismatch key_inactive kid_unknown ' +
  'sig_version_unsupported signature_invalid signature_malformed';

const read = (): readonly [Map<string, CodeInfo>, Map<number, string>] => {
  const codes = new Map<string, CodeInfo>();
  const byStatus = new Map<number, string>();
  TABLE.split(';').forEach((row, index) => {
    const kind = KINDS[index] as ErrorClass;
    let status = 0;
    for (const word of row.split(' ')) {
      if (+word) {
        status = +word;
        continue;
      }
      const code = word.replace('!', '');
      const ours = kind === ConnectionError || kind === TimeoutError ? 'network' : 'caller';
      codes.set(code, { kind, fault: word === code ? ours : 'server', status });
      if (!byStatus.has(status)) byStatus.set(status, code);
    }
  });
  return [codes, byStatus];
};

const [BY_CODE, BY_STATUS] = /* @__PURE__ */ read();

/** The closed list, by code. */
export const CODES: ReadonlyMap<string, CodeInfo> = BY_CODE;

/** Give the code of an error response that names none, or none that is known (formats 12.7). */
export function codeOfStatus(status: number): string {
  return BY_STATUS.get(status) ?? (status < 500 ? 'bad_request' : 'internal');
}

/** Build the error of `code` with the class and the fault that the closed list names. */
export function errorFor(code: string, what: string, fields: ErrorFields = {}): FractalLBAError {
  const info = CODES.get(code);
  const fault = info?.fault ?? ((fields.status ?? 0) >= 500 ? 'server' : 'caller');
  return new (info?.kind ?? FractalLBAError)(code, what, { fault, ...fields });
}
