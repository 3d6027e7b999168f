/** Play the vectors of the hash ring: what a caller writes, and the long way round. */

import { hashPoint, movement, type Range, Ring, ringKey } from '../src/ring.js';
import { hex } from '../src/sha256.js';
import { utf8 } from '../src/utf8.js';
import { bytes } from './values.js';
import type { Args, Entry } from './vectorFiles.js';

const HASHES = 2 ** 32;
const counted = (share: number): string => `${share * HASHES}/${HASHES}`;

/** Build a ring; health is no input of one (ring 1.6). */
function ringOf({ shards, vnodes }: Args): Ring {
  const given = shards.map(({ name, weight }: Args) =>
    weight === undefined ? { name } : { name, weight: Number(weight) },
  );
  return vnodes === undefined ? new Ring(given) : new Ring(given, { vnodes: Number(vnodes) });
}

const key: Entry = ({ tenant, pcs_id }) => {
  const made = ringKey(new TextDecoder().decode(bytes(tenant)), pcs_id);
  return { key: hex(utf8(made)), point: `${hashPoint(utf8(made))}` };
};

const keyByText: Entry = ({ tenant, pcs_id }) => {
  const made = ringKey(new TextDecoder().decode(bytes(tenant)), pcs_id);
  return { key: hex(utf8(made)), point: `${hashPoint(made)}` };
};

const pick: Entry = (args) => {
  const ring = ringOf(args);
  return { owners: args.keys.map((each: string) => ring.pick(bytes(each))) };
};

const pickByArcs: Entry = (args) => {
  const arcs = ringOf(args).arcs();
  const owners = args.keys.map((each: string) => {
    const point = hashPoint(bytes(each));
    return arcs.find(({ lo, hi }) => lo <= point && point <= hi)?.owner;
  });
  return { owners };
};

const pickByPickN: Entry = (args) => {
  const ring = ringOf(args);
  return { owners: args.keys.map((each: string) => ring.pickN(bytes(each), 2)[0]) };
};

const pickN: Entry = (args) => {
  const ring = ringOf(args);
  return { owners: args.keys.map((each: string) => ring.pickN(bytes(each), Number(args.n))) };
};

const shares: Entry = (args) => {
  const ring = ringOf(args);
  const found = [...ring.shares()].map(([name, share]) => [name, counted(share)]);
  return { points: `${ring.pointCount}`, shares: Object.fromEntries(found) };
};

const size = (ranges: readonly Range[]): number =>
  ranges.reduce((sum, { lo, hi }) => sum + hi - lo + 1, 0);

const sharesByRanges: Entry = (args) => {
  const ring = ringOf(args);
  const names = [...ring.shares().keys()];
  const found = names.map((name) => [name, counted(size(ring.ranges(name)) / HASHES)]);
  return { points: `${ring.pointCount}`, shares: Object.fromEntries(found) };
};

const ranges: Entry = (args) => ({
  ranges: ringOf(args)
    .ranges(args.name)
    .map(({ lo, hi }) => [`${lo}`, `${hi}`]),
});

const moved: Entry = (args) => {
  const found = movement(ringOf(args.old), ringOf(args.new));
  const rows = found.ranges.map(({ lo, hi, from, to }) => [`${lo}`, `${hi}`, from, to]);
  return { share: counted(found.share), ranges: rows };
};

export const ENTRIES: Readonly<Record<string, readonly Entry[]>> = {
  'ring.key': [key, keyByText],
  'ring.pick': [pick, pickByArcs, pickByPickN],
  'ring.pick_n': [pickN],
  'ring.shares': [shares, sharesByRanges],
  'ring.ranges': [ranges],
  'ring.movement': [moved],
};
