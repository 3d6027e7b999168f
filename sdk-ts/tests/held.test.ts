/** How long an acknowledged entry is held, on disk and by a client; the rest is in the vectors. */

import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { Held } from '../src/held.js';
import { jcs } from '../src/jcs.js';
import type { ClientOptions } from '../src/options.js';
import { type Outbox, type OutboxOptions, openOutbox } from '../src/outboxNode.js';
import type { Position } from '../src/outcome.js';
import { readRegionStatus } from '../src/regionStatus.js';
import type { Verdict } from '../src/schedule.js';
import { outcomeBody } from '../src/testing.js';
import { fails, record, withClient } from './clientParts.js';
import { FaultFiles } from './faultFiles.js';
import {
  bytesOf,
  codeOf,
  idNo,
  letterNo,
  logNo,
  NOW_MS,
  numberOf,
  openBox,
  textOf,
} from './outboxParts.js';
import { refused, ScriptedServer, type Step } from './scriptedServer.js';

const AT = at(1, 5);
const EVERYTHING = 10 ** 9;
const ACCEPTED: Verdict = { what: 'acknowledge', status: 200 };

function at(regionEpoch: number, seq: number): Position {
  return { region: 'eu1', placement: 'open', regionEpoch, seq };
}

function counts(box: Outbox): [entries: number, held: number, inFlight: number] {
  const { entries, held, inFlight } = box.stats();
  return [entries, held, inFlight];
}

async function hold(box: Outbox, number: number, position = AT): Promise<string> {
  const { id } = await box.put(letterNo(number), NOW_MS, true);
  await box.settle(id, { what: 'hold', status: 200, position }, NOW_MS, 0);
  return id;
}

async function taken(box: Outbox): Promise<number[]> {
  const { letters } = await box.take(NOW_MS, 100, EVERYTHING);
  return letters.map(numberOf);
}

function region(
  regionEpoch: number,
  replicated: number,
  ends: readonly [number, number][] = [],
): Uint8Array {
  const closed = ends.map(([region_epoch, seq]) => ({ region_epoch, seq }));
  const numbers = { region_epoch: regionEpoch, durable: 99, replicated };
  return jcs({ region: 'eu1', streams: [{ placement: 'open', closed, ...numbers }] });
}

function statusOf(...told: Parameters<typeof region>) {
  const news = readRegionStatus(region(...told));
  assert.ok(news);
  return news;
}

// --- on disk -----------------------------------------------------------------------------------

test('a held entry is held after a restart, and goes with its watermark', async () => {
  const files = new FaultFiles();
  let box = await openBox(files, 1);
  await hold(box, 1);
  assert.deepEqual([counts(box), await taken(box)], [[1, 1, 0], []]);
  await box.close();
  box = await openBox(files, 1);
  assert.deepEqual([counts(box), await taken(box)], [[1, 1, 0], []]);
  await box.hear(at(1, 4));
  assert.deepEqual(counts(box), [1, 1, 0]);
  await box.hear(AT);
  assert.deepEqual(counts(box), [0, 0, 0]);
  await box.close();
});

test('what may be lost is taken again, and an old answer is not believed', async () => {
  const box = await openBox(new FaultFiles(), 1);
  const first = await hold(box, 1);
  const { id: second } = await box.put(letterNo(2), NOW_MS, true);
  await box.hear(at(2, 3));
  assert.deepEqual(await taken(box), [1]);
  await box.settle(second, { what: 'hold', status: 200, position: AT }, NOW_MS, 0);
  assert.deepEqual(counts(box), [2, 0, 1]);
  await box.settle(first, { what: 'hold', status: 202, position: at(2, 3) }, NOW_MS, 0);
  assert.deepEqual([counts(box), await taken(box)], [[1, 0, 0], [2]]);
});

test('what stands in a newer epoch is held there, and the file knows it', async () => {
  const files = new FaultFiles();
  let box = await openBox(files, 1);
  await hold(box, 1);
  await box.hear(statusOf(2, 4, [[1, 5]]));
  await box.close();
  box = await openBox(files, 1);
  await box.hear(at(2, 4));
  assert.deepEqual(counts(box), [1, 1, 0]);
  await box.hear(statusOf(2, 5, [[1, 5]]));
  assert.deepEqual(counts(box), [0, 0, 0]);
});

test('a carried entry is held where it was', async () => {
  const files = new FaultFiles();
  let box = await openBox(files, 1);
  await hold(box, 1);
  for (let number = 2; number < 60; number++) {
    const { id } = await box.put(letterNo(number), NOW_MS, true);
    await box.settle(id, ACCEPTED, NOW_MS, 0);
  }
  assert.ok(!files.names().includes(logNo(1)));
  assert.deepEqual(counts(box), [1, 1, 0]);
  await box.close();
  box = await openBox(files, 1);
  assert.deepEqual([counts(box), await taken(box)], [[1, 1, 0], []]);
  await box.hear(at(2, 0));
  assert.deepEqual(await taken(box), [1]);
});

test('a hold that a crash forgot is sent once more', async () => {
  const files = new FaultFiles();
  await hold(await openBox(files, 1), 1);
  const after = await openBox(files.crash('synced'), 2);
  assert.deepEqual([counts(after), await taken(after)], [[1, 0, 0], [1]]);
});

test('what a lost region held is sent again, by a full outbox too', async () => {
  const files = new FaultFiles();
  const box = await openBox(files, 1, { maxEntries: 2 });
  await hold(box, 1);
  await hold(box, 2, { ...AT, region: 'us1' });
  assert.deepEqual([await box.resend('eu1'), await box.resend('ap1')], [1, 0]);
  assert.deepEqual(counts(box), [2, 1, 0]);
  const after = await openBox(files.crash('synced'), 2);
  assert.deepEqual(await taken(after), [1]);
  assert.deepEqual(await taken(box), [1]);
  await box.close();
  assert.equal(await codeOf(box.resend('us1')), 'outbox_corrupt');
});

test('held entries fill an outbox, are not signed again, and can be released', async () => {
  const box = await openBox(new FaultFiles(), 1, { maxEntries: 2 });
  const held = await hold(box, 1);
  await box.put(letterNo(3), NOW_MS, false);
  assert.equal(await codeOf(box.put(letterNo(5), NOW_MS, true)), 'outbox_full');
  assert.deepEqual((await box.lettersOf('k1')).map(numberOf), [3]);
  assert.deepEqual([...box.heldRegions()], ['eu1']);
  await box.release(held, 'resigned');
  assert.deepEqual(counts(box), [1, 0, 0]);
  await box.hear(AT);
  await box.close();
  assert.equal(await codeOf(box.hear(AT)), 'outbox_corrupt');
});

test('what becomes of held entries is told, and only news wakes', async () => {
  const box = await openBox(new FaultFiles(), 1);
  const kinds: string[] = [];
  let wakes = 0;
  box.listen(
    ({ kind }) => kinds.push(kind),
    () => wakes++,
  );
  await hold(box, 1);
  await hold(box, 2, at(1, 6));
  const before = wakes;
  await box.hear(at(1, 4));
  assert.equal(wakes, before);
  await box.hear(AT);
  await box.hear(at(2, 0));
  assert.equal(wakes, before + 2);
  const held = ['queued', 'outbox_held'];
  assert.deepEqual(kinds, [...held, ...held, 'acknowledged', 'postponed']);
});

test('a rotten held entry is found when it would go out again', async () => {
  const files = new FaultFiles();
  const box = await openBox(files, 1);
  await hold(box, 1);
  const rotten = new Uint8Array(files.read(logNo(1)));
  rotten[40] = (rotten[40] as number) ^ 1;
  files.place(logNo(1), rotten);
  await box.hear(at(2, 0));
  assert.deepEqual([await taken(box), box.stats().unreadableFrames], [[], 1]);
});

// --- what is heard -----------------------------------------------------------------------------

test('a watermark that goes back is no news', () => {
  const held = new Held();
  held.positions.set(idNo(1), at(2, 9));
  held.hear(at(2, 8));
  for (const older of [at(2, 7), at(1, 99), at(2, 8), { ...at(3, 9), region: 'us1' }]) {
    assert.deepEqual(held.hear(older), { released: [], again: [], moved: [] });
  }
  assert.deepEqual(held.hear(at(2, 9)).released, [idNo(1)]);
  assert.deepEqual(
    [at(1, 1), at(2, 9), at(2, 10), at(3, 1)].map((position) => held.fate(position)),
    ['passed', 'covered', 'open', 'open'],
  );
});

test('what is no status is none, and unknown members are ignored', () => {
  const good = JSON.parse(textOf(region(1, 5)));
  const [stream] = good.streams;
  const read = (value: unknown) => readRegionStatus(bytesOf(JSON.stringify(value)));
  assert.ok(read({ ...good, role: 'primary', streams: [{ ...stream, lag_ms: 3 }] }));
  for (const wrong of [
    [],
    { ...good, region: 'EU1' },
    { ...good, streams: {} },
    { ...good, streams: [7] },
    { ...good, streams: [{ ...stream, placement: '' }] },
    { ...good, streams: [{ ...stream, replicated: -1 }] },
    { ...good, streams: [{ ...stream, durable: '9' }] },
    { ...good, streams: [{ ...stream, closed: [{}] }] },
    { ...good, streams: [{ ...stream, closed: {} }] },
  ]) {
    assert.equal(read(wrong), undefined);
  }
  assert.equal(readRegionStatus(bytesOf('{')), undefined);
});

// --- with a client -----------------------------------------------------------------------------

function placed(position: string, replicated?: string): Step {
  const watermark: [string, string][] = replicated ? [['PCS-Replicated', replicated]] : [];
  return {
    status: 200,
    headers: [['PCS-Position', position], ['PCS-Level', 'durable'], ...watermark],
    body: ({ body }) => outcomeBody(JSON.parse(body).pcs_id),
  };
}

const asked = (...told: Parameters<typeof region>): Step => ({
  status: 200,
  body: region(...told),
});

async function replicated(
  script: readonly Step[],
  changes: Partial<ClientOptions>,
  body: (
    client: Parameters<Parameters<typeof withClient>[2]>[0],
    box: Outbox,
    server: ScriptedServer,
  ) => Promise<void>,
  how: OutboxOptions = { background: false },
): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), 'fractal-lba-held-'));
  const server = await ScriptedServer.start(script);
  const box = await openOutbox(join(folder, 'outbox'), how);
  try {
    const given = { outbox: box, durability: 'replicated' as const, ...changes };
    await withClient(server.url, given, (client) => body(client, box, server));
  } finally {
    await box.close();
    await server.stop();
    rmSync(folder, { recursive: true });
  }
}

test('a submit returns while its entry is held', () =>
  replicated(
    [placed('eu1/open/1/5', 'eu1/open/1/4'), placed('eu1/open/1/6', 'eu1/open/1/5')],
    {},
    async (client, box, server) => {
      const first = await client.submit(record(1));
      assert.deepEqual([first.level, first.position, first.replicated], ['durable', AT, at(1, 4)]);
      assert.deepEqual(counts(box), [1, 1, 0]);
      await client.submit(record(2));
      assert.deepEqual(counts(box), [1, 1, 0]);
      await client.flush(1_000);
      assert.ok(server.seen.every(({ headers }) => !('pcs-min-ack' in headers)));
    },
  ));

test('each line of a batch is held at its own position', () => {
  const batch: Step = {
    status: 200,
    headers: [['PCS-Replicated', 'eu1/open/1/6']],
    body: ({ body }) => {
      const lines = body.trimEnd().split('\n');
      const items = lines.map((line, index) => {
        const outcome = JSON.parse(textOf(outcomeBody(JSON.parse(line).pcs_id)));
        const position = `eu1/open/1/${5 + index}`;
        return { index, status: 200, replayed: false, level: 'durable', position, outcome };
      });
      return bytesOf(items.map((item) => `${JSON.stringify(item)}\n`).join(''));
    },
  };
  return replicated([batch, asked(1, 6), asked(1, 8)], { token: 't' }, async (client, box) => {
    for (const number of [1, 2, 3, 4]) await client.enqueue(record(number));
    assert.equal((await client.flush(4_000)).held, 2);
    assert.equal((await client.flush(4_000)).entries, 0);
    assert.deepEqual(counts(box), [0, 0, 0]);
  });
});

test('what may be lost goes out again, and a displaced entry is a dead letter', () => {
  const body = jcs({ code: 'pcs_id_conflict', displaced: true, status: 409 });
  const script = [placed('eu1/open/1/5'), asked(2, 9, [[1, 4]]), { status: 409, body }];
  return replicated(script, { token: async () => 't' }, async (client, box, server) => {
    await client.submit(record(1));
    const { entries, dead } = await client.flush(4_000);
    assert.deepEqual([entries, dead], [0, 1]);
    const [first, status, second] = server.seen;
    assert.equal(status?.headers.authorization, 'Bearer t');
    assert.equal(second?.body, first?.body);
    assert.match((await box.dead())[0]?.response ?? '', /displaced/);
  });
});

test('a token that cannot be had asks nobody', () =>
  replicated(
    [placed('eu1/open/1/5')],
    { token: () => Promise.reject(new RangeError('not today')) },
    async (client, box) => {
      await client.submit(record(1));
      await client.flush(11_000);
      assert.deepEqual(counts(box), [1, 1, 0]);
    },
  ));

test('a status that is lost or refused is asked for again', () =>
  replicated(
    [placed('eu1/open/1/5'), { reset: true }, refused(503, 'unavailable'), asked(1, 5)],
    { token: 't' },
    async (client, box) => {
      await client.submit(record(1));
      await client.flush(11_000);
      assert.deepEqual(counts(box), [0, 0, 0]);
    },
  ));

test('what is held is asked about in the background', { timeout: 30_000 }, async () => {
  let tell = (): void => {};
  const acknowledged = new Promise<void>((resolve) => {
    tell = resolve;
  });
  const hooks: ClientOptions['hooks'] = {
    onOutbox: ({ kind }) => kind === 'acknowledged' && tell(),
  };
  await replicated(
    [placed('eu1/open/1/5'), asked(1, 4), asked(1, 5)],
    { token: 't', hooks },
    async (client) => {
      await client.submit(record(1));
      await acknowledged;
    },
    {},
  );
});

test('a level is asked for in every attempt without an outbox', () =>
  replicated(
    [1, 2, 3].map(() => refused(503, 'unavailable')),
    { outbox: undefined },
    async (client, _, server) => {
      const { attempts, code } = await fails(client.submit(record(1)));
      assert.deepEqual([attempts, code], [3, 'unavailable']);
      assert.ok(server.seen.every(({ headers }) => headers['pcs-min-ack'] === 'replicated'));
    },
  ));
