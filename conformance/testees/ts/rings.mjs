/** Operations of the hash ring (PROTOCOL.md section 5). */

import { Buffer } from 'node:buffer';
import { hashPoint, movement, Ring, ringKey } from './.build/ring.js';

const HASHES = 2 ** 32;
const counted = (share) => `${share * HASHES}/${HASHES}`;
const bytes = (digits) => new Uint8Array(Buffer.from(digits, 'hex'));

/** Build a ring; health is no input of one (ring 1.6). */
function ringOf({ shards, vnodes }) {
  const given = shards.map(({ name, weight = '1' }) => ({ name, weight: Number(weight) }));
  return new Ring(given, vnodes === undefined ? {} : { vnodes: Number(vnodes) });
}

export const OPS = {
  'ring.key': ({ tenant, pcs_id }) => {
    const key = ringKey(Buffer.from(tenant, 'hex').toString(), pcs_id);
    return { key: Buffer.from(key).toString('hex'), point: `${hashPoint(key)}` };
  },

  'ring.pick': (args) => {
    const ring = ringOf(args);
    return { owners: args.keys.map((key) => ring.pick(bytes(key))) };
  },

  'ring.pick_n': (args) => {
    const ring = ringOf(args);
    return { owners: args.keys.map((key) => ring.pickN(bytes(key), Number(args.n))) };
  },

  'ring.shares': (args) => {
    const ring = ringOf(args);
    const shares = [...ring.shares()].map(([name, share]) => [name, counted(share)]);
    return { points: `${ring.pointCount}`, shares: Object.fromEntries(shares) };
  },

  'ring.ranges': (args) => ({
    ranges: ringOf(args)
      .ranges(args.name)
      .map(({ lo, hi }) => [`${lo}`, `${hi}`]),
  }),

  'ring.movement': ({ old, new: next }) => {
    const found = movement(ringOf(old), ringOf(next));
    const ranges = found.ranges.map(({ lo, hi, from, to }) => [`${lo}`, `${hi}`, from, to]);
    return { share: counted(found.share), ranges };
  },
};
