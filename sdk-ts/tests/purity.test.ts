/** The core asks for no clock, no chance, no network and no runtime. */

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { ROOT } from './vectorFiles.js';

const PURE =
  'base64 calendar canonical codes ed25519 endpoints errors http ids jcs keys number outcome ' +
  'record recordCheck response retry ring rules scanner secret sha256 sign signers utf8 verify';

const IMPURE = new RegExp(
  String.raw`\b(Date\.now|new Date\(\)|Math\.random|performance|process|fetch|setTimeout|` +
    String.raw`setInterval|queueMicrotask|globalThis|require|console)\b|['"]node:`,
);

const IMPORT = /from '\.\/(\w+)\.js'/g;

test('a module of the core is pure, and imports such modules alone', () => {
  const names = PURE.split(' ');
  for (const name of names) {
    const source = readFileSync(join(ROOT, 'sdk-ts', 'src', `${name}.ts`), 'utf8');
    const code = source.replace(/\/\*[\s\S]*?\*\/|\/\/.*/g, '');
    assert.equal(IMPURE.exec(code)?.[0], undefined, name);
    for (const [, imported] of code.matchAll(IMPORT)) {
      assert(names.includes(`${imported}`), `${name} imports ${imported}`);
    }
  }
});
