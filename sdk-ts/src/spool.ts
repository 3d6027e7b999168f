/**
 * The durable outbox: what `outbox.ts` and `schedule.ts` decide, carried out on `Files`.
 *
 * One promise is owned here: `put` resolves after the frame is durable, and what was put stays on
 * disk, live or among the dead letters, until the server has acknowledged it, at the level of the
 * client, or an operator has purged it. An acknowledgement needs no sync: if a crash forgets it,
 * the same bytes go out again and the server answers with the first outcome.
 */

import { Courier, type CourierClient, type Mailbox } from './courier.js';
import { configError, isFractalLBAError, OutboxError } from './errors.js';
import { Held } from './held.js';
import type { OutboxEvent } from './hooks.js';
import { DeadFile, settleNames } from './journal.js';
import { Logs } from './logs.js';
import {
  DEAD_LOG,
  type DeadLetter,
  type Entry,
  FILE_BYTES,
  halfRequeued,
  type Letter,
  type OutboxOptions,
  type OutboxStats,
  type Recovered,
  recoverFiles,
} from './outbox.js';
import type { Position } from './outcome.js';
import type { RegionStatus } from './regionStatus.js';
import { type Bury, type Due, Schedule, type Verdict, WIDTH_MAX } from './schedule.js';
import { acquireLock, type Files, type Owner, releaseLock, type TicksOf } from './store.js';

/** Default of how many entries, dead letters included, an outbox holds before it is full. */
const MAX_ENTRIES = 100_000;

/**
 * Default of how many bytes of live frames, dead letters included, an outbox holds. The directory
 * may take twice as much and two files more, until garbage is collected.
 */
const MAX_BYTES = 2 ** 30;

/**
 * Default age, from `sent_at`, at which an entry becomes a dead letter; below the shortest time for
 * which a server remembers ids.
 */
const MAX_AGE_MS = 13 * 86_400_000;

/** What a `put` frame is taken to need beside its body when the limits are checked. */
const PUT_OVERHEAD_BYTES = 512;

/** Keep signed records until the server has acknowledged them. One client uses an outbox. */
export class Outbox implements Mailbox {
  readonly background: boolean;
  readonly #files: Files;
  readonly #owner: Owner;
  readonly #maxEntries: number;
  readonly #maxBytes: number;
  readonly #maxAgeMs: number;
  readonly #logs: Logs;
  readonly #dead: DeadFile;
  readonly #schedule = new Schedule(WIDTH_MAX);
  readonly #held = new Held();
  readonly #corrupt: string[] = [];
  #unreadable = 0;
  #isClosed = false;
  #events: OutboxEvent[] = [];
  #tell: ((event: OutboxEvent) => void) | undefined;
  #wake: (() => void) | undefined;
  #last: Promise<unknown> = Promise.resolve();

  /** Use `openOutbox`. */
  constructor(files: Files, owner: Owner, options: OutboxOptions, fileBytes: number) {
    const { maxEntries = MAX_ENTRIES, maxBytes = MAX_BYTES, maxAgeMs = MAX_AGE_MS } = options;
    for (const [name, value] of Object.entries({ maxEntries, maxBytes, maxAgeMs })) {
      if (!(typeof value === 'number' && value > 0)) {
        throw configError(name, 'a number above 0', value);
      }
    }
    this.background = options.background ?? true;
    this.#files = files;
    this.#owner = owner;
    this.#maxEntries = maxEntries;
    this.#maxBytes = maxBytes;
    this.#maxAgeMs = maxAgeMs;
    this.#dead = new DeadFile(files, fileBytes);
    this.#logs = new Logs(files, fileBytes, {
      moved: (entry) => this.#schedule.move(entry),
      lost: ({ id }) => {
        this.#unreadable++;
        this.#drop(id);
        this.#note('outbox_corrupt', id, 'outbox_corrupt');
      },
    });
  }

  // --- for the caller ------------------------------------------------------------------------

  /** Count entries, dead letters and damage. */
  stats(): OutboxStats {
    let oldestSentAtMs: number | undefined;
    for (const { atMs } of this.#logs.entries.values()) {
      oldestSentAtMs = Math.min(atMs, oldestSentAtMs ?? atMs);
    }
    return {
      entries: this.#logs.entries.size,
      inFlight: this.#schedule.inFlight,
      held: this.#held.positions.size,
      dead: this.#dead.places.size,
      bytes: this.#usedBytes(),
      oldestSentAtMs,
      blocked: this.#schedule.blocked,
      corruptFiles: [...this.#corrupt],
      unreadableFrames: this.#unreadable,
    };
  }

  /** Read the dead letters, oldest first. */
  dead(): Promise<DeadLetter[]> {
    return this.#alone(() =>
      this.#logs.log.guarded(() => [...this.#dead.places.keys()].map((id) => this.#dead.read(id))),
    );
  }

  /**
   * Send a dead letter again, the same bytes; give the id of the new entry.
   *
   * One that is older than the greatest age comes back as `outbox_expired`. Throws NotFoundError.
   */
  requeue(id: string): Promise<string> {
    return this.#alone(async () => {
      const { letter } = await this.#logs.log.guarded(() => this.#dead.read(id));
      const entry = await this.#logs.put({ ...letter, from: id });
      try {
        await this.#dropDead(id, 'requeued');
      } catch (error) {
        await this.#logs.release(entry, 'release', { reason: 'not requeued' });
        throw error;
      }
      this.#schedule.add(entry, false);
      this.#note('requeued', entry.id);
      return entry.id;
    }, true);
  }

  /** Remove a dead letter for good. Throws NotFoundError. */
  purge(id: string): Promise<void> {
    return this.#alone(async () => {
      await this.#logs.log.guarded(() => this.#dead.read(id));
      await this.#dropDead(id, 'purged');
      this.#note('purged', id);
    });
  }

  /**
   * Send again what is held in a region that will not come back; give how many records.
   *
   * The same bytes under the same key: another region that has a record answers with its first
   * outcome. Throws OutboxError `outbox_corrupt` if the file system fails.
   */
  resend(region: string): Promise<number> {
    return this.#alone(async () => {
      const { entries } = this.#logs;
      const sent: [old: string, fresh: Entry][] = [];
      for (const [id, at] of this.#held.positions) {
        const letter = at.region === region && (await this.#logs.read(entries.get(id) as Entry));
        if (letter) sent.push([id, await this.#logs.put(letter)]);
      }
      await this.#logs.log.syncNow();
      for (const [id, { id: fresh }] of sent) {
        await this.#logs.release(entries.get(id) as Entry, 'release', { reason: 'resent' });
        this.#drop(id);
        this.#schedule.add(entries.get(fresh) as Entry, false);
        this.#note('queued', fresh);
      }
      await this.#logs.removeDone();
      return sent.length;
    }, true);
  }

  /** Make everything durable and give the directory free. Close the client first. */
  close(): Promise<void> {
    return this.#alone(async () => {
      if (this.#isClosed) return;
      this.#isClosed = true;
      try {
        if (this.#logs.log.isUsable) await this.#logs.log.syncNow();
      } finally {
        await this.#logs.log.guarded(() => this.#stop());
      }
    });
  }

  // --- for the client ------------------------------------------------------------------------

  courier(client: CourierClient): Courier {
    return new Courier(client, this);
  }

  listen(tell: (event: OutboxEvent) => void, wake: () => void): void {
    this.#tell = tell;
    this.#wake = wake;
  }

  /**
   * Keep a letter; give it with its id when it is durable. `inFlight` says that the caller sends it
   * himself. Throws OutboxError `outbox_full`, `outbox_expired`, or `outbox_corrupt` if the file
   * system fails.
   */
  async put(letter: Letter, nowMs: number, inFlight: boolean): Promise<Letter> {
    const { id } = await this.#alone(() => {
      if (this.#isExpired(letter, nowMs)) {
        throw new OutboxError('outbox_expired', 'sent_at is longer ago than the greatest age');
      }
      this.#checkRoom(letter.body.length);
      return this.#logs.put(letter);
    });
    await this.#logs.log.sync();
    // While others had their turn it may have been moved, or signed again and released.
    const entry = this.#logs.entries.get(id);
    if (entry) this.#schedule.add(entry, inFlight);
    this.#note('queued', id);
    this.#report(!inFlight);
    return { ...letter, id };
  }

  /** Take due entries into flight. What is too old goes to the dead letters instead. */
  take(nowMs: number, limit: number, bytesMax: number): Promise<Due> {
    return this.#alone(async () => {
      this.#logs.log.checkOpen();
      const letters: Letter[] = [];
      for (const entry of this.#schedule.take(nowMs, limit, bytesMax)) {
        const letter = await this.#logs.read(entry);
        if (!letter) continue;
        if (this.#isExpired(entry, nowMs)) await this.#bury(entry, EXPIRED, nowMs);
        else letters.push(letter);
      }
      await this.#logs.removeDone();
      const { inFlight } = this.#schedule;
      const held = this.#held.positions.size;
      return { letters, nextDueMs: this.#schedule.nextDueMs(), inFlight, held };
    });
  }

  /** Carry out what became of an entry in flight. */
  settle(id: string, given: Verdict, nowMs: number, u: number): Promise<void> {
    return this.#alone(async () => {
      this.#logs.log.checkOpen();
      const entry = this.#logs.entries.get(id);
      if (!entry) return;
      const verdict = this.#judged(given);
      if (verdict.what === 'acknowledge') {
        await this.#logs.release(entry, 'ack', { status: `${verdict.status}` });
        this.#acknowledged(entry, 'acknowledged');
      } else if (verdict.what === 'hold') {
        const { position } = verdict;
        this.#acknowledged(await this.#logs.hold(entry, position), 'outbox_held');
        this.#held.positions.set(id, position);
      } else if (verdict.what === 'bury') {
        this.#schedule.delivered();
        await this.#bury(entry, verdict, nowMs);
      } else if (verdict.what === 'pause') {
        this.#schedule.pause(id, verdict.group);
        this.#note('outbox_blocked', id, verdict.code);
      } else {
        this.#schedule.postpone(id, verdict, nowMs, u);
        this.#note('postponed', id);
      }
      await this.#logs.removeDone();
    }, true);
  }

  /** Take in how far a region is replicated: let go what is safe, send again what may be lost. */
  async hear(news: Position | RegionStatus): Promise<void> {
    const isChanged = await this.#alone(async () => {
      this.#logs.log.checkOpen();
      const { entries } = this.#logs;
      const { released, again, moved } = this.#held.hear(news);
      for (const [id, position] of moved) {
        if (this.#held.positions.has(id)) await this.#logs.hold(entries.get(id) as Entry, position);
      }
      for (const id of released) {
        await this.#logs.release(entries.get(id) as Entry, 'ack');
        this.#note('acknowledged', id);
      }
      for (const id of again) {
        this.#schedule.add(await this.#logs.hold(entries.get(id) as Entry), false);
        this.#note('postponed', id);
      }
      await this.#logs.removeDone();
      return !!(released.length || again.length);
    });
    if (isChanged) this.#wake?.();
  }

  /** Name the regions in which entries are held. */
  heldRegions(): ReadonlySet<string> {
    return this.#held.regions;
  }

  hurry(): void {
    this.#schedule.hurry();
  }

  /** Read the entries that were signed with one key and are not acknowledged. */
  lettersOf(kid: string | undefined): Promise<Letter[]> {
    return this.#alone(async () => {
      const letters: Letter[] = [];
      for (const entry of this.#logs.entries.values()) {
        const isWanted = entry.kid === kid && !this.#held.positions.has(entry.id);
        const letter = isWanted && (await this.#logs.read(entry));
        if (letter) letters.push(letter);
      }
      return letters;
    });
  }

  /** Let an entry go that another one replaced. */
  release(id: string, reason: string): Promise<void> {
    return this.#alone(async () => {
      const entry = this.#logs.entries.get(id);
      if (!entry) return;
      await this.#logs.release(entry, 'release', { reason });
      this.#drop(id);
    });
  }

  // --- inside, one at a time -----------------------------------------------------------------

  /** Do some work alone, in the order of the calls, then report: hooks may call back. */
  async #alone<T>(work: () => T | Promise<T>, wakes = false): Promise<T> {
    const turn = this.#last.then(work);
    this.#last = turn.catch(() => {});
    try {
      return await turn;
    } finally {
      this.#report(wakes);
    }
  }

  /** Tell what was noted. What is about the outbox itself waits for the first client. */
  #report(wakes: boolean): void {
    const events = this.#events;
    this.#events = this.#tell ? [] : events.filter(({ id }) => !id);
    if (this.#tell) events.forEach(this.#tell);
    if (wakes) this.#wake?.();
  }

  #note(kind: OutboxEvent['kind'], id?: string, code?: string): void {
    this.#events.push({ type: 'outbox', kind, id, code });
  }

  #isExpired({ atMs }: { readonly atMs: number }, nowMs: number): boolean {
    return atMs + this.#maxAgeMs <= nowMs;
  }

  #usedBytes(): number {
    return this.#logs.liveBytes + this.#dead.liveBytes;
  }

  #checkRoom(bodyBytes: number): void {
    if (this.#logs.entries.size + this.#dead.places.size >= this.#maxEntries) {
      throw full(`its limit of ${this.#maxEntries} entries, dead letters included`);
    }
    if (this.#usedBytes() + bodyBytes + PUT_OVERHEAD_BYTES > this.#maxBytes) {
      throw full(`its limit of ${this.#maxBytes} bytes, dead letters included`);
    }
  }

  /** Judge a hold by what is known of its stream (11.27). */
  #judged(verdict: Verdict): Verdict {
    if (verdict.what !== 'hold') return verdict;
    switch (this.#held.fate(verdict.position)) {
      case 'covered':
        return { what: 'acknowledge', status: verdict.status };
      case 'passed':
        // The answer is older than what others said of its stream.
        return { what: 'later', endpointDown: false };
      case 'open':
        return verdict;
    }
  }

  /** Let the schedule go on behind an entry that the server has. */
  #acknowledged(entry: Entry, kind: OutboxEvent['kind']): void {
    this.#drop(entry.id);
    this.#schedule.delivered();
    this.#schedule.resume(entry);
    this.#note(kind, entry.id);
  }

  #drop(id: string): void {
    this.#schedule.drop(id);
    this.#held.positions.delete(id);
  }

  async #bury(entry: Entry, verdict: Omit<Bury, 'what'>, nowMs: number): Promise<void> {
    const { id } = entry;
    const letter = await this.#logs.read(entry);
    if (!letter) return;
    const { status, code, reason, response } = verdict;
    const dead = { id, letter, status, code, reason, response };
    try {
      await this.#logs.log.guarded(() => this.#dead.add(dead));
    } catch (error) {
      // It stays an entry: better sent once more than in neither place.
      this.#schedule.postpone(id, { what: 'later', endpointDown: false }, nowMs, 1);
      this.#note('postponed', id, (error as OutboxError).code);
      return;
    }
    await this.#logs.release(entry, 'dead');
    this.#drop(id);
    this.#note('dead', id, code);
  }

  /**
   * Remove a dead letter. Until then it outweighs the `put` in the log, so the mark that follows
   * there must be durable before: the first one may have been forgotten by a crash.
   */
  async #dropDead(id: string, reason: string): Promise<void> {
    await this.#logs.append({ t: 'dead', id });
    await this.#logs.log.syncNow();
    await this.#logs.log.guarded(() => this.#dead.drop(id, reason));
  }

  // --- opening and closing -------------------------------------------------------------------

  #stop(): void {
    this.#logs.log.stop();
    this.#dead.stop();
    releaseLock(this.#files, this.#owner);
  }

  /** Become the owner and read what an earlier one left; called once, by `openFiles`. */
  async open(ticksOf: TicksOf): Promise<void> {
    await acquireLock(this.#files, this.#owner, ticksOf);
    try {
      await this.#recover();
    } catch (error) {
      this.#stop();
      throw error;
    }
  }

  async #recover(): Promise<void> {
    await settleNames(this.#files);
    const found = recoverFiles(this.#files.names(), (name) => this.#files.read(name));
    this.#unreadable = found.unreadable;
    this.#corrupt.push(...found.corrupt);
    if (this.#corrupt.length) this.#note('outbox_corrupt', undefined, 'outbox_corrupt');
    await this.#logs.recover(found);
    await this.#recoverDead(found);
    for (const entry of this.#logs.entries.values()) {
      if (entry.hold) this.#held.positions.set(entry.id, entry.hold);
      else this.#schedule.add(entry, false);
    }
  }

  async #recoverDead(found: Recovered): Promise<void> {
    const size = found.sizes.get(DEAD_LOG);
    if (size === undefined) return;
    this.#dead.load(found.dead, size);
    await this.#logs.log.guarded(async () => {
      if (found.corrupt.has(DEAD_LOG)) {
        await this.#dead.rewrite(`dead-${this.#logs.nextName}.corrupt`);
      } else if (found.cuts.has(DEAD_LOG)) await this.#dead.cut();
    });
    for (const id of halfRequeued(found)) await this.#dropDead(id, 'requeued');
  }
}

const EXPIRED = {
  status: undefined,
  code: 'outbox_expired',
  reason: 'older than max_age',
  response: '',
} as const;

function full(what: string): OutboxError {
  return new OutboxError('outbox_full', `the outbox holds ${what}`);
}

/** Open the outbox in the directory that `makeFiles` gives, for the process that `here` gives. */
export async function openFiles(
  makeFiles: () => Files,
  here: () => Owner,
  ticksOf: TicksOf,
  options: OutboxOptions = {},
  fileBytes = FILE_BYTES,
): Promise<Outbox> {
  try {
    const outbox = new Outbox(makeFiles(), here(), options, fileBytes);
    await outbox.open(ticksOf);
    return outbox;
  } catch (cause) {
    if (isFractalLBAError(cause)) throw cause;
    throw new OutboxError('outbox_corrupt', `the outbox cannot be opened: ${cause}`, { cause });
  }
}
