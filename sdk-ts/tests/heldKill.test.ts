/** A real client, killed while entries are held: it holds on, and sends nothing twice. */

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import process from 'node:process';
import { createInterface } from 'node:readline';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { FractalLBAClient } from '../src/index.js';
import { openOutbox } from '../src/outboxNode.js';
import { outcomeBody } from '../src/testing.js';
import { SIGNER } from './clientParts.js';
import { textOf } from './outboxParts.js';

const KILLS = 4;
const CHILD = fileURLToPath(new URL('./heldChild.js', import.meta.url));

/** Record what comes, and replicate it when it is told to. */
class Region {
  readonly seqs = new Map<number, number>();
  readonly times = new Map<number, number>();
  /** How much of the log the other regions have; undefined: all of it, whatever comes. */
  share: number | undefined = 0;

  get replicated(): number {
    return this.share ?? this.seqs.size;
  }

  async answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    let body = '';
    for await (const part of request) body += part;
    if (request.url === '/v1/region/status') {
      const numbers = { region_epoch: 1, durable: this.seqs.size, replicated: this.replicated };
      const streams = [{ placement: 'open', closed: [], ...numbers }];
      response.end(JSON.stringify({ region: 'eu1', streams }));
    } else if (request.url === '/v1/pcs/batch') {
      const items = body
        .trimEnd()
        .split('\n')
        .map((line, index) => this.#item(line, index));
      response.end(items.map((item) => `${JSON.stringify(item)}\n`).join(''));
    } else {
      const { position, outcome } = this.#item(body, 0);
      response.setHeader('PCS-Replicated', `eu1/open/1/${this.replicated}`);
      response.setHeader('PCS-Position', position);
      response.end(JSON.stringify(outcome));
    }
  }

  #item(body: string, index: number) {
    const { epoch, pcs_id } = JSON.parse(body);
    const seq = this.seqs.get(epoch) ?? this.seqs.size + 1;
    this.seqs.set(epoch, seq);
    this.times.set(epoch, (this.times.get(epoch) ?? 0) + 1);
    const outcome = JSON.parse(textOf(outcomeBody(pcs_id)));
    const position = `eu1/open/1/${seq}`;
    return { index, status: 200, replayed: false, level: 'durable', position, outcome };
  }
}

/** Run a child until it has said so many lines, kill it, and give all that it said. */
async function killed(words: readonly string[], lines: number): Promise<number[]> {
  const all = 'Deno' in globalThis ? ['run', '-A', CHILD] : [CHILD];
  const child = spawn(process.execPath, [...all, ...words], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const ended = new Promise((resolve) => child.on('exit', resolve));
  const said: number[] = [];
  for await (const line of createInterface({ input: child.stdout })) {
    said.push(Number(line));
    if (said.length === lines) child.kill('SIGKILL');
  }
  await ended;
  return said;
}

test('a killed client holds on and sends nothing twice', { timeout: 120_000 }, async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'fractal-lba-held-kill-'));
  const directory = join(folder, 'outbox');
  const region = new Region();
  const server = createServer((request, response) => void region.answer(request, response));
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const told = new Set<number>();
  try {
    for (let kill = 0; kill < KILLS; kill++) {
      const said = await killed([directory, url, `${1 + 1000 * kill}`], 5 + 11 * kill);
      for (const number of said) told.add(number);
      region.share = Math.floor(region.seqs.size / 2);
    }
    const outbox = await openOutbox(directory, { background: false });
    const { held } = outbox.stats();
    const client = new FractalLBAClient({
      endpoints: url,
      signer: SIGNER,
      tenant: 'acme',
      outbox,
      durability: 'replicated',
      token: 't',
    });
    assert.ok((await client.flush(100)).held > 0);
    region.share = undefined;
    const { entries, dead } = await client.flush(60_000);
    assert.deepEqual([entries, dead], [0, 0]);
    await client.close();
    await outbox.close();
    for (const number of told) assert.ok(region.seqs.has(number), `record ${number} is lost`);
    const twice = [...region.times.values()].filter((times) => times > 1).length;
    // One submit at a time: a kill can leave one entry whose answer, or whose mark, was not kept.
    assert.ok(twice <= KILLS && held >= told.size / 4, `${twice} sent twice, ${held} held`);
    t.diagnostic(`${KILLS} kills, ${told.size} told, ${held} held, ${twice} sent twice, 0 lost`);
  } finally {
    server.closeAllConnections();
    server.close();
    rmSync(folder, { recursive: true });
  }
});
