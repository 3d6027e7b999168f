/** The artefact as it is published: packed, installed into an empty project, imported, judged. */

import assert from 'node:assert/strict';
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { VERSION } from '../src/http.js';
import { folderOf, PACKAGE, run, tool } from './folders.js';

const MANIFEST = JSON.parse(readFileSync(join(PACKAGE, 'package.json'), 'utf8'));
const ENTRIES = Object.keys(MANIFEST.exports).filter((entry) => entry !== './package.json');
const OFFLINE = ['--offline', '--no-audit', '--no-fund', '--ignore-scripts', '--silent'];

/** Pack the package; give the path of the tarball. */
function packed(folder: string): string {
  run('npm', ['pack', '--silent', '--pack-destination', folder]);
  const [tarball] = readdirSync(folder).filter((name) => name.endsWith('.tgz'));
  assert.ok(tarball);
  return join(folder, tarball);
}

const name = (entry: string): string => join(MANIFEST.name, entry);

test('every entry of the tarball works in an empty project, for both resolutions', (t) => {
  const folder = folderOf(t);
  writeFileSync(join(folder, 'package.json'), '{"private": true, "type": "module"}');
  run('npm', ['install', ...OFFLINE, packed(folder)], folder);
  assert.deepEqual(readdirSync(join(folder, 'node_modules')).filter(isVisible), ['@fractal-lba']);

  const imports = ENTRIES.map((entry, index) => `import * as e${index} from '${name(entry)}';`);
  const used = ENTRIES.map((_, index) => `Object.keys(e${index}).length`);
  writeFileSync(join(folder, 'main.mjs'), `${imports.join('\n')}\nconsole.log([${used}].join());`);
  const counts = run('node', ['main.mjs'], folder).trim().split(',').map(Number);
  assert.ok(
    counts.every((count) => count > 0),
    `${counts}`,
  );

  writeFileSync(join(folder, 'main.ts'), `${imports.join('\n')}\n${CONSUMER}`);
  for (const [module, resolution] of [
    ['node16', 'node16'],
    ['esnext', 'bundler'],
  ] as const) {
    const resolved = ['--module', module, '--moduleResolution', resolution];
    const strict = [
      '--strict',
      '--noEmit',
      '--target',
      'es2022',
      '--lib',
      'es2022,dom,dom.iterable',
    ];
    run(tool('tsc'), ['--ignoreConfig', ...strict, ...resolved, 'main.ts'], folder);
  }
});

const isVisible = (each: string): boolean => !each.startsWith('.');

const CONSUMER = `
const signer = new e0.HmacSigner(new Uint8Array(32), { kid: 'k1' });
const options: e0.ClientOptions = { endpoints: 'https://a.example', signer, tenant: 'acme' };
export async function use(record: e0.PcsRecord): Promise<boolean> {
  const client = new e0.FractalLBAClient(options);
  for await (const { index, error } of client.submitMany([record])) if (error) return index < 0;
  const { outcome }: e0.Submitted = await client.submit(record, { totalTimeoutMs: 1_000 });
  await client.close();
  return outcome.accepted;
}
`;

test('the package holds what it needs, and no sources or tests', (t) => {
  const listed = run('tar', ['-tzf', packed(folderOf(t))])
    .trim()
    .split('\n');
  const files = listed.map((path) => path.replace('package/', ''));
  const isOurs = (path: string): boolean => /^dist\/\w+\.(js|d\.ts)$/.test(path);
  assert.deepEqual(files.filter((path) => !isOurs(path)).sort(), [
    'LICENSE',
    'README.md',
    'package.json',
  ]);
  for (const { types, default: code } of Object.values(MANIFEST.exports) as {
    types?: string;
    default?: string;
  }[]) {
    for (const path of [types, code]) {
      if (path) assert.ok(files.includes(path.slice(2)), path);
    }
  }
});

test('attw finds every entry resolvable (esm-only)', (t) => {
  const tarball = packed(folderOf(t));
  run(tool('attw'), [tarball, '--profile', 'esm-only', '--no-color', '--no-emoji']);
});

test('publint finds nothing', () => {
  run(tool('publint'), ['run', '--strict', '.']);
});

test('versions agree, and nothing is needed at run time', () => {
  assert.equal(MANIFEST.version, VERSION);
  assert.deepEqual([MANIFEST.dependencies, MANIFEST.sideEffects], [undefined, false]);
  assert.deepEqual([MANIFEST.type, MANIFEST.engines], ['module', { node: '>=20' }]);
});
