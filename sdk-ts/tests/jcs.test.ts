/** The form of RFC 8785, against its documents, its numbers and a kept library. */

import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import canonicalize from 'canonicalize';
import { jcs, jcsText } from '../src/jcs.js';
import { parseValue } from '../src/scanner.js';
import { chance, drawDocument } from './chance.js';
import { utf8 } from './values.js';
import { THIRD_PARTY } from './vectorFiles.js';

const RFC = join(THIRD_PARTY, 'rfc8785');

/** FLK_DOCUMENTS=100000 gives the full comparison. */
const DOCUMENTS = Number(process.env.FLK_DOCUMENTS ?? 5_000);

// SHA-256 of the published number corpus after so many lines (RFC 8785, appendix B).
const CORPUS: Readonly<Record<number, string>> = {
  1000: 'be18b62b6f69cdab33a7e0dae0d9cfa869fda80ddc712221570f9f40a5878687',
  10000: 'b9f7a8e75ef22a835685a52ccba7f7d6bdc99e34b010992cbc5864cd12be6892',
  100000: '22776e6d4b49fa294a0d0f349268e5c28808fe7e0cb2bcbe28f63894e494d4c7',
};

test('the documents of RFC 8785 have its form', () => {
  for (const file of readdirSync(join(RFC, 'input'))) {
    const given = readFileSync(join(RFC, 'input', file));
    assert.deepEqual(jcsText(parseValue(given)), readFileSync(join(RFC, 'output', file), 'utf8'));
  }
});

function* corpus(): Generator<bigint> {
  const listed = readFileSync(join(RFC, 'es6-static-bits.txt'), 'utf8').trim().split(/\s+/);
  for (const bits of listed) yield BigInt(`0x${bits.replace(/^0x/, '')}`);
  for (let i = 0n; i < 2000n; i++) yield 0x0010000000000000n + i;
  let block = Buffer.alloc(32);
  for (;;) {
    block = createHash('sha256').update(block).digest();
    for (let at = 0; at < 32; at += 8) {
      const x = block.readDoubleLE(at);
      if (Number.isFinite(x) && x !== 0) yield block.readBigUInt64LE(at);
    }
  }
}

test('the number corpus of RFC 8785 has its checksums', () => {
  const digest = createHash('sha256');
  const bits = new BigUint64Array(1);
  const doubles = new Float64Array(bits.buffer);
  let seen = 0;
  for (const each of corpus()) {
    bits[0] = each;
    digest.update(`${each.toString(16)},${jcsText(doubles[0])}\n`);
    seen++;
    if (CORPUS[seen]) assert.equal(digest.copy().digest('hex'), CORPUS[seen], `${seen}`);
    if (seen === 100_000) break;
  }
});

test('a drawn document has the form that a kept library writes', () => {
  const random = chance(8785);
  for (let count = 0; count < DOCUMENTS; count++) {
    const document = drawDocument(random);
    const expected = canonicalize(document);
    assert.equal(jcsText(document), expected);
    assert.deepEqual(jcs(parseValue(utf8(`${expected}`))), utf8(`${expected}`));
  }
});

test('what has no canonical form is refused', () => {
  const refused: readonly (readonly [unknown, string])[] = [
    [Number.NaN, 'number_out_of_range'],
    [[0.5, Number.POSITIVE_INFINITY], 'number_out_of_range'],
    [Object(Number.POSITIVE_INFINITY), 'number_out_of_range'],
    [2n ** 53n, 'number_out_of_range'],
    ['\ud800', 'string_surrogate'],
    [{ '\udfff': 1 }, 'string_surrogate'],
    [[undefined], 'member_type'],
    [undefined, 'member_type'],
    [new Date(0), 'member_type'],
    [new Map(), 'member_type'],
    [() => 1, 'member_type'],
    [Symbol('s'), 'member_type'],
    [new Uint8Array(1), 'member_type'],
    [new String('1'), 'member_type'],
    [new Array(2), 'member_type'],
  ];
  for (const [value, code] of refused) assert.throws(() => jcsText(value), { code }, String(code));
});

test('a member that is undefined is as if absent', () => {
  assert.equal(jcsText({ b: 1, a: undefined, c: null }), '{"b":1,"c":null}');
});

test('names are sorted by code units of UTF-16, also names of digits', () => {
  const names = ['\u{1f600}', '\ue000', 'b', 'a', '10', '9', ''];
  const object = Object.fromEntries(names.map((name) => [name, 0]));
  assert.equal(
    jcsText(object),
    `{${[...names].sort().map((name) => `${JSON.stringify(name)}:0`)}}`,
  );
  assert.equal(jcsText({ '10': 1, '9': 2 }), '{"10":1,"9":2}');
});
