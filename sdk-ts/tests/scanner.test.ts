/** The strict profile of JSON: what it takes, what it refuses, what it keeps of a number. */

import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { isFractalLBAError } from '../src/errors.js';
import { jcsText } from '../src/jcs.js';
import { MAX_DEPTH, MAX_RECORD_BYTES, parse, parseValue } from '../src/scanner.js';
import { below, chance, drawDocument } from './chance.js';
import { utf8 } from './values.js';
import { THIRD_PARTY } from './vectorFiles.js';

function codeOf(text: string | Uint8Array, maxBytes?: number): string {
  try {
    parseValue(typeof text === 'string' ? utf8(text) : text, maxBytes);
  } catch (error) {
    assert(isFractalLBAError(error), String(error));
    return error.code;
  }
  return '';
}

const read = (text: string): unknown => parseValue(utf8(text));

test('a number keeps what its token says', () => {
  for (const token of ['0', '7', '-7', '9007199254740991', '-9007199254740991', '0.5', '1e-7']) {
    assert.equal(read(token), Number(token));
  }
  for (const token of ['1.0', '1e3', '0.0', '-0', '-0.0', '1E400', '10e-1', '9007199254740993.0']) {
    const value = read(token);
    assert(value instanceof Number, token);
    assert(Object.is(+value, Number(token)), token);
  }
  for (const token of ['9007199254740992', '-9007199254740992', '123456789012345678901234567890']) {
    assert.equal(read(token), BigInt(token));
  }
  assert((read('9'.repeat(5000)) as bigint) > 10n ** 399n);
  assert((read(`-${'9'.repeat(5000)}`) as bigint) < -(10n ** 398n));
});

test('a text with an escape is what it says', () => {
  assert.equal(
    read('"\\"\\\\\\/\\b\\f\\n\\r\\t\\u00e9\\ud83d\\ude00"'),
    '"\\/\b\f\n\r\té\u{1f600}',
  );
  assert.equal(read('"\\u0000\u007f\u2028"'), '\0\u007f\u2028');
});

test('an object has its own names alone, whatever they are', () => {
  const names = ['__proto__', 'constructor', 'toString', '', '2', '16'];
  const object = parse(utf8(`{${names.map((name) => `"${name}":1`)}}`));
  assert.deepEqual(Object.keys(object).sort(), [...names].sort());
  assert.equal(object.hasOwnProperty, undefined);
  assert.equal(codeOf('{"__proto__":1,"__proto__":2}'), 'member_duplicate');
  assert.equal(codeOf('{"a":{"b":1,"\\u0062":2}}'), 'member_duplicate');
});

test('what is no JSON of the profile is refused', () => {
  // biome-ignore format: a table
  const malformed = [
    '', ' ', '{', '}', '[', '[1', '[1,', '[1,]', '[,1]', '{"a"}', '{"a":}', '{"a":1,}', '{a:1}',
    "{'a':1}", '01', '-', '+1', '1.', '.5', '1e', '1e+', '0x10', 'NaN', 'Infinity', '-Infinity',
    'True', 'nul', 'truex', '"', '"a', '"\\x41"', '"\\u12"', '"\\', '"a\nb"', '"a\tb"', '"\0"',
    '1 2', '{} x', '{}{}', '[1]]', '{"a":1}}', '// c\n1', '1/**/', '\ufeff1', '\u00a01', '1\u00a0',
    '\v1', '[1 2]', '{"a" 1}', '{"a":1 "b":2}', '{1:2}', '{"a",1}', '[1:2]', ',', ':', '{]', '[}',
    '{"a":1]', '[1}', '{[1]:2}', '{null:1}',
  ];
  for (const text of malformed) assert.equal(codeOf(text), 'json_malformed', JSON.stringify(text));
});

test('white space is the four characters of JSON', () => {
  assert.deepEqual(read(' \t\r\n[ \n1 ,\t2\r] \n'), [1, 2]);
});

test('bytes are UTF-8, and nothing is repaired', () => {
  const bad = ['ff', 'c0af', 'eda080', 'f4908080', 'e282', 'fe', '80'];
  for (const digits of bad) {
    const text = Buffer.from(`2261${digits}6222`, 'hex');
    assert.equal(codeOf(text), 'json_malformed', digits);
  }
  assert.equal(codeOf(Buffer.from('{}', 'utf16le')), 'json_malformed');
});

test('an unpaired surrogate is refused, also in a name', () => {
  for (const inside of ['\\ud800', '\\udc00', '\\ud800x', '\\ud800\\u0041', '\\udc00\\ud800']) {
    assert.equal(codeOf(`"${inside}"`), 'string_surrogate', inside);
    assert.equal(codeOf(`{"${inside}":1}`), 'string_surrogate', inside);
  }
});

test('nesting and length end where they should', () => {
  const nested = (depth: number): string => '['.repeat(depth) + ']'.repeat(depth);
  assert.equal(codeOf(nested(MAX_DEPTH)), '');
  assert.equal(codeOf(nested(MAX_DEPTH + 1)), 'json_limit');
  assert.equal(codeOf('['.repeat(60_000)), 'json_limit');
  assert.equal(codeOf('{"a":'.repeat(10_000)), 'json_limit');
  const text = JSON.stringify('x'.repeat(MAX_RECORD_BYTES - 2));
  assert.equal(codeOf(text), '');
  assert.equal(codeOf(`${text} `), 'payload_too_large');
  assert.equal(codeOf(`${text} `, MAX_RECORD_BYTES + 1), '');
});

test('a record is an object', () => {
  for (const text of ['[]', '1', '"a"', 'null', 'true', '1.0']) {
    assert.throws(() => parse(utf8(text)), { code: 'json_malformed' });
  }
});

test('a hostile text costs no more than its length', () => {
  const texts = [
    '"'.padEnd(60_000, 'a'),
    '"'.padEnd(60_000, '\\u00'),
    ' '.repeat(60_000),
    '1'.padEnd(60_000, '1e'),
  ];
  for (const text of texts) assert.equal(codeOf(text), 'json_malformed');
  assert.equal(codeOf('9'.repeat(60_000)), '');
});

test('what another reader takes, this one reads as the same value', () => {
  const random = chance(1);
  for (let count = 0; count < 3000; count++) {
    const document = drawDocument(random);
    const text = JSON.stringify(document, null, below(random, 3));
    assert.equal(jcsText(read(text)), jcsText(document), text);
  }
});

test('a damaged text is refused, or read as another reader does', () => {
  const random = chance(2);
  for (let count = 0; count < 3000; count++) {
    const text = JSON.stringify(drawDocument(random));
    const at = below(random, text.length);
    const bad =
      text.slice(0, at) + '"\\{}[]:,0-.e x'[below(random, 14)] + text.slice(at + below(random, 2));
    const code = codeOf(bad);
    if (code && code !== 'json_malformed') continue;
    let isJson = true;
    try {
      JSON.parse(bad);
    } catch {
      isJson = false;
    }
    assert.equal(code === '', isJson, bad);
  }
});

test('the parsing test suite is judged as it says', () => {
  const folder = join(THIRD_PARTY, 'json-test-suite', 'test_parsing');
  const seen = { y: 0, n: 0 };
  for (const file of readdirSync(folder)) {
    const kind = file[0];
    if (kind !== 'y' && kind !== 'n') continue;
    const code = codeOf(readFileSync(join(folder, file)), 1 << 20);
    const isStricter = /duplicated/.test(file);
    assert.equal(code === '', kind === 'y' && !isStricter, `${file}: ${code}`);
    seen[kind]++;
  }
  assert(seen.y > 90 && seen.n > 180, JSON.stringify(seen));
});
