/** The options of a client: what they are, their defaults, and the checks of its constructor. */

import type { Bounds } from './call.js';
import { type Clock, type Random, systemClock } from './clock.js';
import type { ClientOutbox } from './courier.js';
import { type Endpoint, type FailoverPolicy, type Fleet, fleetOf } from './endpoints.js';
import { configError } from './errors.js';
import type { Hooks, Logger } from './hooks.js';
import { checkTenant, userAgent } from './http.js';
import { LEVELS, type Level } from './outcome.js';
import { MAX_RESPONSE_BYTES, MAX_RESPONSE_HEADERS } from './response.js';
import { checkInteger, type RetryPolicy, retryPolicy } from './retry.js';
import { MAX_RECORD_BYTES } from './scanner.js';
import { Secret } from './secret.js';
import { checkVersion2 } from './sign.js';
import type { Signer } from './signers.js';
import { fetchTransport, type Transport } from './transport.js';

/** Default of how many records one `submitMany` has in flight. */
export const CONCURRENCY = 16;

/** Default of how many calls of one client are in flight; more callers queue. */
export const MAX_IN_FLIGHT = 64;

/** The read token of a tenant, or a function that gives it for each call. */
export type Token = Secret | string | (() => Secret | string | Promise<Secret | string>);

/** The options of a client. Zero is a value; undefined is the default. */
export interface ClientOptions {
  /** In order of preference; https, or http on loopback. */
  readonly endpoints: string | Endpoint | readonly (string | Endpoint)[];
  /** null: only records that carry `sig` are accepted. */
  readonly signer: Signer | null;
  /** Sent as `X-Tenant-Id`; signatures of version 2 need it. */
  readonly tenant?: string | undefined;
  /** 2 signs the whole record, 1 eight members of it. */
  readonly sigVersion?: 1 | 2 | undefined;
  readonly token?: Token | undefined;
  readonly retry?: 'default' | 'none' | Partial<RetryPolicy> | undefined;
  /** For an own transport; `fetch` has no connect phase, the attempt bound covers it. 5 s. */
  readonly connectTimeoutMs?: number | undefined;
  /** 10 s. */
  readonly attemptTimeoutMs?: number | undefined;
  /** Covers retries and waits; 60 s. */
  readonly totalTimeoutMs?: number | undefined;
  /**
   * The level to reach; `durable` is what every server does. Without an outbox a call waits for it.
   * With one, which has `durable` or `replicated`, an entry is released when it is reached.
   */
  readonly durability?: Level | undefined;
  /** What `openOutbox` of `./outbox-node` gave. */
  readonly outbox?: ClientOutbox | undefined;
  readonly failover?: Partial<FailoverPolicy> | undefined;
  /** Records in flight of one `submitMany`; 16. */
  readonly concurrency?: number | undefined;
  /** Calls in flight of this client; 64, and more callers queue. */
  readonly maxInFlight?: number | undefined;
  /** For an own transport, as is the next; `fetch` pools connections by rules of its own. 60 s. */
  readonly connectionMaxAgeMs?: number | undefined;
  /** 30 s. */
  readonly connectionIdleMs?: number | undefined;
  readonly maxRecordBytes?: number | undefined;
  readonly maxResponseBytes?: number | undefined;
  readonly maxResponseHeaders?: number | undefined;
  /** At most 24 characters behind the name of this package in `User-Agent`. */
  readonly app?: string | undefined;
  readonly transport?: Transport | undefined;
  readonly clock?: Clock | undefined;
  readonly random?: Random | undefined;
  readonly logger?: Logger | undefined;
  readonly hooks?: Hooks | undefined;
}

/** Options of one call. */
export interface CallOptions {
  readonly signal?: AbortSignal | undefined;
  readonly durability?: Level | undefined;
  readonly totalTimeoutMs?: number | undefined;
}

/** The options of a client, complete and checked. */
export interface Settings {
  readonly fleet: Fleet;
  readonly signer: Signer | null;
  readonly tenant: string | undefined;
  readonly sigVersion: 1 | 2;
  readonly token: Token | undefined;
  readonly bounds: Bounds;
  readonly totalTimeoutMs: number;
  readonly durability: Level;
  readonly outbox: ClientOutbox | undefined;
  readonly concurrency: number;
  readonly maxInFlight: number;
  readonly maxRecordBytes: number;
  readonly agent: string;
  readonly transport: Transport;
  readonly clock: Clock;
  readonly random: Random;
  readonly logger: Logger | undefined;
  readonly hooks: Hooks;
}

const RETRY_NAMES = 'maxAttempts waitBaseMs waitMaxMs retryAfterMaxMs';
const FAILOVER_NAMES =
  'downAfter upAfter probeIntervalMs probeTimeoutMs failbackAfterMs allowedRegions redirectHops';

/** Refuse what is no object, and names that nobody reads: a misspelt option is not ignored. */
function checkNames(what: string, given: unknown = {}, names: string): void {
  if (Object(given) !== given) throw configError(what, 'an object', given);
  for (const name in given as object) {
    if (!names.split(' ').includes(name)) throw configError(what, names || 'known names', name);
  }
}

/** Check a number of milliseconds; zero is none, as is infinity. */
export function milliseconds(name: string, value: number): number {
  if (!Number.isFinite(value) || value <= 0) {
    throw configError(name, 'a number of milliseconds above 0', value);
  }
  return Math.max(1, Math.trunc(value));
}

/** Check a durability level; an outbox has no proofs, and `usual` for all calls of its client. */
export function checkLevel(level: Level, outbox?: ClientOutbox, usual?: Level): Level {
  const known = outbox ? (usual ? [usual] : LEVELS.slice(0, 2)) : LEVELS;
  if (!known.includes(level)) {
    throw configError('durability', outbox ? `${known} with an outbox` : `${known}`, level);
  }
  return level;
}

/** Give the present read token. */
export async function tokenOf(given: Token | undefined): Promise<Secret | undefined> {
  const text = typeof given === 'function' ? await given() : given;
  return typeof text === 'string' ? new Secret(text) : text;
}

/** Counts that have a largest value: what a server takes, and what a response may have. */
const MOST: Readonly<Record<string, number>> = {
  maxRecordBytes: MAX_RECORD_BYTES,
  maxResponseHeaders: MAX_RESPONSE_HEADERS,
};

function checkCounts(counts: Readonly<Record<string, number>>): void {
  for (const [name, value] of Object.entries(counts)) checkInteger(name, value, 1, MOST[name]);
}

/** Complete and check the options of a client. Throws ConfigError `config_invalid`. */
export function settingsOf(options: ClientOptions): Settings {
  const {
    endpoints,
    signer,
    tenant,
    sigVersion = 2,
    token,
    retry,
    connectTimeoutMs = 5_000,
    attemptTimeoutMs = 10_000,
    totalTimeoutMs = 60_000,
    durability = LEVELS[0],
    outbox,
    failover,
    concurrency = CONCURRENCY,
    maxInFlight = MAX_IN_FLIGHT,
    connectionMaxAgeMs = 60_000,
    connectionIdleMs = 30_000,
    maxRecordBytes = MAX_RECORD_BYTES,
    maxResponseBytes = MAX_RESPONSE_BYTES,
    maxResponseHeaders = MAX_RESPONSE_HEADERS,
    app,
    transport = fetchTransport({ maxResponseBytes, maxResponseHeaders }),
    clock = systemClock,
    random = Math.random,
    logger,
    hooks = {},
    ...unknown
  } = options;
  checkNames('option', unknown, '');
  checkNames('retry', typeof retry === 'string' ? {} : retry, RETRY_NAMES);
  checkNames('failover', failover, FAILOVER_NAMES);
  if ([endpoints].flat().some((each) => !each)) throw configError('endpoints', 'URLs');
  checkTenant(tenant);
  if (sigVersion !== 1 && sigVersion !== 2) throw configError('sigVersion', '1 or 2', sigVersion);
  if (signer === undefined) throw configError('signer', 'a signer, or null');
  if (signer && sigVersion === 2) checkVersion2(signer, tenant);
  checkCounts({ concurrency, maxInFlight, maxResponseBytes, maxRecordBytes, maxResponseHeaders });
  milliseconds('connectionMaxAgeMs', connectionMaxAgeMs);
  milliseconds('connectionIdleMs', connectionIdleMs);
  const bounds = {
    retry: retryPolicy(retry),
    connectTimeoutMs: milliseconds('connectTimeoutMs', connectTimeoutMs),
    attemptTimeoutMs: milliseconds('attemptTimeoutMs', attemptTimeoutMs),
    maxResponseBytes,
    maxResponseHeaders,
  };
  return {
    fleet: fleetOf(endpoints, failover),
    signer,
    tenant,
    sigVersion,
    token,
    bounds,
    totalTimeoutMs: milliseconds('totalTimeoutMs', totalTimeoutMs),
    durability: checkLevel(durability, outbox),
    outbox,
    concurrency,
    maxInFlight,
    maxRecordBytes,
    agent: userAgent(app),
    transport,
    clock,
    random,
    logger,
    hooks,
  };
}
