/**
 * Decide how long an acknowledged entry is held: until its place in the log is replicated.
 *
 * This file owns the rule that the level `replicated` rests on (spec/formats.md 11.22-11.29): a
 * held entry ends by a watermark of the same region, placement and region_epoch that reaches its
 * seq, and by nothing else. A newer region_epoch may have lost what stood above its beginning, so
 * it sends the entry again. Pure, like `schedule.ts`.
 */

import { LEVELS, type Level, type Position, type Submitted } from './outcome.js';
import type { RegionStatus, StreamStatus } from './regionStatus.js';
import type { Verdict } from './schedule.js';

/** What the newest watermark of a stream means for a position in it (11.26). */
export type Fate = 'open' | 'covered' | 'passed';

/** What a watermark or a status changed: ids that are safe, or to be sent again, or moved. */
export interface Heard {
  readonly released: readonly string[];
  readonly again: readonly string[];
  /** Held elsewhere now. */
  readonly moved: readonly (readonly [id: string, position: Position])[];
}

/** Decide what a recorded submit means for its entry at the level of its client (11.24). */
export function judgeRecorded(
  {
    raw,
    level,
    position,
    replicated,
  }: Pick<Submitted, 'level' | 'position' | 'replicated'> & {
    readonly raw: Pick<Submitted['raw'], 'status'>;
  },
  wanted: Level,
): Verdict {
  const { status } = raw;
  if (wanted === LEVELS[0] || level !== LEVELS[0]) return { what: 'acknowledge', status };
  if (!position) return { what: 'later', endpointDown: false };
  let { regionEpoch } = position;
  // An answer of a later epoch shows that the frame stands in it.
  if (replicated && streamOf(replicated) === streamOf(position)) {
    regionEpoch = Math.max(regionEpoch, replicated.regionEpoch);
  }
  return { what: 'hold', status, position: { ...position, regionEpoch } };
}

/** The entries that wait for their level, and the newest watermark of each stream. */
export class Held {
  readonly positions = new Map<string, Position>();
  readonly #newest = new Map<string, Position>();

  /** Name the regions in which something is held. */
  get regions(): Set<string> {
    return new Set([...this.positions.values()].map(({ region }) => region));
  }

  /** Say what the newest watermark means for a position. */
  fate(position: Position): Fate {
    const newest = this.#newest.get(streamOf(position));
    if (!newest || newest.regionEpoch < position.regionEpoch) return 'open';
    if (newest.regionEpoch > position.regionEpoch) return 'passed';
    return position.seq <= newest.seq ? 'covered' : 'open';
  }

  /** Take in a watermark, or what a region says of all its streams (11.25-11.29). */
  hear(news: Position | RegionStatus): Heard {
    if (!('streams' in news)) return this.#hearWatermark(news);
    const found = news.streams.map((stream) => this.#hearStream(stream));
    return {
      released: found.flatMap(({ released }) => released),
      again: found.flatMap(({ again }) => again),
      moved: found.flatMap(({ moved }) => moved),
    };
  }

  #hearWatermark(watermark: Position): Heard {
    const stream = streamOf(watermark);
    const known = this.#newest.get(stream);
    const released: string[] = [];
    const again: string[] = [];
    if (!known || isBefore(known, watermark)) {
      this.#newest.set(stream, watermark);
      for (const [id, position] of this.positions) {
        const fate = this.fate(position);
        if (fate === 'open') continue;
        this.positions.delete(id);
        (fate === 'covered' ? released : again).push(id);
      }
    }
    return { released, again, moved: [] };
  }

  /** Let what stands of earlier epochs stand in the present one, then hear its watermark. */
  #hearStream(status: StreamStatus): Heard {
    const { watermark } = status;
    const { regionEpoch } = watermark;
    const moved: (readonly [string, Position])[] = [];
    if ((this.#newest.get(streamOf(watermark))?.regionEpoch ?? 0) <= regionEpoch) {
      for (const [id, position] of this.positions) {
        if (!stands(position, status)) continue;
        moved.push([id, { ...position, regionEpoch }]);
      }
    }
    for (const [id, position] of moved) this.positions.set(id, position);
    return { ...this.#hearWatermark(watermark), moved };
  }
}

function isBefore(a: Position, b: Position): boolean {
  return a.regionEpoch === b.regionEpoch ? a.seq < b.seq : a.regionEpoch < b.regionEpoch;
}

function stands(position: Position, { watermark, closed }: StreamStatus): boolean {
  const { regionEpoch, seq } = position;
  return (
    streamOf(position) === streamOf(watermark) &&
    regionEpoch < watermark.regionEpoch &&
    closed.some((end) => end.regionEpoch === regionEpoch) &&
    closed.every((end) => end.regionEpoch < regionEpoch || seq <= end.seq)
  );
}

function streamOf({ region, placement }: Position): string {
  return `${region}/${placement}`;
}
