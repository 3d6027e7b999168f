/** The README shows code of the samples, and the samples fit the types. */

import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { PACKAGE, run, tool } from './folders.js';

const SAMPLES = join(PACKAGE, 'samples');
const README = readFileSync(join(PACKAGE, 'README.md'), 'utf8');

test('every piece of code in the README stands in a sample', () => {
  const samples = readdirSync(SAMPLES).map((name) => readFileSync(join(SAMPLES, name), 'utf8'));
  const pieces = [...README.matchAll(/```js\n(.*?)```/gs)].map(([, piece]) => piece as string);
  assert.ok(pieces.length > 0);
  for (const piece of pieces) {
    assert.ok(
      samples.some((sample) => sample.includes(piece)),
      `stale: ${piece}`,
    );
  }
});

test('every entry of the package is in the README', () => {
  const { exports } = JSON.parse(readFileSync(join(PACKAGE, 'package.json'), 'utf8'));
  for (const entry of Object.keys(exports).filter((each) => each !== './package.json')) {
    assert.ok(README.includes(`\`${join('@fractal-lba/client', entry)}\``), entry);
  }
});

test('the samples fit the types', () => {
  run('npm', ['run', '--silent', 'build']);
  const names = readdirSync(SAMPLES).map((name) => join('samples', name));
  const strict = ['--strict', '--noEmit', '--allowJs', '--checkJs', '--target', 'es2022'];
  const resolved = ['--module', 'nodenext', '--lib', 'es2023,dom,dom.iterable', '--types', 'node'];
  run(tool('tsc'), ['--ignoreConfig', ...strict, ...resolved, ...names]);
});
