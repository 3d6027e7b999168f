/** A child process that keeps letters for ever and says what was acknowledged to it. */

import { writeSync } from 'node:fs';
import process from 'node:process';
import { pathToFileURL } from 'node:url';
import type { Letter } from '../src/outbox.js';
import { directoryFiles, startTicksOf, thisProcess } from '../src/outboxNode.js';
import { openFiles } from '../src/spool.js';
import { bytesOf, CONFLICT, letterNo, NOW_MS } from './outboxParts.js';

export function killLetter(number: number): Letter {
  return { ...letterNo(number), body: bytesOf(`{"n":${number}}${' '.repeat(number % 97)}`) };
}

async function keepForEver(directory: string, start: number): Promise<void> {
  const files = (): ReturnType<typeof directoryFiles> => directoryFiles(directory);
  const box = await openFiles(files, thisProcess, startTicksOf, {}, 20_000);
  const say = (line: string): number => writeSync(1, `${line}\n`);
  say('open');
  for (let number = start; ; number++) {
    const { id } = await box.put(killLetter(number), NOW_MS, true);
    say(`kept ${number}`);
    if (number % 3 === 0) {
      say(`acknowledging ${number}`);
      await box.settle(id, { what: 'acknowledge', status: 200 }, NOW_MS, 0.5);
    } else if (number % 17 === 0) await box.settle(id, CONFLICT, NOW_MS, 0.5);
  }
}

const [, script = '', directory = '', start] = process.argv;
if (import.meta.url === pathToFileURL(script).href) await keepForEver(directory, Number(start));
