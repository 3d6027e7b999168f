/**
 * Own the hash ring: which dedup shard owns a key, and what moves from ring to ring (spec/ring.md).
 *
 *     const ring = new Ring([{ name: 'eu-a' }, { name: 'eu-b' }, { name: 'eu-c', weight: 2 }]);
 *     ring.pick(ringKey('acme', 'a'.repeat(64))); // 'eu-c'
 *     ring.pickN(ringKey('acme', 'a'.repeat(64)), 2); // ['eu-c', 'eu-b']
 *
 * A ring is a value and knows nothing of health: who is down keeps what it owns. Counts of hashes
 * and shares, which are counts over 2^32, are exact: a double holds each of them.
 */

import { configError } from './errors.js';
import { checkWellFormed } from './jcs.js';
import { sha256 } from './sha256.js';

/** Points of one unit of weight, where nothing is said. */
export const VNODES = 150;

const VNODES_MAX = 1024;
/** Most shards of a ring, and most names that one call lists. */
const SHARDS_MAX = 1024;
const WEIGHT_MAX = 16;
const POINTS_MAX = 2 ** 20;
/** How many hashes there are. */
const HASHES = 2 ** 32;

/** One dedup shard; `weight` is an integer from 1 to 16, 1 where nothing is said. */
export interface Shard {
  readonly name: string;
  readonly weight?: number | undefined;
}

export interface RingOptions {
  /** Points of one unit of weight, 1 to 1024. */
  readonly vnodes?: number | undefined;
}

/** Hashes from `lo` to `hi`, both inclusive. */
export interface Range {
  readonly lo: number;
  readonly hi: number;
}

/** Hashes with their owner. */
export interface Arc extends Range {
  readonly owner: string;
}

/** Hashes, and who owns them before and after. */
export interface Moved extends Range {
  readonly from: string;
  readonly to: string;
}

/** What changes its owner between two rings: its share of all hashes, and where it is. */
export interface Movement {
  readonly share: number;
  readonly ranges: readonly Moved[];
}

/** Give the first 4 bytes of the SHA-256 of bytes, or of a text in UTF-8 (ring 2.1). */
export function hashPoint(key: Uint8Array | string): number {
  if (typeof key === 'string') checkWellFormed(key, '/key');
  return new DataView(sha256(key).buffer).getUint32(0);
}

/** Write the key of a record (ring 2.4). */
export function ringKey(tenant: string, pcsId: string): string {
  const key = `${tenant}|${pcsId}`;
  checkWellFormed(key, '/key');
  return key;
}

/** Spread keys over dedup shards. Throws ConfigError for what is no ring (ring 1.1 to 1.4). */
export class Ring {
  readonly #names: readonly string[];
  /** In ring order. */
  readonly #points: Uint32Array;
  /** Of each point, as an index of names. */
  readonly #owners: Uint16Array;

  constructor(shards: Iterable<Shard>, { vnodes = VNODES }: RingOptions = {}) {
    const sorted = [...shards];
    const total = check(sorted, vnodes);
    sorted.sort((a, b) => (a.name < b.name ? -1 : 1));
    this.#names = sorted.map(({ name }) => name);
    // The rank of a name below its point: sorted as one number, equal points are in name order.
    const ranked = new Float64Array(total);
    let next = 0;
    for (const [rank, { name, weight = 1 }] of sorted.entries()) {
      for (let i = 0; i < vnodes * weight; i++) {
        ranked[next++] = hashPoint(`${name}#${i}`) * SHARDS_MAX + rank;
      }
    }
    ranked.sort();
    this.#points = Uint32Array.from(ranked, (each) => each / SHARDS_MAX);
    this.#owners = Uint16Array.from(ranked, (each) => each % SHARDS_MAX);
  }

  /** The number of points. */
  get pointCount(): number {
    return this.#points.length;
  }

  /** Name the owner of a key (ring 3.1). */
  pick(key: Uint8Array | string): string {
    return this.#owner(this.#at(key));
  }

  /** Name the owner, then the next other shards in ring order, up to n (ring 3.2). */
  pickN(key: Uint8Array | string, n: number): string[] {
    within('n', n, SHARDS_MAX);
    const names = new Set<string>();
    const wanted = Math.min(n, this.#names.length);
    for (let at = this.#at(key); names.size < wanted; at++) names.add(this.#owner(at));
    return [...names];
  }

  /** Give the share of every shard (ring 4.1). */
  shares(): Map<string, number> {
    const shares = new Map(this.#names.map((name) => [name, 0]));
    for (const { lo, hi, owner } of this.arcs()) {
      shares.set(owner, (shares.get(owner) as number) + (hi - lo + 1) / HASHES);
    }
    return shares;
  }

  /** Give the hashes that a shard owns, as the fewest ranges, ascending (ring 4.2). */
  ranges(name: string): Range[] {
    if (!this.#names.includes(name)) throw configError('name', 'a shard of the ring', name);
    return this.arcs().flatMap(({ lo, hi, owner }) => (owner === name ? [{ lo, hi }] : []));
  }

  /** Give every hash once with its owner, as the fewest ranges, ascending. */
  arcs(): Arc[] {
    const arcs: Arc[] = [];
    let lo = 0;
    let hi = -1;
    let owner = this.#owner(0);
    for (let i = 0; i <= this.#points.length; i++) {
      const point = this.#points[i] ?? HASHES - 1;
      // Of equal points the later ones own nothing; so does the end, if a point is there.
      if (point === hi) continue;
      const name = this.#owner(i);
      if (name !== owner) {
        arcs.push({ lo, hi, owner });
        lo = hi + 1;
        owner = name;
      }
      hi = point;
    }
    return [...arcs, { lo, hi, owner }];
  }

  /** Find the first point that is not smaller; behind the last one it is their number. */
  #at(key: Uint8Array | string): number {
    const point = hashPoint(key);
    let low = 0;
    let high = this.#points.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if ((this.#points[middle] as number) < point) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  #owner(at: number): string {
    return this.#names[this.#owners[at % this.#owners.length] as number] as string;
  }
}

/** Compare two rings: what changes its owner, as the fewest ranges, ascending (ring 4.3). */
export function movement(old: Ring, next: Ring): Movement {
  const [befores, afters] = [old.arcs(), next.arcs()];
  const ranges: Moved[] = [];
  let count = 0;
  for (let lo = 0, b = 0, a = 0; lo < HASHES; ) {
    const before = befores[b] as Arc;
    const after = afters[a] as Arc;
    const hi = Math.min(before.hi, after.hi);
    if (before.owner !== after.owner) {
      ranges.push({ lo, hi, from: before.owner, to: after.owner });
      count += hi - lo + 1;
    }
    if (before.hi === hi) b++;
    if (after.hi === hi) a++;
    lo = hi + 1;
  }
  return { share: count / HASHES, ranges };
}

/** Refuse what is no ring, before anything is hashed; count the points of what is one. */
function check(shards: readonly Shard[], vnodes: number): number {
  within('vnodes', vnodes, VNODES_MAX);
  within('shards', shards.length, SHARDS_MAX);
  const seen = new Set<string>();
  let total = 0;
  for (const [index, { name, weight = 1 }] of shards.entries()) {
    const place = `shards[${index}]`;
    if (typeof name !== 'string' || !/^[a-z0-9-]{1,64}$/.test(name)) {
      throw configError(`${place}.name`, '[a-z0-9-], 1 to 64 of them', name);
    }
    if (seen.has(name)) throw configError(`${place}.name`, 'each name once', name);
    seen.add(name);
    within(`${place}.weight`, weight, WEIGHT_MAX);
    total += vnodes * weight;
  }
  within('points', total, POINTS_MAX);
  return total;
}

function within(what: string, value: number, most: number): void {
  if (!Number.isInteger(value) || value < 1 || value > most) {
    throw configError(what, `an integer from 1 to ${most}`, value);
  }
}
