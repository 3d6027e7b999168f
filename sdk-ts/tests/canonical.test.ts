/** The signing rule where vectors do not reach: properties of rounding, and what versions share. */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { canonicalize, payload, signatureVersion } from '../src/canonical.js';
import { checkPcsId, derivePcsId } from '../src/ids.js';
import { nano, numberText, rounded, SIGNED_FLOATS, type SignedFloat } from '../src/number.js';
import type { Members } from '../src/scanner.js';
import { hex, sha256 } from '../src/sha256.js';
import { below, chance } from './chance.js';
import { record } from './clientParts.js';
import { double, textOf } from './values.js';

const FLOATS = Object.keys(SIGNED_FLOATS) as SignedFloat[];

/** Write n billionths with integers alone: another way to the same text. */
function textOfInteger(n: number): string {
  const digits = `${n}`;
  if (n === 0) return '0';
  if (n < 1000) {
    const [head, ...tail] = digits.replace(/0+$/, '');
    return `${head}${tail.length ? '.' : ''}${tail.join('')}e-${10 - digits.length}`;
  }
  const padded = digits.padStart(10, '0');
  const fraction = padded.slice(-9).replace(/0+$/, '');
  return `${padded.slice(0, -9)}${fraction && '.'}${fraction}`;
}

test('the text of a number is that of its billionths', () => {
  const random = chance(32);
  for (let n = 0; n < 2000; n++) assert.equal(numberText(n), textOfInteger(n));
  for (let count = 0; count < 20_000; count++) {
    const n = Math.floor(3_500_000_001 * random() ** 4);
    assert.equal(numberText(n), textOfInteger(n));
  }
});

test('rounding is nearest, and what was rounded stays', () => {
  const random = chance(33);
  for (let count = 0; count < 20_000; count++) {
    const x = 3.5 * random() ** (1 + below(random, 8));
    const n = nano(x);
    assert(Math.abs(n - x * 1e9) <= 0.5);
    assert.equal(nano(n / 1e9), n);
    assert.equal(rounded(rounded(x)), rounded(x));
  }
});

test('the doubles at which other roundings differ', () => {
  const ties: readonly (readonly [string, number])[] = [
    ['3e012e0be826d694', 0],
    ['3e012e0be826d695', 1],
    ['3f50000000000000', 976_563],
    ['3e19c511dc3a41df', 2],
    ['3e401b2b29a4692b', 7],
    ['3e2e1094d643f784', 4],
    ['8000000000000000', 0],
  ];
  for (const [bits, n] of ties) assert(Object.is(nano(double(bits)), n), bits);
});

test('a payload is the digest that is signed, and has no more than its members', () => {
  const members = { ...record(), sig: 's', x: 1 };
  const seen = canonicalize(members, 1);
  assert.deepEqual(seen.digest, sha256(seen.payload));
  assert.deepEqual(seen.payload, payload(members));
  const names = Object.keys(JSON.parse(textOf(seen.payload)));
  assert.deepEqual(names, 'D_hat budget coh_star epoch merkle_root pcs_id r shard_id'.split(' '));
  assert.deepEqual(seen.payload, payload({ ...members, body: 'b', sig_v: 3 }));
});

test('version 2 signs every member but the signature', () => {
  const body = (changes: Members): string | undefined =>
    canonicalize({ ...record(), ...changes }, 2).body;
  assert.equal(body({ sig: 's' }), body({}));
  for (const changes of [{ attempt: 2 }, { seed: 1 }, { x: null }, { D_hat: 2.000000001 }]) {
    assert.notEqual(body(changes), body({}));
  }
  assert.equal(body({ D_hat: 2.0000000001 }), body({}));
});

test('the content leaves out how a record was delivered', () => {
  const content = (changes: Members): string =>
    canonicalize({ ...record(), ...changes }, 1).content;
  const delivery = { attempt: 3, sent_at: 'x', ft: {}, sig: 's', sig_v: 2, alg: 'a', kid: 'k' };
  assert.equal(content({ ...delivery, tenant_id: 't' }), content({}));
  assert.notEqual(content({ seed: 3 }), content({}));
  assert.match(content({}), /^[0-9a-f]{64}$/);
});

test('the record of a caller stays as it is', () => {
  const members = record(7, { D_hat: 1.23456789012 });
  const before = JSON.stringify(members);
  canonicalize(members, 2).signed('s');
  assert.equal(JSON.stringify(members), before);
});

test('a member that is wrong is named', () => {
  const wrong: readonly (readonly [Members, string])[] = [
    [{ r: undefined }, 'member_missing'],
    [{ r: null }, 'member_type'],
    [{ r: true }, 'member_type'],
    [{ r: '0.5' }, 'member_type'],
    [{ r: [0.5] }, 'member_type'],
    [{ r: Number.NaN }, 'number_not_finite'],
    [{ r: Number.NEGATIVE_INFINITY }, 'number_not_finite'],
    [{ r: Object(Number.POSITIVE_INFINITY) }, 'number_out_of_range'],
    [{ r: -Number.MIN_VALUE }, 'number_out_of_range'],
    [{ r: 10n ** 400n }, 'number_out_of_range'],
    [{ epoch: 1.5 }, 'epoch_invalid'],
    [{ epoch: -1 }, 'epoch_invalid'],
    [{ epoch: Object(1) }, 'epoch_invalid'],
    [{ epoch: 2n ** 53n }, 'epoch_invalid'],
    [{ epoch: '1' }, 'member_type'],
    [{ shard_id: '' }, 'string_length'],
    [{ shard_id: '\u65e5'.repeat(86) }, 'string_length'],
    [{ shard_id: '\ud800' }, 'string_surrogate'],
    [{ shard_id: 1 }, 'member_type'],
    [{ merkle_root: 'A'.repeat(64) }, 'hex_invalid'],
    [{ pcs_id: `${'a'.repeat(64)}\n` }, 'hex_invalid'],
  ];
  for (const [changes, code] of wrong) {
    const pointer = `/${Object.keys(changes)[0]}`;
    const given = { ...record(), ...changes };
    assert.throws(() => canonicalize(given, 1), { code, pointer, name: 'ValidationError' });
  }
});

test('a value at its bound is taken', () => {
  const good = [
    { r: 0 },
    { r: -0 },
    { r: 1 },
    { r: Object(1) },
    { D_hat: 3.5 },
    { coh_star: 1.05 },
  ];
  const texts = [{ shard_id: 'a'.repeat(256) }, { shard_id: '\u65e5'.repeat(85) }];
  for (const changes of [...good, ...texts, { epoch: 0 }, { epoch: 2 ** 53 - 1 }]) {
    const { values } = canonicalize({ ...record(), ...changes }, 1);
    for (const name of FLOATS) assert(!Object.is(values[name], -0));
  }
});

test('a version is 2, or none', () => {
  assert.equal(signatureVersion({}), 1);
  assert.equal(signatureVersion({ sig_v: 2 }), 2);
  for (const sig_v of [1, 3, '2', true, null, Object(2), 2n]) {
    const error = { code: 'sig_version_unsupported', pointer: '/sig_v', name: 'SignatureError' };
    assert.throws(() => signatureVersion({ sig_v }), error);
  }
});

test('an id is derived from what it names', () => {
  const id = 'a687cafc6f56b4da5a9854606076663877ea5e3660cd739af9147d0904665da2';
  assert.equal(derivePcsId('a'.repeat(64), 1, 'shard-001'), id);
  assert.equal(derivePcsId('', 0, ''), hex(sha256('|0|')));
  checkPcsId(record());
  const error = { code: 'pcs_id_mismatch', pointer: '/pcs_id' };
  assert.throws(() => checkPcsId({ ...record(), epoch: 8 }), error);
  assert.throws(() => derivePcsId('', 0, '\ud800'), { code: 'string_surrogate' });
});
