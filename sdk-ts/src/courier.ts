/**
 * Carry letters between a client and its outbox: what `deliver.ts` decides, carried out.
 *
 * An outbox brings its courier (`Outbox.courier`), so that the code of a client without an outbox
 * holds none of this. A courier ends with its client.
 */

import { batchSpec } from './batch.js';
import type { Answer, Call, Frozen, OutboxEffect, Run, Spec, State } from './call.js';
import {
  ask,
  byTenant,
  deliver,
  deliverBatch,
  enqueue,
  pump,
  signedOf,
  submitKept,
} from './deliver.js';
import { configError, type FractalLBAError, isFractalLBAError, OutboxError } from './errors.js';
import type { ClientEvent, OutboxEvent } from './hooks.js';
import { type Settings, tokenOf } from './options.js';
import { type Letter, type OutboxStats, sentAtMs } from './outbox.js';
import { LEVELS, type Level, type Position, type Submitted } from './outcome.js';
import { type RegionStatus, statusRequest } from './regionStatus.js';
import { type Members, parse } from './scanner.js';
import type { Due, Verdict } from './schedule.js';
import type { SignedRecord } from './sign.js';
import { cancelled } from './transport.js';

/** What a client asks of the outbox it is given; `openOutbox` of `./outbox-node` gives one. */
export interface ClientOutbox {
  /** Give the courier of one client. `Spool` does it by `new Courier(client, this)`. */
  courier(client: CourierClient): Courier;
}

/** What a courier asks of an outbox. */
export interface Mailbox {
  /** Whether a client delivers waiting entries by itself, or in `flush` alone. */
  readonly background: boolean;
  /** Report events to `tell`, and call `wake` when an entry becomes due. */
  listen(tell: (event: OutboxEvent) => void, wake: () => void): void;
  /** Keep a letter; done when it is durable, with its id. Throws OutboxError. */
  put(letter: Letter, nowMs: number, inFlight: boolean): Promise<Letter>;
  take(nowMs: number, limit: number, bytesMax: number): Promise<Due>;
  settle(id: string, verdict: Verdict, nowMs: number, u: number): Promise<void>;
  /** Take in how far a region is replicated. */
  hear(news: Position | RegionStatus): Promise<void>;
  /** Name the regions in which entries are held. */
  heldRegions(): ReadonlySet<string>;
  lettersOf(kid: string | undefined): Promise<Letter[]>;
  release(id: string, reason: string): Promise<void>;
  /** End all pauses and own waits, not those that a server asked for. */
  hurry(): void;
  stats(): OutboxStats;
}

/** What a client lends its courier. */
export interface CourierClient {
  readonly settings: Settings;
  readonly state: State;
  tell(event: ClientEvent): void;
  sign(members: Members): Promise<SignedRecord>;
  exchange<T>(spec: Spec<T>, deadlineMs: number): Call<T>;
  single(
    frozen: Frozen,
    tenant: string | undefined,
    deadlineMs: number,
    level: Level,
  ): Call<Submitted>;
  drive<T>(call: Call<T>, signal?: AbortSignal): Promise<T>;
  spawn(work: Promise<unknown>): void;
  readonly closing: AbortSignal;
}

/** Keep, deliver and settle the letters of one client. */
export class Courier {
  readonly #client: CourierClient;
  readonly #outbox: Mailbox;
  #isStarted = false;
  /** Aborts as soon as the outbox changes; whoever takes from it notes which one that is. */
  #change: AbortController | undefined;

  constructor(client: CourierClient, outbox: Mailbox) {
    this.#client = client;
    this.#outbox = outbox;
    outbox.listen(client.tell, () => this.wake());
  }

  /** Describe a submit that is kept before it is sent. */
  submit(signed: SignedRecord, attempt: () => Call<Submitted>): Call<Submitted> {
    return submitKept(this.#letter(signed), attempt, this.#client.settings.durability);
  }

  /** Describe keeping a record for later; gives the id of its entry. */
  enqueue(signed: SignedRecord): Call<string> {
    return enqueue(this.#letter(signed));
  }

  /** Deliver in the background from the first call on, if the outbox wants that. */
  start(): void {
    if (!this.#outbox.background || this.#isStarted) return;
    this.#isStarted = true;
    const ended = (error: unknown): void => {
      if (!isFractalLBAError(error)) throw error;
      this.#client.tell({ type: 'outbox', kind: 'outbox_corrupt', code: error.code });
    };
    this.#client.spawn(this.#pump().catch(ended));
  }

  /** Send what waits, until nothing is left that may be sent, or until the deadline. */
  async flush(deadlineMs: number): Promise<OutboxStats> {
    this.#outbox.hurry();
    await this.#pump(deadlineMs);
    return this.#outbox.stats();
  }

  /** Sign the waiting entries of one key again with the present signer; count them. */
  async resign(kid: string | undefined): Promise<number> {
    const { settings } = this.#client;
    const letters = await this.#outbox.lettersOf(kid);
    for (const letter of letters) {
      if (!settings.signer) throw configError('signer', 'a client with a signer');
      const signed = await this.#client.sign(parse(letter.body));
      if (signed.content !== letter.key) {
        throw new OutboxError('outbox_corrupt', `entry ${letter.id} changed its content`);
      }
      const again = { ...this.#letter(signed), atMs: letter.atMs };
      await this.#outbox.put(again, settings.clock.nowMs(), false);
      await this.#outbox.release(letter.id, 'resigned');
    }
    this.start();
    return letters.length;
  }

  /** Carry out one effect. */
  async perform(effect: OutboxEffect, run: Run): Promise<Answer> {
    const { clock } = this.#client.settings;
    switch (effect.do) {
      case 'keep':
        return this.#keep(effect.letter, effect.inFlight, run);
      case 'settle':
        run.unsettled = [];
        return this.#settle(effect.id, effect.verdict);
      case 'hear':
        await this.#outbox.hear(effect.news).catch(asAnswer);
        return undefined;
      case 'ask':
        run.unsettled = effect.ids;
        await this.#ask(effect.timeoutMs, run);
        run.unsettled = [];
        return undefined;
      case 'take':
        // Noted before: what changes while it takes must end the doze that follows.
        this.#change ??= new AbortController();
        run.change = this.#change.signal;
        // A client that is closed takes no more: the doze that follows ends the pump.
        if (run.signal.aborted) return { letters: [], inFlight: 0, held: 0 };
        return this.#outbox.take(clock.nowMs(), effect.limit, effect.bytesMax).catch(asAnswer);
      case 'deliver':
        run.unsettled = effect.ids;
        await this.#deliver(effect.calls, run);
        run.unsettled = [];
        return undefined;
      case 'doze':
        return this.#doze(effect.waitMs, run);
    }
  }

  /**
   * Run deliveries beside each other. Their entries are settled and the events told, so what is
   * left of an error says no more; but a foreign one, of a caller's transport, settled nothing.
   */
  async #deliver(calls: readonly Call<unknown>[], run: Run): Promise<void> {
    const ends = await Promise.allSettled(
      calls.map((call) => this.#client.drive(call, run.signal)),
    );
    const isForeign = (end: PromiseSettledResult<unknown>): boolean =>
      end.status === 'rejected' && !isFractalLBAError(end.reason);
    if (ends.some(isForeign)) await this.abandon(run);
  }

  /** Ask each endpoint that may know once; a token that cannot be had asks nobody. */
  async #ask(timeoutMs: number, run: Run): Promise<void> {
    const { agent, tenant, token: given } = this.#client.settings;
    const [had] = await Promise.allSettled([tokenOf(given)]);
    if (had.status === 'rejected' || !had.value) return;
    const token = had.value;
    const { fleet } = this.#client.state;
    const regions = this.#outbox.heldRegions();
    const endpoints = fleet.endpoints.filter(
      ({ region }, index) =>
        fleet.eligible.includes(index) && (region === undefined || regions.has(region)),
    );
    const requests = endpoints.map(({ url }) => statusRequest(url, { agent, tenant, token }));
    await Promise.allSettled(
      requests.map((request) => this.#client.drive(ask(request, timeoutMs), run.signal)),
    );
  }

  /** Give back the entries of a call that was broken off: the outbox goes on with them. */
  async abandon(run: Run): Promise<void> {
    for (const id of run.unsettled) {
      await this.#settle(id, { what: 'later', endpointDown: false });
    }
  }

  /** Wake whoever waits for the outbox to change. */
  wake(): void {
    this.#change?.abort();
    this.#change = undefined;
  }

  /** Hear no more of the outbox. */
  close(): void {
    this.#outbox.listen(
      () => {},
      () => {},
    );
  }

  async #pump(deadlineMs?: number): Promise<void> {
    if (this.#client.closing.aborted) return;
    const deliveries = (letters: readonly Letter[]) => this.#deliveries(letters, deadlineMs);
    const canAsk = this.#client.settings.token !== undefined;
    await this.#client.drive(pump(deliveries, canAsk, deadlineMs));
  }

  /** Give one call for each batch, or for each letter where batches are not taken. */
  #deliveries(letters: readonly Letter[], untilMs = Number.POSITIVE_INFINITY): Call<unknown>[] {
    const { state, settings } = this.#client;
    // A flush bounds what it starts (formats 11.19).
    const deadlineMs = Math.min(settings.clock.monotonicMs() + settings.totalTimeoutMs, untilMs);
    return byTenant(letters).flatMap((group): Call<unknown>[] => {
      const tenant = group[0]?.tenant;
      if (group.length > 1 && state.takesBatches) {
        const spec = batchSpec(group.map(signedOf), { agent: settings.agent, tenant });
        const batch = this.#client.exchange(spec, deadlineMs);
        return [deliverBatch(group, batch, state, settings.durability)];
      }
      return group.map((letter) => {
        const single = this.#client.single(signedOf(letter), tenant, deadlineMs, LEVELS[0]);
        return deliver(letter.id, single, settings.durability);
      });
    });
  }

  #letter({ pcsId, content, body, record }: SignedRecord): Letter {
    const { tenant } = this.#client.settings;
    const { sent_at, kid } = record as Record<string, string>;
    return { id: '', pcsId, key: content, kid, tenant, atMs: sentAtMs(`${sent_at}`), body };
  }

  async #keep(letter: Letter, inFlight: boolean, run: Run): Promise<Answer> {
    try {
      const kept = await this.#outbox.put(letter, this.#client.settings.clock.nowMs(), inFlight);
      run.unsettled = inFlight ? [kept.id] : [];
      return kept;
    } catch (error) {
      return asAnswer(error);
    }
  }

  async #settle(id: string, verdict: Verdict): Promise<undefined> {
    const { clock, random } = this.#client.settings;
    // What cannot be written is reported by the outbox; the answer of the server stands.
    await this.#outbox.settle(id, verdict, clock.nowMs(), random()).catch(asAnswer);
  }

  /** `close` of the client aborts its signal first, and then wakes whoever dozes. */
  async #doze(waitMs: number | undefined, { change, signal }: Run): Promise<Answer> {
    if (!signal.aborted && !change?.aborted) {
      await (waitMs === undefined
        ? new Promise((resolve) => change?.addEventListener('abort', resolve))
        : this.#client.settings.clock.wait(waitMs, change));
    }
    return signal.aborted ? cancelled() : undefined;
  }
}

/** Give an error of this package as an answer; throw any other. */
function asAnswer(error: unknown): FractalLBAError {
  if (isFractalLBAError(error)) return error;
  throw error;
}
