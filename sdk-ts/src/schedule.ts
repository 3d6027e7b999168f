/**
 * Decide what a delivery's end means for an outbox entry, and when an entry is due again.
 *
 * Pure: time and chance are arguments. An entry is waiting, parked because its credentials were
 * refused, or in flight. After a failure one entry at a time probes, and each success doubles the
 * number that may go out, up to the bound.
 */

import type { Entry, Letter } from './outbox.js';
import type { Position } from './outcome.js';
import { utf8 } from './utf8.js';

/** How much of the server's last answer a dead letter keeps. */
const MAX_DEAD_RESPONSE_BYTES = 65_536;

/** The first wait after a stopped call is drawn from 0 to this. */
const RETRY_BASE_MS = 1_000;

/** No wait of the outbox's own is longer than this; a server may ask for more. */
const RETRY_CAP_MS = 30_000;

/** Beyond so many doublings the bound of the wait is RETRY_CAP_MS. */
const MAX_DOUBLINGS = 16;

/** Deliveries at once when all is well; after a failure one, then doubling up to this. */
export const WIDTH_MAX = 16;

/** The server has recorded it: release. */
export interface Acknowledge {
  readonly what: 'acknowledge';
  readonly status: number;
}

/** The server has recorded it at this place, which is not replicated yet: keep it. */
export interface Hold {
  readonly what: 'hold';
  readonly status: number;
  readonly position: Position;
}

/** The server will never take it: move it to the dead letters. */
export interface Bury {
  readonly what: 'bury';
  readonly status?: number | undefined;
  readonly code: string;
  readonly reason: string;
  readonly response: string;
}

/** The server refuses the credentials: those of the kid (401) or of the tenant (403). */
export interface Pause {
  readonly what: 'pause';
  readonly group: 'kid' | 'tenant';
  readonly code: string;
}

/** It could not be delivered now; `retryAfterMs` is what the server asked for. */
export interface Later {
  readonly what: 'later';
  readonly retryAfterMs?: number | undefined;
  readonly endpointDown: boolean;
}

export type Verdict = Acknowledge | Hold | Bury | Pause | Later;

/** What the outbox gave to be sent, and what it still has: the next time, in flight, held. */
export interface Due {
  readonly letters: readonly Letter[];
  readonly nextDueMs?: number | undefined;
  readonly inFlight: number;
  readonly held: number;
}

/** Entries whose credentials are refused: those of one kid, or of one tenant. */
export interface Group {
  readonly group: 'kid' | 'tenant';
  readonly name?: string | undefined;
}

/** Decide what a refused, failed or cancelled delivery means for its entry (formats 11.12). */
export function judge(
  status: number | undefined,
  code: string,
  reason: string,
  body: Uint8Array,
  retryAfterMs?: number,
): Verdict {
  switch (status) {
    case 400:
    case 409:
    case 413:
    case 422: {
      const response = readable(body.subarray(0, MAX_DEAD_RESPONSE_BYTES));
      // A message may have been cut in the middle of a character: a frame cannot hold that.
      return { what: 'bury', status, code, reason: readable(utf8(reason)), response };
    }
    case 401:
      return { what: 'pause', group: 'kid', code };
    case 403:
      return { what: 'pause', group: 'tenant', code };
  }
  const endpointDown = status !== 429 && code !== 'cancelled';
  return { what: 'later', retryAfterMs, endpointDown };
}

function readable(data: Uint8Array): string {
  return new TextDecoder('utf-8', { ignoreBOM: true }).decode(data);
}

interface DueTime {
  readonly dueMs: number;
  /** What a server asked for. */
  readonly floorMs: number;
  readonly tries: number;
}

type Item = readonly [dueMs: number, id: string];

/** Say which entries to send now. An entry is waiting, parked (paused) or in flight. */
export class Schedule {
  readonly #entries = new Map<string, Entry>();
  readonly #due = new Map<string, DueTime>();
  readonly #inFlight = new Set<string>();
  readonly #parked = new Map<string, Set<string>>();
  readonly #queue: Item[] = [];
  readonly #widthMax: number;
  #width: number;

  constructor(widthMax: number) {
    this.#widthMax = this.#width = widthMax;
  }

  /** Take a new entry, due at once unless its own call sends it. */
  add(entry: Entry, inFlight: boolean): void {
    const { id } = entry;
    this.#entries.set(id, entry);
    this.#due.set(id, { dueMs: 0, floorMs: 0, tries: 0 });
    if (inFlight) this.#inFlight.add(id);
    else push(this.#queue, [0, id]);
  }

  /** Take in that an entry lies elsewhere now. */
  move(entry: Entry): void {
    if (this.#entries.has(entry.id)) this.#entries.set(entry.id, entry);
  }

  /** Forget an entry that is released or dead, if it is known. */
  drop(id: string): void {
    const entry = this.#entries.get(id);
    if (!entry) return;
    for (const group of groupsOf(entry)) this.#parked.get(group)?.delete(id);
    this.#entries.delete(id);
    this.#due.delete(id);
    this.#inFlight.delete(id);
  }

  /**
   * Take up to `limit` due entries, of `bytesMax` together, into flight.
   *
   * After a failure one entry at a time goes out, and each success doubles that.
   */
  take(nowMs: number, limit: number, bytesMax: number): Entry[] {
    const taken: Entry[] = [];
    const isHealthy = this.#width >= this.#widthMax;
    const room = isHealthy ? limit : Math.min(limit, this.#width - this.#inFlight.size);
    for (let bytes = 0; taken.length < room; ) {
      const [dueMs, id] = this.#next() ?? [];
      if (id === undefined || (dueMs as number) > nowMs) break;
      const entry = this.#entries.get(id) as Entry;
      const paused = groupsOf(entry).find((group) => this.#parked.has(group));
      if (paused === undefined) {
        bytes += entry.length;
        if (taken.length && bytes > bytesMax) break;
        this.#inFlight.add(id);
        taken.push(entry);
      } else this.#parked.get(paused)?.add(id);
      pop(this.#queue);
    }
    return taken;
  }

  /** Say when the next entry is due, or give undefined if none is waiting. */
  nextDueMs(): number | undefined {
    return this.#next()?.[0];
  }

  /** Note a success: a narrowed schedule doubles its width. */
  delivered(): void {
    this.#width = Math.min(2 * this.#width, this.#widthMax);
  }

  /** Put an entry back, U(0,1) * min(1 s * 2^k, 30 s) after what the server asked for. */
  postpone(id: string, { retryAfterMs = 0, endpointDown }: Later, nowMs: number, u: number): void {
    if (endpointDown) this.#width = 1;
    const tries = this.#due.get(id)?.tries ?? 0;
    const floorMs = nowMs + retryAfterMs;
    const boundMs = Math.min(RETRY_BASE_MS * 2 ** Math.min(tries, MAX_DOUBLINGS), RETRY_CAP_MS);
    this.#wait(id, { dueMs: floorMs + Math.floor(u * boundMs), floorMs, tries: tries + 1 });
  }

  /** Park an entry, and from now on all entries of its kid or tenant. */
  pause(id: string, what: Group['group']): void {
    const group = groupOf(what, this.#entries.get(id)?.[what]);
    const ids = this.#parked.get(group) ?? new Set();
    this.#parked.set(group, ids.add(id));
    this.#inFlight.delete(id);
  }

  /** End the pauses that an accepted entry shows to be over, or without one all. */
  resume(entry?: Entry): void {
    for (const group of entry ? groupsOf(entry) : [...this.#parked.keys()]) {
      const ids = this.#parked.get(group) ?? [];
      this.#parked.delete(group);
      for (const id of ids) this.#wait(id, this.#due.get(id) as DueTime);
    }
  }

  /** End all pauses and the schedule's own waits, never those that a server asked for. */
  hurry(): void {
    this.resume();
    this.#queue.length = 0;
    for (const [id, due] of this.#due) {
      if (!this.#inFlight.has(id) && !this.#isParked(id)) {
        this.#wait(id, { ...due, dueMs: due.floorMs });
      }
    }
  }

  /** What is paused, in the order of the refusals. */
  get blocked(): Group[] {
    return [...this.#parked.keys()].map((group) => JSON.parse(group) as Group);
  }

  /** How many entries are being sent. */
  get inFlight(): number {
    return this.#inFlight.size;
  }

  #wait(id: string, due: DueTime): void {
    this.#inFlight.delete(id);
    this.#due.set(id, due);
    push(this.#queue, [due.dueMs, id]);
  }

  /** Give the first item that is current: an entry that moved left an old one behind. */
  #next(): Item | undefined {
    for (;;) {
      const [item] = this.#queue;
      if (!item) return undefined;
      const [dueMs, id] = item;
      const isDue = this.#due.get(id)?.dueMs === dueMs && !this.#inFlight.has(id);
      if (isDue && !this.#isParked(id)) return item;
      pop(this.#queue);
    }
  }

  #isParked(id: string): boolean {
    const entry = this.#entries.get(id);
    return !!entry && groupsOf(entry).some((group) => this.#parked.get(group)?.has(id));
  }
}

/** Name a group by a text, so that it can be the key of a map. */
function groupOf(group: Group['group'], name: string | undefined): string {
  return JSON.stringify({ group, name });
}

function groupsOf({ kid, tenant }: Entry): [string, string] {
  return [groupOf('kid', kid), groupOf('tenant', tenant)];
}

// --- a heap, by time and then by id ----------------------------------------------------------

function isBefore([aMs, a]: Item, [bMs, b]: Item): boolean {
  return aMs < bMs || (aMs === bMs && a < b);
}

function push(heap: Item[], item: Item): void {
  let at = heap.push(item) - 1;
  while (at) {
    const above = (at - 1) >> 1;
    if (!isBefore(item, heap[above] as Item)) break;
    heap[at] = heap[above] as Item;
    at = above;
  }
  heap[at] = item;
}

function pop(heap: Item[]): void {
  const last = heap.pop() as Item;
  if (!heap.length) return;
  let at = 0;
  for (let below = 1; below < heap.length; below = 2 * at + 1) {
    const other = heap[below + 1];
    if (other && isBefore(other, heap[below] as Item)) below++;
    if (!isBefore(heap[below] as Item, last)) break;
    heap[at] = heap[below] as Item;
    at = below;
  }
  heap[at] = last;
}
