/**
 * Tell the outside what happens: frozen events, the caller's hooks, and the log.
 *
 * A log line holds header values by allow-list, URLs without user-info and query, codes and
 * counts; never a body, a key, a token, a signature or a server's free text (formats 12.12).
 * A hook is foreign code: if it throws, or its promise is rejected, that is logged once and the
 * call goes on.
 */

import type { FractalLBAError } from './errors.js';

/** One request and what came of it. Headers are those that may be logged, in lower case. */
export interface AttemptEvent {
  readonly type: 'attempt';
  readonly call: string;
  readonly method: string;
  readonly url: string;
  readonly attempt: number;
  readonly elapsedMs: number;
  /** Absent if no answer came. */
  readonly status?: number | undefined;
  /** Absent on success. */
  readonly code?: string | undefined;
  readonly requestId?: string | undefined;
  readonly requestHeaders: Readonly<Record<string, string>>;
  readonly responseHeaders: Readonly<Record<string, string>>;
}

/** The decision to try again: `attempt` failed with `code`, the next one waits. */
export interface RetryEvent {
  readonly type: 'retry';
  readonly call: string;
  readonly attempt: number;
  readonly waitMs: number;
  readonly code: string;
}

/** The call goes to another endpoint. */
export interface FailoverEvent {
  readonly type: 'failover';
  readonly fromUrl: string;
  readonly toUrl: string;
}

/** What became of an outbox entry, or of the outbox itself if there is no `id`. */
export interface OutboxEvent {
  readonly type: 'outbox';
  readonly kind:
    | 'queued'
    | 'acknowledged'
    | 'outbox_held'
    | 'postponed'
    | 'dead'
    | 'requeued'
    | 'purged'
    | 'outbox_blocked'
    | 'outbox_corrupt';
  readonly id?: string | undefined;
  readonly code?: string | undefined;
}

/** The end of a call without a result. It is logged; there is no hook for it. */
export interface StopEvent {
  readonly type: 'stop';
  readonly call: string;
  readonly error: FractalLBAError;
}

export type ClientEvent = AttemptEvent | RetryEvent | FailoverEvent | OutboxEvent | StopEvent;

/** Functions that are called with each event while the call goes on. */
export interface Hooks {
  readonly onAttempt?: ((event: AttemptEvent) => unknown) | undefined;
  readonly onRetry?: ((event: RetryEvent) => unknown) | undefined;
  readonly onFailover?: ((event: FailoverEvent) => unknown) | undefined;
  readonly onOutbox?: ((event: OutboxEvent) => unknown) | undefined;
}

/** A logger of four methods, as `console` is; the client uses `debug` and `warn`. */
export interface Logger {
  debug(message: string): void;
  info(message: string): void;
  warn(message: string): void;
  error(message: string): void;
}

const HOOKS = {
  attempt: 'onAttempt',
  retry: 'onRetry',
  failover: 'onFailover',
  outbox: 'onOutbox',
  stop: '',
} as const;

/** Give the function that logs events and hands them to the hooks. */
export function reporter(hooks: Hooks, logger?: Logger): (event: ClientEvent) => void {
  const failed = new Set<unknown>();
  return (event) => {
    if (logger) logger[isLoud(event) ? 'warn' : 'debug'](line(event));
    const hook = hooks[HOOKS[event.type] as 'onAttempt'] as
      | ((event: ClientEvent) => unknown)
      | undefined;
    if (!hook) return;
    // By its name alone: the text of foreign code is not ours to log.
    const broken = (error?: Partial<Error>): void => {
      if (failed.has(hook)) return;
      failed.add(hook);
      logger?.warn(`a hook threw ${error?.name}; later ones are not logged`);
    };
    try {
      Promise.resolve(hook(Object.freeze(event))).catch(broken);
    } catch (error) {
      broken(error as Error);
    }
  };
}

function isLoud(event: ClientEvent): boolean {
  return event.type === 'stop' || (event.type === 'outbox' && /dead|_[bc]/.test(event.kind));
}

function line(event: ClientEvent): string {
  switch (event.type) {
    case 'attempt': {
      const { call, attempt, method, url, status, code, elapsedMs } = event;
      const [sent, got] = [event.requestHeaders, event.responseHeaders].map((each) =>
        JSON.stringify(each),
      );
      const what = `${call} attempt ${attempt} ${method} ${url} -> ${status ?? code}`;
      return `${what} in ${elapsedMs} ms, sent ${sent}, got ${got}`;
    }
    case 'retry': {
      const { call, attempt, code, waitMs } = event;
      return `${call} attempt ${attempt} failed with ${code}, waiting ${waitMs} ms`;
    }
    case 'failover':
      return `failover from ${event.fromUrl} to ${event.toUrl}`;
    case 'outbox': {
      const { kind, id, code = 'no code' } = event;
      return `outbox ${kind}: ${id ? `entry ${id}` : 'no entry'}, ${code}`;
    }
    case 'stop': {
      const { code, attempts, stop = 'no reason', status, requestId } = event.error;
      const answer = status ? `status ${status}` : 'no status';
      const request = requestId ? `request ${requestId}` : 'no request id';
      const what = `${event.call} stopped: ${code} after ${attempts} attempts`;
      return `${what} (${stop}), ${answer}, ${request}`;
    }
  }
}
