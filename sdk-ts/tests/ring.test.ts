/** The hash ring by properties; what exactly comes out is in the vectors. */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ConfigError, ValidationError } from '../src/errors.js';
import { hashPoint, movement, Ring, ringKey, type Shard } from '../src/ring.js';
import { below, chance } from './chance.js';

const HASHES = 2 ** 32;

/** Draw a ring of up to six shards with few points. */
function drawn(random: () => number): { shards: Shard[]; vnodes: number; ring: Ring } {
  const names = new Set(
    Array.from({ length: 1 + below(random, 6) }, () => `s-${below(random, 50)}`),
  );
  const shards = [...names].map((name) => ({ name, weight: 1 + below(random, 4) }));
  const vnodes = 1 + below(random, 8);
  return { shards, vnodes, ring: new Ring(shards, { vnodes }) };
}

test('the example gives what it says', () => {
  const ring = new Ring([{ name: 'eu-a' }, { name: 'eu-b' }, { name: 'eu-c', weight: 2 }]);
  const key = ringKey('acme', 'a'.repeat(64));
  assert.deepEqual([ring.pick(key), ring.pickN(key, 2)], ['eu-c', ['eu-c', 'eu-b']]);
});

test('every hash has one owner, and the shares add up', () => {
  const random = chance(1);
  for (let i = 0; i < 200; i++) {
    const { shards, vnodes, ring } = drawn(random);
    const arcs = ring.arcs();
    assert.equal(arcs[0]?.lo, 0);
    assert.equal(arcs.at(-1)?.hi, HASHES - 1);
    arcs.slice(1).forEach(({ lo, owner }, at) => {
      assert.equal(lo, (arcs[at]?.hi ?? 0) + 1);
      assert.notEqual(owner, arcs[at]?.owner);
    });
    assert.equal(
      [...ring.shares().values()].reduce((sum, share) => sum + share),
      1,
    );
    const again = new Ring(shards.toReversed(), { vnodes });
    assert.deepEqual(movement(ring, again), { share: 0, ranges: [] });
  }
});

test('a key moves if and only if its hash is in the movement', () => {
  const random = chance(2);
  for (let i = 0; i < 100; i++) {
    const [old, next] = [drawn(random).ring, drawn(random).ring];
    const { ranges } = movement(old, next);
    for (let n = 0; n < 20; n++) {
      const key = ringKey('acme', `${n}`);
      const [from, to] = [old.pick(key), next.pick(key)];
      const hits = ranges.filter(({ lo, hi }) => lo <= hashPoint(key) && hashPoint(key) <= hi);
      const expected = from === to ? [] : [[from, to]];
      assert.deepEqual(
        hits.map((hit) => [hit.from, hit.to]),
        expected,
      );
    }
  }
});

test('more names begin with fewer, and are distinct', () => {
  const random = chance(3);
  for (let i = 0; i < 100; i++) {
    const { shards, ring } = drawn(random);
    const all = ring.pickN('key', 1024);
    assert.deepEqual([new Set(all).size, all[0]], [shards.length, ring.pick('key')]);
    for (let n = 1; n <= all.length; n++) assert.deepEqual(ring.pickN('key', n), all.slice(0, n));
  }
});

test('what is no ring is refused with its place', () => {
  const rows: [unknown, unknown, RegExp][] = [
    [[], {}, /shards: expected an integer from 1 to 1024, got 0/],
    [[{ name: 'a' }, { name: 'B' }], {}, /shards\[1\]\.name: expected \[a-z0-9-\].* got B/],
    [[{ name: 7 }], {}, /shards\[0\]\.name/],
    [[{ name: 'a' }, { name: 'a' }], {}, /shards\[1\]\.name: expected each name once, got a/],
    [[{ name: 'a', weight: 0 }], {}, /shards\[0\]\.weight: expected an integer .* got 0/],
    [[{ name: 'a', weight: 1.5 }], {}, /shards\[0\]\.weight: .* got 1.5/],
    [[{ name: 'a' }], { vnodes: 0 }, /vnodes: expected an integer from 1 to 1024, got 0/],
  ];
  for (const [shards, options, said] of rows) {
    const wrong = (): Ring => new Ring(shards as Shard[], options as { vnodes: number });
    assert.throws(wrong, (error) => error instanceof ConfigError && said.test(error.message));
  }
});

test('a text without UTF-8 is no key', () => {
  for (const wrong of [() => ringKey('\ud800', 'a'), () => hashPoint('\udfff')]) {
    assert.throws(wrong, (e) => e instanceof ValidationError && e.code === 'string_surrogate');
  }
});
