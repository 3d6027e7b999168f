/** The public surface is recorded in a file, whose diff is a reviewed change. */

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { pathToFileURL } from 'node:url';
import { folderOf, PACKAGE, run, tool } from './folders.js';

test('api.d.ts is what the sources declare; `npm run api` writes it', async (t) => {
  const dist = folderOf(t);
  run(tool('tsc'), ['-p', 'tsconfig.json', '--emitDeclarationOnly', '--outDir', dist]);
  const script = pathToFileURL(join(PACKAGE, 'apiText.mjs')).href;
  const { apiText } = (await import(script)) as { apiText: (dist: string) => string };
  assert.equal(readFileSync(join(PACKAGE, 'api.d.ts'), 'utf8'), apiText(dist));
});
