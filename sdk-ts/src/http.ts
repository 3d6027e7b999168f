/**
 * Build requests: values in, bytes out, no socket.
 *
 * This file owns header names and what may be logged.
 */

import { configError, invalid } from './errors.js';
import { HEX64 } from './rules.js';
import type { Secret } from './secret.js';

/** The version of this package; a test holds it equal to package.json. */
export const VERSION = '0.4.0';

/** Longest `app` that is appended to User-Agent. */
export const MAX_APP_CHARACTERS = 24;

export type HeaderFields = readonly (readonly [name: string, value: string])[];

/** One HTTP request as it goes out. */
export interface Request {
  readonly method: 'GET' | 'POST';
  readonly url: string;
  readonly headers: HeaderFields;
  readonly body?: Uint8Array;
}

/** One HTTP response as it came in. */
export interface RawResponse {
  readonly status: number;
  readonly headers: HeaderFields;
  readonly body: Uint8Array;
}

/** What can stand in a request beside its target; an undefined value is not sent. */
export interface RequestOptions {
  readonly agent?: string | undefined;
  readonly body?: Uint8Array | undefined;
  readonly contentType?: string | undefined;
  readonly tenant?: string | undefined;
  readonly token?: Secret | undefined;
  readonly idempotencyKey?: string | undefined;
  /** Counts from 1; a retry says which it is. */
  readonly attempt?: number | undefined;
  readonly minAck?: string | undefined;
  readonly traceparent?: string | undefined;
}

const HEADER_TEXT = /^[!-~]([ -~]*[!-~])?$/;

/** Give User-Agent: the SDK with its version, and the caller's `app`. */
export function userAgent(app?: string): string {
  const product = `fractal-lba-ts-sdk/${VERSION}`;
  if (app === undefined) return product;
  if (app.length > MAX_APP_CHARACTERS || !HEADER_TEXT.test(app)) {
    throw configError('app', `1 to ${MAX_APP_CHARACTERS} printable ASCII characters`);
  }
  return `${product} ${app}`;
}

/** Refuse a tenant that no server has: `config_invalid`. */
export function checkTenant(tenant: string | undefined): void {
  if (tenant !== undefined && !/^[\w.-]{1,64}$/.test(tenant)) {
    throw configError('tenant', '1 to 64 of A-Z a-z 0-9 . _ -');
  }
}

/** Build one request to a path of an endpoint (spec/formats.md 12.1, 12.2). */
export function buildRequest(
  method: 'GET' | 'POST',
  endpoint: string,
  path: string,
  options: RequestOptions = {},
): Request {
  const { agent = userAgent(), body, token, attempt = 1 } = options;
  const bearer = token && `Bearer ${String.fromCharCode(...token.reveal())}`;
  const headers: [string, string][] = [];
  const given: readonly (readonly [string, string | undefined])[] = [
    ['Accept', 'application/json, application/problem+json'],
    ['User-Agent', agent],
    ['Content-Type', body && (options.contentType ?? 'application/json')],
    ['X-Tenant-Id', options.tenant],
    ['Authorization', bearer],
    ['Idempotency-Key', options.idempotencyKey],
    ['X-Retry-Attempt', attempt > 1 ? `${attempt - 1}` : undefined],
    ['PCS-Min-Ack', options.minAck],
    ['traceparent', options.traceparent],
  ];
  for (const [name, value] of given) {
    if (value === undefined) continue;
    if (!HEADER_TEXT.test(value)) throw configError(name, 'printable ASCII');
    headers.push([name, value]);
  }
  const url = endpoint.replace(/\/+$/, '') + path;
  return body ? { method, url, headers, body } : { method, url, headers };
}

/** Build the submit of a signed body. It carries no token: the signature is one. */
export function submitRequest(
  endpoint: string,
  body: Uint8Array,
  idempotencyKey: string,
  options: RequestOptions = {},
): Request {
  return buildRequest('POST', endpoint, '/v1/pcs/submit', { ...options, body, idempotencyKey });
}

/** Build the reading of an outcome, which needs the tenant's read token. */
export function outcomeRequest(
  endpoint: string,
  pcsId: string,
  options: RequestOptions = {},
): Request {
  if (!HEX64.test(pcsId)) throw invalid('hex_invalid', '', 'a pcs_id of 64 characters 0-9 a-f');
  return buildRequest('GET', endpoint, `/v1/pcs/${pcsId}`, options);
}

/** Build `GET /health`: 200 only if the region takes writes now. */
export function healthRequest(endpoint: string, options: RequestOptions = {}): Request {
  return buildRequest('GET', endpoint, '/health', options);
}

// --- logs ------------------------------------------------------------------------------------

/** The only header names whose values may be logged. */
export const LOGGED_HEADERS: ReadonlySet<string> = /* @__PURE__ */ new Set(
  (
    'content-type content-length date retry-after x-request-id x-retry-attempt x-should-retry ' +
    'idempotency-key idempotency-replayed pcs-position pcs-level pcs-replicated'
  ).split(' '),
);

/** Index header fields by lower-case name; several of one name are joined by `, `. */
export function joinHeaders(fields: HeaderFields): Readonly<Record<string, string>> {
  const joined: Record<string, string> = Object.create(null);
  for (const [name, value] of fields) {
    const key = name.toLowerCase();
    joined[key] = key in joined ? `${joined[key]}, ${value}` : value;
  }
  return joined;
}

/** Keep the fields that may be logged, by lower-case name. */
export function loggableHeaders(fields: HeaderFields): Readonly<Record<string, string>> {
  return joinHeaders(fields.filter(([name]) => LOGGED_HEADERS.has(name.toLowerCase())));
}

/** Cut user-info, query and fragment from a URL. */
export function loggableUrl(url: string): string {
  return url.replace(/[?#].*/s, '').replace(/\/\/[^/]*@/, '//');
}
