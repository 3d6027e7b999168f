/** The hash of this package against that of the runtime. */

import assert from 'node:assert/strict';
import { createHash, createHmac } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { hex, hmacSha256, sha256 } from '../src/sha256.js';
import { bytes, digits } from './values.js';
import { THIRD_PARTY } from './vectorFiles.js';

const LENGTHS = [0, 1, 3, 54, 55, 56, 63, 64, 65, 118, 119, 120, 127, 128, 1000, 4096, 70_000];
const data = (length: number): Uint8Array => Uint8Array.from({ length }, (_, i) => i * 7 + length);

test('a hash is the one of the runtime, at every length around a block', () => {
  for (const length of LENGTHS) {
    const expected = createHash('sha256').update(data(length)).digest('hex');
    assert.equal(hex(sha256(data(length))), expected, `${length}`);
  }
});

test('a text is hashed as its UTF-8', () => {
  for (const text of ['', 'abc', 'é', '\u{1f600}'.repeat(2000), '\ufeffx', 'a'.repeat(5000)]) {
    assert.equal(hex(sha256(text)), createHash('sha256').update(text).digest('hex'));
  }
});

test('a part of a larger buffer is hashed alone, and stays as it was', () => {
  const whole = data(200);
  const part = whole.subarray(3, 77);
  assert.deepEqual(sha256(part), sha256(part.slice()));
  assert.deepEqual(whole, data(200));
});

test('a hash does not change the one before it', () => {
  const first = sha256('a');
  const kept = hex(first);
  sha256('b');
  assert.equal(hex(first), kept);
});

test('a MAC is the one of the runtime, at every length of key and message', () => {
  for (const keyLength of [0, 1, 31, 32, 63, 64, 65, 131, 5000]) {
    const mac = hmacSha256(data(keyLength));
    for (const length of LENGTHS) {
      const expected = createHmac('sha256', data(keyLength)).update(data(length)).digest('hex');
      assert.equal(hex(mac(data(length))), expected, `${keyLength} ${length}`);
    }
  }
});

test('a MAC is what Wycheproof says', () => {
  const file = join(THIRD_PARTY, 'wycheproof', 'hmac_sha256_test.json');
  const { testGroups, numberOfTests } = JSON.parse(readFileSync(file, 'utf8'));
  let seen = 0;
  for (const { tests, tagSize } of testGroups) {
    for (const { key, msg, tag, result, tcId } of tests) {
      const made = digits(hmacSha256(bytes(key))(bytes(msg))).slice(0, tagSize / 4);
      assert.equal(made === tag, result === 'valid', `${tcId}`);
      seen++;
    }
  }
  assert.equal(seen, numberOfTests);
});
