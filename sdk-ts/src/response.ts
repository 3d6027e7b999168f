/**
 * Read responses: bytes in, values or an error out, no socket.
 *
 * This file owns the limits on a response, the step from problem+json to an error, and the format
 * of an outcome; anything outside it is `response_malformed`, never a guess (spec/formats.md 12).
 */

import { CODES, codeOfStatus, errorFor } from './codes.js';
import type { ErrorFields, FractalLBAError } from './errors.js';
import { type HeaderFields, joinHeaders, type RawResponse } from './http.js';
import { isObject } from './jcs.js';
import { isNumber } from './number.js';
import {
  ACCEPTING_REASONS,
  LEVELS,
  type Outcome,
  type Position,
  REFUSING_REASONS,
  type Submitted,
} from './outcome.js';
import { parseRetryAfter } from './retry.js';
import { type Members, parseValue } from './scanner.js';

/** Longest response body; over it is an error, not a truncation. */
export const MAX_RESPONSE_BYTES = 1024 * 1024;

/** Most header fields of one response. */
export const MAX_RESPONSE_HEADERS = 100;

/** Longest part of a problem's `detail` that goes into a message; the rest is in `body`. */
const MAX_DETAIL_CHARACTERS = 500;

/** A 2xx response whose size is within the limits; `headers` have lower-case names. */
export interface Response {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: Uint8Array;
  readonly requestId?: string | undefined;
}

/** Where a 421 or 423 points. */
export interface LeaderHint {
  readonly endpoint: string;
  readonly regionEpoch: number;
}

/**
 * Give a 2xx response, or throw the error that the response is.
 *
 * `nowMs` (Unix) is what a Retry-After date is measured against if the response has no Date. A
 * redirect is never followed: it is `response_malformed`.
 */
export function readResponse(
  raw: RawResponse,
  nowMs: number,
  maxBytes = MAX_RESPONSE_BYTES,
  maxHeaders = MAX_RESPONSE_HEADERS,
): Response {
  const { status, body } = raw;
  const headers = joinHeaders(raw.headers);
  const requestId = requestIdOf(headers['x-request-id']);
  const facts = { status, requestId, headers };
  if (raw.headers.length > maxHeaders || body.length > maxBytes) {
    const expected = `at most ${maxHeaders} headers and ${maxBytes} bytes`;
    throw errorFor('response_too_large', `response: expected ${expected}`, facts);
  }
  if (status >= 200 && status < 300) return { ...facts, body };
  if (status >= 400 && status < 600) throw refusal(raw, facts, nowMs);
  throw malformed({ ...facts, body }, 'a status of 2xx, 4xx or 5xx');
}

function malformed(response: Response, expected: string): FractalLBAError {
  const what = `response: expected ${expected}, with status ${response.status}`;
  return errorFor('response_malformed', what, response);
}

function requestIdOf(value: unknown): string | undefined {
  return typeof value === 'string' && /^[\w.-]{1,64}$/.test(value) ? value : undefined;
}

/** Turn a 4xx or 5xx into the error its problem+json names, or its status (formats 12.7). */
function refusal(raw: RawResponse, facts: ErrorFields, nowMs: number): FractalLBAError {
  const { status, body } = raw;
  const { code, detail, title, pointer, request_id, retry_after_ms } = problem(body);
  const after = raw.headers.filter(([name]) => name.toLowerCase() === 'retry-after');
  const waitsMs = [
    parseRetryAfter(
      after.map(([, value]) => value),
      facts.headers?.date,
      nowMs,
    ),
    askedMs(retry_after_ms),
  ].filter((waitMs) => waitMs !== undefined);
  const said = [detail, title].find((text) => text && typeof text === 'string');
  const shown = `${said ?? `the server answered ${status}`}`.replace(/\p{Cc}+/gu, ' ');
  const named = typeof code === 'string' && CODES.get(code)?.status ? code : codeOfStatus(status);
  return errorFor(named, shown.slice(0, MAX_DETAIL_CHARACTERS), {
    ...facts,
    body,
    requestId: facts.requestId ?? requestIdOf(request_id),
    pointer: typeof pointer === 'string' ? pointer : undefined,
    retryAfterMs: waitsMs.length ? Math.max(...waitsMs) : undefined,
  });
}

/** Read a problem; one that cannot be read has no members, and the status decides. */
function problem(body: Uint8Array): Members {
  try {
    const members = parseValue(body, body.length);
    return isObject(members) ? members : {};
  } catch {
    return {};
  }
}

/** Read `retry_after_ms` as one more Retry-After, bounded as those are (retry 22, 42). */
function askedMs(value: unknown): number | undefined {
  const bounded = typeof value === 'bigint' && value > 0 ? Number.MAX_SAFE_INTEGER : value;
  return isNatural(bounded) ? bounded : undefined;
}

function isNatural(value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) >= 0;
}

/** Read where a 421 or 423 points. Whether to follow is for `hinted` to say. */
export function leaderHint({ status, body }: FractalLBAError): LeaderHint | undefined {
  const { leader_hint } = status === 421 || status === 423 ? problem(body) : {};
  const { endpoint, region_epoch: regionEpoch } = isObject(leader_hint) ? leader_hint : {};
  if (typeof endpoint !== 'string' || !isNatural(regionEpoch)) return undefined;
  return { endpoint, regionEpoch };
}

// --- outcomes --------------------------------------------------------------------------------

const flag = (value: unknown): boolean => typeof value === 'boolean';
const fits =
  (form: RegExp) =>
  (value: unknown): boolean =>
    typeof value === 'string' && form.test(value);
const upTo =
  (high: number) =>
  (value: unknown): boolean =>
    isNumber(value) && value >= 0 && value <= high;
const exactly =
  (shape: Readonly<Record<string, (value: unknown) => boolean>>) =>
  (value: unknown): value is Members =>
    isObject(value) &&
    Object.keys(value).every((name) => Object.hasOwn(shape, name)) &&
    Object.entries(shape).every(([name, isRight]) => isRight(value[name]));

const isOutcome = exactly({
  accepted: flag,
  escalated: flag,
  first_seen: exactly({ region: fits(/^[a-z0-9]{3}$/), hlc: fits(/^[0-9a-f]{16}$/) }),
  pcs_id: fits(/^[0-9a-f]{64}$/),
  policy_version: fits(/^[0-9a-f]{16}$/),
  reason: (value) => value === undefined || typeof value === 'string',
  recomputed_D_hat: upTo(3.5),
  recomputed_budget: upTo(1),
});

/** Read the outcome of `pcsId`. Throws APIError `response_malformed`. */
export function readOutcome(response: Response, pcsId: string): Outcome {
  let given: unknown;
  try {
    given = parseValue(response.body, response.body.length);
  } catch {
    // The check below refuses what could not be read.
  }
  if ((response.status !== 200 && response.status !== 202) || !isOutcome(given)) {
    throw malformed(response, 'an outcome');
  }
  const { accepted, escalated, first_seen, pcs_id, policy_version, reason } = given;
  const reasons = escalated ? (accepted ? ACCEPTING_REASONS : REFUSING_REASONS) : [undefined];
  if (pcs_id !== pcsId || !(escalated || accepted) || !reasons.includes(reason as never)) {
    throw malformed(response, `an outcome of ${pcsId} without contradiction`);
  }
  const { region, hlc } = first_seen as Outcome['firstSeen'];
  const outcome = {
    accepted,
    escalated,
    ...(escalated ? { reason } : {}),
    firstSeen: { region, hlc },
    pcsId,
    policyVersion: policy_version,
    recomputedDHat: Number(given.recomputed_D_hat),
    recomputedBudget: Number(given.recomputed_budget),
  };
  return outcome as Outcome;
}

const POSITION = /^([a-z0-9]{3})\/([a-z0-9-]{1,64})\/(0|[1-9]\d{0,9})\/(0|[1-9]\d{0,15})$/;

/** Read a position, or give undefined for any other value. */
export function positionOf(text: unknown): Position | undefined {
  const found = typeof text === 'string' && POSITION.exec(text);
  const [, region, placement, epoch, digits] = found || [];
  const [regionEpoch, seq] = [Number(epoch), Number(digits)];
  // A place that cannot be said exactly is no place.
  if (!region || !placement || !Number.isSafeInteger(seq)) return undefined;
  return { region, placement, regionEpoch, seq };
}

/** Read the watermark of any answer, or give undefined if it has none that is a position. */
export function watermarkOf(fields: HeaderFields): Position | undefined {
  return positionOf(joinHeaders(fields)['pcs-replicated']);
}

/** Read the answer to a submit: the outcome, and the facts of the exchange in headers. */
export function readSubmitted(response: Response, pcsId: string, attempts = 1): Submitted {
  const outcome = readOutcome(response, pcsId);
  const { headers } = response;
  const replayed = headers['idempotency-replayed'] ?? 'false';
  const level = LEVELS.find((each) => each === (headers['pcs-level'] ?? LEVELS[0]));
  const places = ['pcs-position', 'pcs-replicated'].map((name) => headers[name]);
  const [position, replicated] = places.map((text) => positionOf(text));
  const isPlaced = [position, replicated].every((found, at) => found || places[at] === undefined);
  if (!level || !/^(true|false)$/.test(replayed) || !isPlaced) {
    const names = 'Idempotency-Replayed, PCS-Level, PCS-Position and PCS-Replicated';
    throw malformed(response, `${names} in their formats`);
  }
  return {
    outcome,
    replayed: replayed === 'true',
    level,
    position,
    replicated,
    raw: { ...response, attempts },
  };
}
