/// <reference lib="esnext.disposable" preserve="true" />
/**
 * The client: promises, signals and `fetch` around the calls of `call`.
 *
 *     const client = new FractalLBAClient({ endpoints: 'https://eu.example', signer, tenant });
 *     const submitted = await client.submit(record);
 *
 * A client object holds no decision of its own: it builds a call and steps it. Its constructor
 * checks the options and does no I/O. `close` ends every wait and every call with the code
 * `cancelled`.
 */

import {
  type Answer,
  type Call,
  type Effect,
  type EndpointHealth,
  exchange,
  type Frozen,
  getSpec,
  type Probe,
  probeEnded,
  type Run,
  readHealth,
  type Spec,
  type State,
  submitSpec,
  type Turn,
} from './call.js';
import { errorFor } from './codes.js';
import type { Courier } from './courier.js';
import { configError, type FractalLBAError, invalid, isFractalLBAError } from './errors.js';
import { type ClientEvent, reporter } from './hooks.js';
import { healthRequest, type RawResponse, type Request } from './http.js';
import { checkPcsId } from './ids.js';
import { isObject, jcs } from './jcs.js';
import { inOrder } from './many.js';
import {
  type CallOptions,
  type ClientOptions,
  checkLevel,
  milliseconds,
  type Settings,
  settingsOf,
  tokenOf,
} from './options.js';
import type { OutboxStats } from './outbox.js';
import { LEVELS, type Level, type Outcome, type Submitted } from './outcome.js';
import { type PcsRecord, signedRecord, withId } from './record.js';
import { checkRecord } from './recordCheck.js';
import { checkInteger, QUOTA_FULL } from './retry.js';
import type { Members } from './scanner.js';
import { type SignedRecord, sign } from './sign.js';
import { follow } from './signals.js';
import { cancelled } from './transport.js';

/** How long `health` waits for an endpoint. */
export const HEALTH_TIMEOUT_MS = 2_000;

/** How often a call that waits for a place looks at its deadline. */
const ENTER_POLL_MS = 20;

/** One answer of `submitMany`: the place of the record, and a result or an error. */
export type Item =
  | { readonly index: number; readonly result: Submitted; readonly error?: undefined }
  | { readonly index: number; readonly result?: undefined; readonly error: FractalLBAError };

/** Options of one `submitMany`. */
export interface ManyOptions extends CallOptions {
  readonly concurrency?: number | undefined;
}

/** What can be submitted: a record, signed or not; a `pcs_id` that is absent is derived. */
export type AnyRecord = (Omit<PcsRecord, 'pcs_id'> & { readonly pcs_id?: string }) | SignedRecord;

/** Submit records and read outcomes. */
export class FractalLBAClient {
  declare [Symbol.asyncDispose]: () => Promise<void>;

  readonly #settings: Settings;
  readonly #state: State;
  readonly #tell: (event: ClientEvent) => void;
  readonly #courier: Courier | undefined;
  readonly #closing = new AbortController();
  readonly #tasks = new Set<Promise<unknown>>();
  readonly #queue = new Set<() => void>();
  #freePlaces: number;

  constructor(options: ClientOptions) {
    const settings = settingsOf(options);
    const { fleet, hooks, logger, outbox } = settings;
    this.#settings = settings;
    this.#state = { fleet, quota: QUOTA_FULL, probing: new Set(), takesBatches: true };
    this.#tell = reporter(hooks, logger);
    this.#freePlaces = settings.maxInFlight;
    this.#courier = outbox?.courier({
      settings,
      state: this.#state,
      tell: this.#tell,
      sign: (members) => this.#sign(members),
      exchange: (spec, deadlineMs) => this.#exchange(spec, deadlineMs),
      single: (...args) => this.#single(...args),
      drive: (call, signal) => this.#drive(call, signal),
      spawn: (work) => this.#spawn(work),
      closing: this.#closing.signal,
    });
  }

  // --- calls ---------------------------------------------------------------------------------

  /**
   * Sign a copy of the record, send it, and give the recorded outcome.
   *
   * With an outbox the record is durable before the first attempt; if the call then stops, the
   * error says by `queued` that the outbox goes on with it. Whether the record was accepted is in
   * `outcome.accepted`: an escalated one is recorded too.
   */
  async submit(record: AnyRecord, options: CallOptions = {}): Promise<Submitted> {
    const { signal, totalTimeoutMs, durability } = options;
    const { tenant, outbox, durability: usual } = this.#settings;
    const deadlineMs = this.#deadlineMs(totalTimeoutMs);
    this.#refuseCancelled(signal);
    const level = durability === undefined ? usual : checkLevel(durability, outbox, usual);
    const signed = await this.#prepare(record);
    this.#refuseCancelled(signal); // a signer may take long, and what is cancelled is not kept
    const asked = outbox ? LEVELS[0] : level;
    const attempt = () => this.#single(signed, tenant, deadlineMs, asked);
    this.#courier?.start();
    return this.#drive(this.#courier ? this.#courier.submit(signed, attempt) : attempt(), signal);
  }

  /**
   * Submit records beside each other; yield their answers in the order of the input.
   *
   * The input is read lazily, at most twice `concurrency` ahead. A record that fails is an `Item`
   * with an error; after a cancel the rest is marked `cancelled`. If the input itself throws, that
   * is thrown after the answers to what it gave.
   */
  submitMany(
    records: Iterable<AnyRecord> | AsyncIterable<AnyRecord>,
    options: ManyOptions = {},
  ): AsyncGenerator<Item, void, undefined> {
    const { concurrency = this.#settings.concurrency, signal, ...bounds } = options;
    checkInteger('concurrency', concurrency, 1);
    const stop = new AbortController();
    let letGo: (() => unknown) | undefined;
    const work = async (record: AnyRecord, index: number): Promise<Item> => {
      letGo ??= follow(stop, signal);
      try {
        return { index, result: await this.submit(record, { ...bounds, signal: stop.signal }) };
      } catch (error) {
        if (isFractalLBAError(error)) return { index, error };
        throw error;
      }
    };
    return inOrder(records, work, concurrency, () => {
      letGo?.();
      stop.abort();
    });
  }

  /**
   * Read the outcome of a record of this tenant; it needs the read token.
   *
   * Throws NotFoundError if the tenant has no such record, never gives undefined.
   */
  async get(pcsId: string, options: Omit<CallOptions, 'durability'> = {}): Promise<Outcome> {
    const { signal, totalTimeoutMs } = options;
    const { agent, tenant, token: given } = this.#settings;
    this.#refuseCancelled(signal);
    const deadlineMs = this.#deadlineMs(totalTimeoutMs);
    const token = await tokenOf(given);
    const spec = getSpec(pcsId, { agent, tenant, token });
    return this.#drive(this.#exchange(spec, deadlineMs), signal);
  }

  /** Ask every endpoint at once whether it takes writes now; a sick one never throws. */
  health(options: Pick<CallOptions, 'signal'> = {}): Promise<EndpointHealth[]> {
    const { agent, clock } = this.#settings;
    return Promise.all(
      this.#state.fleet.endpoints.map((endpoint) =>
        this.#stoppable(options.signal, async (stop) => {
          const request = healthRequest(endpoint.url, { agent });
          const answer = await this.#send(request, HEALTH_TIMEOUT_MS, HEALTH_TIMEOUT_MS, stop);
          return readHealth(endpoint, answer, clock.nowMs());
        }),
      ),
    );
  }

  /** Do what `submit` does. */
  submitPCS(record: AnyRecord, options?: CallOptions): Promise<Submitted> {
    return this.submit(record, options);
  }

  /** Do what `health` does. */
  healthCheck(options?: Pick<CallOptions, 'signal'>): Promise<EndpointHealth[]> {
    return this.health(options);
  }

  // --- with an outbox ------------------------------------------------------------------------

  /** Sign a record and keep it in the outbox; done when it is durable, with its entry. */
  async enqueue(record: AnyRecord): Promise<string> {
    this.#refuseCancelled();
    const courier = this.#needCourier();
    const signed = await this.#prepare(record);
    this.#refuseCancelled();
    courier.start();
    return this.#drive(courier.enqueue(signed));
  }

  /**
   * Send what waits in the outbox, until nothing is left that may be sent, or in vain.
   *
   * Pauses end: refused credentials are tried again. What a server asked to come later is not
   * sent before that. Gives what the outbox still holds.
   */
  async flush(timeoutMs: number): Promise<OutboxStats> {
    const courier = this.#needCourier();
    const deadlineMs = this.#deadlineMs(timeoutMs);
    this.#refuseCancelled();
    return courier.flush(deadlineMs);
  }

  /**
   * Sign the waiting entries of one key again with the present signer; count them.
   *
   * What they say does not change, and a record that did arrive is answered as a duplicate.
   */
  async resign(kid: string | undefined): Promise<number> {
    return this.#needCourier().resign(kid);
  }

  // --- ending --------------------------------------------------------------------------------

  /** End every wait and call with `cancelled`. The outbox and an own transport stay open. */
  async close(): Promise<void> {
    this.#closing.abort();
    this.#courier?.wake();
    await Promise.allSettled(this.#tasks);
    this.#courier?.close();
  }

  // --- records -------------------------------------------------------------------------------

  /** Check and sign a copy of a record; a signed one stays as it is. */
  async #prepare(record: AnyRecord): Promise<SignedRecord> {
    const signed = isSigned(record) ? record : await this.#sign(membersOf(record));
    const { maxRecordBytes } = this.#settings;
    checkPcsId(signed.record);
    const { length } = signed.body;
    if (length > maxRecordBytes) {
      throw invalid('payload_too_large', '', `at most ${maxRecordBytes} bytes`, length);
    }
    return signed;
  }

  async #sign(members: Members): Promise<SignedRecord> {
    const { signer, sigVersion, tenant } = this.#settings;
    if (signer) return sign(members, signer, { sigVersion, tenant });
    if (!('sig' in members)) {
      throw invalid('member_missing', '', 'sig, because the client has no signer');
    }
    return signedRecord(jcs(members));
  }

  // --- the shell -----------------------------------------------------------------------------

  #needCourier(): Courier {
    if (!this.#courier) throw configError('outbox', 'a client with an outbox');
    return this.#courier;
  }

  #deadlineMs(totalTimeoutMs?: number): number {
    const { clock, totalTimeoutMs: usual } = this.#settings;
    const given = totalTimeoutMs === undefined ? usual : milliseconds('timeout', totalTimeoutMs);
    return clock.monotonicMs() + given;
  }

  #refuseCancelled(signal?: AbortSignal): void {
    if (this.#closing.signal.aborted || signal?.aborted) {
      throw Object.assign(cancelled(), { stop: 'cancelled' });
    }
  }

  #single(
    frozen: Frozen,
    tenant: string | undefined,
    deadlineMs: number,
    level: Level,
  ): Call<Submitted> {
    const minAck = level === LEVELS[0] ? undefined : level;
    const { agent } = this.#settings;
    return this.#exchange(submitSpec(frozen, { agent, tenant, minAck }), deadlineMs);
  }

  #exchange<T>(spec: Spec<T>, deadlineMs: number): Call<T> {
    const { bounds, agent } = this.#settings;
    return exchange(spec, this.#state, bounds, deadlineMs, agent);
  }

  /** Step a call to its end, carrying out what it yields. */
  #drive<T>(call: Call<T>, signal?: AbortSignal): Promise<T> {
    return this.#stoppable(signal, async (stop) => {
      const run: Run = { signal: stop, hasPlace: false, unsettled: [] };
      try {
        let step = call.next(undefined as never);
        while (!step.done) {
          const answer = await this.#perform(step.value, run);
          step = call.next(this.#turn(step.value, answer));
        }
        return step.value;
      } finally {
        if (run.hasPlace) this.#leave();
        await this.#courier?.abandon(run);
      }
    });
  }

  /** Run work that ends as soon as the signal aborts or the client is closed. */
  #stoppable<T>(signal: AbortSignal | undefined, work: (stop: AbortSignal) => Promise<T>) {
    const stop = new AbortController();
    const letGo = [follow(stop, signal), follow(stop, this.#closing.signal)];
    const task = work(stop.signal).finally(() => {
      for (const each of letGo) each();
      this.#tasks.delete(task);
    });
    this.#tasks.add(task);
    return task;
  }

  async #perform(effect: Effect, run: Run): Promise<Answer> {
    const { clock } = this.#settings;
    switch (effect.do) {
      case 'send': {
        const { request, connectTimeoutMs, attemptTimeoutMs } = effect;
        return this.#send(request, connectTimeoutMs, attemptTimeoutMs, run.signal);
      }
      case 'sleep':
        return (await clock.wait(effect.waitMs, run.signal)) ? cancelled() : undefined;
      case 'tell':
        this.#tell(effect.event);
        return undefined;
      case 'enter':
        return this.#enter(effect.deadlineMs, run);
      case 'probe':
        this.#spawn(this.#probe(effect));
        return undefined;
      default:
        return this.#courier?.perform(effect, run);
    }
  }

  #turn(effect: Effect, answer: Answer): Turn {
    const { clock, random } = this.#settings;
    const u = /send|enter|probe/.test(effect.do) ? random() : 0;
    return { nowMs: clock.nowMs(), monotonicMs: clock.monotonicMs(), u, answer };
  }

  async #send(
    request: Request,
    connectTimeoutMs: number,
    attemptTimeoutMs: number,
    signal: AbortSignal,
  ): Promise<RawResponse | FractalLBAError> {
    if (signal.aborted) return cancelled();
    // A transport that does not listen to the signal must not keep the call.
    let stop = (): void => {};
    const stopped = new Promise<FractalLBAError>((resolve) => {
      stop = () => resolve(cancelled());
      signal.addEventListener('abort', stop);
    });
    const bounds = { connectTimeoutMs, attemptTimeoutMs, signal };
    try {
      return await Promise.race([this.#settings.transport(request, bounds), stopped]);
    } catch (error) {
      if (isFractalLBAError(error)) return error;
      throw error;
    } finally {
      signal.removeEventListener('abort', stop);
    }
  }

  async #probe(effect: Probe): Promise<void> {
    const { endpoint, request, timeoutMs } = effect;
    await this.#stoppable(undefined, async (signal) => {
      const answer = await this.#send(request, timeoutMs, timeoutMs, signal);
      probeEnded(this.#state, endpoint, this.#turn(effect, answer));
    });
  }

  /** Wait for a place among the calls in flight; places pass on in the order of asking. */
  #enter(deadlineMs: number, run: Run): Promise<Answer> {
    return new Promise((resolve) => {
      const { clock } = this.#settings;
      const end = (answer?: Answer): void => {
        this.#queue.delete(take);
        clearInterval(timer);
        run.signal.removeEventListener('abort', stop);
        run.hasPlace = !answer;
        resolve(answer);
      };
      const take = (): void => end();
      const stop = (): void => end(cancelled());
      const look = (): void => {
        if (clock.monotonicMs() >= deadlineMs) {
          end(errorFor('deadline_exceeded', 'no place among the calls in flight'));
        }
      };
      let timer: ReturnType<typeof setInterval> | undefined;
      if (run.signal.aborted) return stop();
      if (this.#freePlaces) {
        this.#freePlaces--;
        return take();
      }
      timer = setInterval(look, ENTER_POLL_MS);
      this.#queue.add(take);
      run.signal.addEventListener('abort', stop);
    });
  }

  #leave(): void {
    const [next] = this.#queue;
    if (next) next();
    else this.#freePlaces++;
  }

  /** Let work go on beside the calls; `close` waits for it. */
  #spawn(work: Promise<unknown>): void {
    const { logger } = this.#settings;
    // Only foreign code can throw here: a transport of the caller, or a clock.
    const broken = (error: Error): void =>
      logger?.warn(`work beside the calls threw ${error.name}`);
    const task = work.catch(broken).finally(() => this.#tasks.delete(task));
    this.#tasks.add(task);
  }
}

const dispose = Symbol.asyncDispose as typeof Symbol.asyncDispose | undefined;
if (dispose) FractalLBAClient.prototype[dispose] = FractalLBAClient.prototype.close;

function isSigned(record: AnyRecord): record is SignedRecord {
  return (record as Partial<SignedRecord> | null)?.body instanceof Uint8Array;
}

/** Copy a record's members, with its derived id, and check them. */
function membersOf(record: unknown): Members {
  const members: unknown = isObject(record) ? withId(record) : record;
  checkRecord(members);
  return members;
}
