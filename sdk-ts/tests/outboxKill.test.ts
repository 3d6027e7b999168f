/** A real process, killed at random moments, on a real file system. */

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import process from 'node:process';
import { createInterface } from 'node:readline';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import type { Letter } from '../src/outbox.js';
import { openOutbox } from '../src/outboxNode.js';
import { below, chance } from './chance.js';
import { killLetter } from './outboxChild.js';
import { numberOf, textOf } from './outboxParts.js';

const KILLS = 12;
const CHILD = fileURLToPath(new URL('./outboxChild.js', import.meta.url));

/** Run a child until it has said so many lines, kill it, and give all that it said. */
async function killed(directory: string, start: number, lines: number): Promise<string[]> {
  // Deno needs a word more than Node and Bun.
  const words = 'Deno' in globalThis ? ['run', '-A', CHILD] : [CHILD];
  const child = spawn(process.execPath, [...words, directory, `${start}`], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const ended = new Promise((resolve) => child.on('exit', resolve));
  const said: string[] = [];
  for await (const line of createInterface({ input: child.stdout })) {
    said.push(line);
    if (said.length === lines) child.kill('SIGKILL');
  }
  await ended;
  return said;
}

test('a killed process loses nothing it was told is kept', { timeout: 120_000 }, async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'fractal-lba-kill-'));
  const directory = join(folder, 'outbox');
  const random = chance(20_260_101);
  const kept = new Set<number>();
  const acknowledged = new Set<number>();
  try {
    for (let kill = 0; kill < KILLS; kill++) {
      const said = await killed(directory, 1 + kill * 1_000_000, 1 + below(random, 250));
      for (const line of said) {
        const [word, number] = line.split(' ');
        if (word === 'kept') kept.add(Number(number));
        else if (word === 'acknowledging') acknowledged.add(Number(number));
      }
      const box = await openOutbox(directory);
      const live: Letter[] = [...(await box.lettersOf('k0')), ...(await box.lettersOf('k1'))];
      const letters = [...live, ...(await box.dead()).map(({ letter }) => letter)];
      const found = new Set(letters.map(numberOf));
      for (const number of kept) {
        assert.ok(acknowledged.has(number) || found.has(number), `letter ${number} is lost`);
      }
      for (const letter of letters) {
        assert.equal(textOf(letter.body), textOf(killLetter(numberOf(letter)).body));
      }
      assert.deepEqual(box.stats().corruptFiles, []);
      await box.close();
    }
  } finally {
    rmSync(folder, { recursive: true });
  }
  assert.ok(kept.size > KILLS);
  t.diagnostic(`${KILLS} kills, ${kept.size} kept, ${acknowledged.size} acknowledged, 0 lost`);
  t.diagnostic(
    `95 %: below ${(3 / KILLS).toFixed(2)} per kill, ${(3 / kept.size).toFixed(5)} per record`,
  );
});
