/**
 * Decide what follows an attempt: wait so long, or stop for that reason (spec/retry.md).
 *
 * This file owns the retry table, the jitter, the reading of Retry-After and the retry quota. It
 * is pure: the clock and the random number are arguments, nothing sleeps. A stop is a value, not
 * a type of error.
 */

import { calendarMs } from './calendar.js';
import { configError, type FractalLBAError } from './errors.js';

/** Statuses after which the same bytes may be sent again; every other is final (retry 10). */
const RETRIED_STATUSES: readonly unknown[] = [408, 425, 429, 500, 502, 503, 504];

/** Failures of the network after which they may (retry 10). */
const RETRIED_CODES: readonly unknown[] = ['connect_failed', 'connection_lost', 'attempt_timeout'];

/** Most retry tokens a client holds, and what it starts with. */
export const QUOTA_FULL = 500;

/** Tokens one retry costs, so that sustained retries stay at 1/14 of the traffic. */
const RETRY_COST = 14;

/** Tokens a retry costs after a 429, or after a 503 that carries Retry-After. */
const ASKED_RETRY_COST = 5;

/** Say how often and how long to try. `maxAttempts: 1` means no retry. */
export interface RetryPolicy {
  readonly maxAttempts: number;
  readonly waitBaseMs: number;
  readonly waitMaxMs: number;
  /** Longest Retry-After that is honoured; a longer one ends the call. */
  readonly retryAfterMaxMs: number;
}

const DEFAULTS: RetryPolicy = {
  maxAttempts: 3,
  waitBaseMs: 500,
  waitMaxMs: 8_000,
  retryAfterMaxMs: 60_000,
};

/** Complete and check a policy: the default one, `none`, or own values. */
export function retryPolicy(given: 'default' | 'none' | Partial<RetryPolicy> = {}): RetryPolicy {
  const own = given === 'none' ? { maxAttempts: 1 } : given === 'default' ? {} : given;
  const policy = completed(DEFAULTS, own);
  for (const [name, value] of Object.entries(policy)) {
    checkInteger(name, value, name === 'maxAttempts' ? 1 : 0);
  }
  return policy;
}

/** Fill in defaults; undefined is the default, as where a member is absent. */
export function completed<T extends object>(defaults: T, given: Partial<T>): T {
  const own = Object.entries(given).filter(([, value]) => value !== undefined);
  return { ...defaults, ...Object.fromEntries(own) };
}

/** Refuse an option that is no integer of at least `low`: `config_invalid`. */
export function checkInteger(
  name: string,
  value: unknown,
  low: number,
  high = Number.MAX_SAFE_INTEGER,
): void {
  if (!Number.isSafeInteger(value) || (value as number) < low || (value as number) > high) {
    throw configError(name, `an integer from ${low} to ${high}`, value);
  }
}

/**
 * What one attempt came to, as far as a decision needs it.
 *
 * An answer has a `status`; no answer, or one that cannot be read, has a `code`. `sent` is false
 * only if no byte of the request has left.
 */
export interface Result {
  readonly status?: number | undefined;
  readonly code?: string | undefined;
  readonly retryAfterMs?: number | undefined;
  readonly shouldRetry?: boolean | undefined;
  readonly sent?: boolean | undefined;
}

/** Take from an error what decides. */
export function resultOf(error: FractalLBAError, sent = true): Result {
  const { status, code, retryAfterMs, headers } = error;
  // An answer that came but cannot be read: the code decides, not the status.
  const answered = status && !code.startsWith('response_');
  return {
    status,
    code: answered ? undefined : code,
    retryAfterMs,
    shouldRetry: parseShouldRetry(headers['x-should-retry']),
    sent,
  };
}

/** Say what the table says, before X-Should-Retry (retry 10). */
export function isRetryable({ code, status }: Result): boolean {
  return code === undefined ? RETRIED_STATUSES.includes(status) : RETRIED_CODES.includes(code);
}

export type StopReason =
  | 'success'
  | 'cancelled'
  | 'server_refused'
  | 'not_retryable'
  | 'attempts_exhausted'
  | 'retry_after_too_long'
  | 'deadline_exceeded'
  | 'quota_exhausted';

/** Try again after `waitMs`. `cost` is taken from `quota` already; keep it for the refund. */
export interface Wait {
  readonly waitMs: number;
  readonly quota: number;
  readonly cost: number;
  readonly stop?: undefined;
}

/** End the call. */
export interface Stop {
  readonly stop: StopReason;
  readonly quota: number;
}

/**
 * Decide what follows attempt number `attempt`, counted from 1 (retry 1-9).
 *
 * `u` lies in [0, 1). `alternate` says that the next attempt would go to another eligible
 * endpoint, which Retry-After does not bind. `taken` is the cost of the retry that `result`
 * answers; a success gives it back (retry 15).
 */
export function plan(
  policy: RetryPolicy,
  result: Result,
  attempt: number,
  u: number,
  nowMs: number,
  deadlineMs: number,
  quota: number,
  alternate: boolean,
  taken = 0,
): Wait | Stop {
  const { status = 0, code, retryAfterMs } = result;
  if (code === undefined && (status === 200 || status === 202)) {
    return { stop: 'success', quota: Math.min(quota + (attempt === 1 ? 1 : taken), QUOTA_FULL) };
  }
  if (code === 'cancelled') return { stop: code, quota };
  const wish = status >= 400 ? result.shouldRetry : undefined;
  if (wish === false) return { stop: 'server_refused', quota };
  if (!wish && !isRetryable(result)) return { stop: 'not_retryable', quota };
  if (attempt >= policy.maxAttempts) return { stop: 'attempts_exhausted', quota };
  const askedMs = alternate ? 0 : (retryAfterMs ?? 0);
  if (askedMs > policy.retryAfterMaxMs) return { stop: 'retry_after_too_long', quota };
  // 2^53 doublings are beyond every bound; more would make 0 * infinity of a base of 0.
  const boundMs = policy.waitBaseMs * 2 ** Math.min(attempt - 1, 53);
  const waitMs = askedMs + Math.floor(u * Math.min(boundMs, policy.waitMaxMs));
  if (nowMs + waitMs >= deadlineMs) return { stop: 'deadline_exceeded', quota };
  const asked = status === 429 || (status === 503 && retryAfterMs !== undefined);
  const cost = asked ? ASKED_RETRY_COST : RETRY_COST;
  if (quota < cost) return { stop: 'quota_exhausted', quota };
  return { waitMs, quota: quota - cost, cost };
}

// --- headers ---------------------------------------------------------------------------------

/** Read X-Should-Retry; anything but exactly `true` and `false` is absent (retry 12). */
export function parseShouldRetry(value: string | undefined): boolean | undefined {
  return value === 'true' || (value === 'false' ? false : undefined);
}

const MONTHS = 'JanFebMarAprMayJunJulAugSepOctNovDec';
const SECONDS = /^[ \t]*(-?)(\d+)(?:\.(\d{1,3})(\d*))?[ \t]*$/;

// The three forms of an HTTP date (retry 23).
const SHORT_DAY = '(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)';
const FULL_DAY = '(?:Mon|Tues|Wednes|Thurs|Fri|Satur|Sun)day';
const DAY = '(?<day>\\d\\d)';
const MONTH = '(?<month>[A-Z][a-z]{2})';
const TIME = '(?<time>\\d\\d:\\d\\d:\\d\\d)';
const DATES = [
  `${SHORT_DAY}, ${DAY} ${MONTH} (?<year>\\d{4}) ${TIME} GMT`,
  `${FULL_DAY}, ${DAY}-${MONTH}-(?<year>\\d\\d) ${TIME} GMT`,
  `${SHORT_DAY} ${MONTH} (?<day>[ \\d]\\d) ${TIME} (?<year>\\d{4})`,
].map((form) => new RegExp(`^[ \\t]*${form}[ \\t]*$`));

/** Read an HTTP date as Unix milliseconds; NaN for what is none. */
function dateMs(value: string, nowMs: number): number {
  for (const form of DATES) {
    const { day = '', month = '', year = '', time } = form.exec(value)?.groups ?? {};
    if (!day || !month || !year) continue;
    const number = MONTHS.indexOf(month) / 3 + 1;
    const date = [fullYear(year, nowMs), `${number}`.padStart(2, '0'), day.replace(' ', '0')];
    return calendarMs(`${date.join('-')}T${time}`);
  }
  return Number.NaN;
}

/** Complete two digits to a year at most 50 years from now (retry 24). */
function fullYear(year: string, nowMs: number): string {
  if (year.length > 2) return year;
  const thisYear = new Date(nowMs).getUTCFullYear();
  const full = thisYear - (thisYear % 100) + +year;
  return `${full > thisYear + 50 ? full - 100 : full}`;
}

/**
 * Read all Retry-After fields of a response; the largest counts (retry 21-26).
 *
 * A date is measured against `date`, the response's own clock, or `nowMs` (Unix) without it.
 * Negative and past are 0; what cannot be read is absent.
 */
export function parseRetryAfter(
  values: readonly string[],
  date: string | undefined,
  nowMs: number,
): number | undefined {
  const statedMs = date === undefined ? Number.NaN : dateMs(date, nowMs);
  const waitsMs = values.map((value) => {
    const [, sign, whole, thousandths = '', rest = ''] = SECONDS.exec(value) ?? [];
    if (whole === undefined)
      return dateMs(value, nowMs) - (Number.isNaN(statedMs) ? nowMs : statedMs);
    // Rounded up: never earlier than the server asked.
    return sign ? 0 : +(whole + thousandths.padEnd(3, '0')) + (/[1-9]/.test(rest) ? 1 : 0);
  });
  const readable = waitsMs.filter((waitMs) => !Number.isNaN(waitMs));
  if (!readable.length) return undefined;
  return Math.min(Math.max(0, ...readable), Number.MAX_SAFE_INTEGER);
}
