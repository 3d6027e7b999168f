/**
 * How many bytes an entry costs a page: minified for browsers, gzip -9.
 *
 * `./outbox-node` and `./otel` are never used without a client, so what counts is what they add.
 */

import assert from 'node:assert/strict';
import { join } from 'node:path';
import { test } from 'node:test';
import { gzipSync } from 'node:zlib';
import { build } from 'esbuild';
import { PACKAGE } from './folders.js';

const CLIENT = "export { FractalLBAClient, HmacSigner } from './src/index.ts';";

/** What is bundled, and the most bytes it may cost; a figure over it is a reviewed change. */
const LIMITS: readonly (readonly [name: string, most: number, source: string, beside?: string])[] =
  [
    ['full client', 16_700, CLIENT],
    ['./sign', 3_400, "export * from './src/entrySign.ts';"],
    ['./verify', 5_200, "export * from './src/entryVerify.ts';"],
    ['./ring', 2_200, "export * from './src/ring.ts';"],
    ['./outbox-node beside the client', 10_700, "export * from './src/outboxNode.ts';", CLIENT],
    ['./otel beside the client', 1_024, "export * from './src/otel.ts';", CLIENT],
  ];

async function gzipped(source: string): Promise<number> {
  const { outputFiles } = await build({
    stdin: { contents: source, resolveDir: PACKAGE, loader: 'ts' },
    bundle: true,
    minify: true,
    write: false,
    format: 'esm',
    platform: 'browser',
    target: 'es2022',
    external: ['node:*'],
    tsconfig: join(PACKAGE, 'tsconfig.json'),
    logLevel: 'error',
  });
  return gzipSync(outputFiles[0]?.contents ?? '', { level: 9 }).length;
}

for (const [name, most, source, beside = ''] of LIMITS) {
  test(`${name} is no larger than it was: ${most} bytes`, async (t) => {
    const size = (await gzipped(beside + source)) - (beside ? await gzipped(beside) : 0);
    t.diagnostic(`${name}: ${size} bytes`);
    assert.ok(size > 0 && size <= most, `${size} bytes`);
  });
}
