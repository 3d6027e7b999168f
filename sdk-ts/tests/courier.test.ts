// tidy: long because the stories of one courier stand together
/** A client with an outbox: kept before it is sent, sent until it is acknowledged. */

import assert from 'node:assert/strict';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import type { OutboxEvent } from '../src/hooks.js';
import { FractalLBAClient, HmacSigner, sign } from '../src/index.js';
import { jcs } from '../src/jcs.js';
import type { ClientOptions } from '../src/options.js';
import { type Outbox, type OutboxOptions, openOutbox } from '../src/outboxNode.js';
import { FakeClock, outcomeBody } from '../src/testing.js';
import { fetchTransport, type Transport } from '../src/transport.js';
import { fails, options, record, SIGNER } from './clientParts.js';
import { recorded, refused, ScriptedServer, type Seen, type Step } from './scriptedServer.js';

const BOUND = { timeout: 30_000 };
const DAY_MS = 86_400_000;
const AWAY = refused(503, 'unavailable');
const NOBODY = 'https://a.example';
const QUIET = { background: false };

const text = (bytes: Uint8Array): string => new TextDecoder().decode(bytes);

/** Run a test with the directory of an outbox. */
async function withDirectory(body: (directory: string) => Promise<void>): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), 'fractal-lba-courier-'));
  try {
    await body(join(folder, 'outbox'));
  } finally {
    rmSync(folder, { recursive: true });
  }
}

/** What a test gets: an outbox, and clients and servers that end with it. */
interface Bench {
  readonly box: Outbox;
  readonly directory: string;
  client(endpoints: string, changes?: Partial<ClientOptions>): FractalLBAClient;
  server(script: Iterable<Step>): Promise<ScriptedServer>;
}

function withOutbox(body: (bench: Bench) => Promise<void>, how: OutboxOptions = QUIET) {
  return withDirectory(async (directory) => {
    const box = await openOutbox(directory, how);
    const clients: FractalLBAClient[] = [];
    const servers: ScriptedServer[] = [];
    const bench: Bench = {
      box,
      directory,
      client(endpoints, changes) {
        clients.push(new FractalLBAClient(options(endpoints, { outbox: box, ...changes })));
        return clients.at(-1) as FractalLBAClient;
      },
      async server(script) {
        servers.push(await ScriptedServer.start(script));
        return servers.at(-1) as ScriptedServer;
      },
    };
    try {
      await body(bench);
    } finally {
      for (const client of clients) await client.close();
      await box.close();
      for (const server of servers) await server.stop();
    }
  });
}

/** Record every line of a batch, or one record. */
function recordAll({ path, body }: Seen): Uint8Array {
  if (path !== '/v1/pcs/batch') return outcomeBody(JSON.parse(body).pcs_id);
  return answerLines(body, ({ pcs_id }) => ({
    status: 200,
    replayed: false,
    outcome: JSON.parse(text(outcomeBody(`${pcs_id}`))),
  }));
}

function answerLines(body: string, answer: (members: Record<string, unknown>) => object) {
  const lines = body.trim().split('\n');
  const answers = lines.map((line, index) => text(jcs({ index, ...answer(JSON.parse(line)) })));
  return new TextEncoder().encode(answers.map((each) => `${each}\n`).join(''));
}

const ALL: Step = { body: recordAll, repeat: true };

function counts(box: Outbox): number[] {
  const { entries, dead } = box.stats();
  return [entries, dead];
}

/** Give a record of now, for a client on the real clock. */
function fresh(number: number) {
  return record(number, { sent_at: `${new Date().toISOString().slice(0, 19)}Z` });
}

async function fill({ client }: Bench, count: number): Promise<void> {
  for (let number = 0; number < count; number++) await client(NOBODY).enqueue(record(number));
}

// --- submit ------------------------------------------------------------------------------------

test('an acknowledged submit leaves nothing behind', () =>
  withOutbox(async ({ box, client, server }) => {
    const { url } = await server([recorded()]);
    assert.equal((await client(url).submit(record())).outcome.accepted, true);
    assert.deepEqual(counts(box), [0, 0]);
  }));

test('the letter is on disk before the first byte goes out', () =>
  withOutbox(async ({ directory, client, server }) => {
    const found: boolean[] = [];
    const look = (seen: Seen): Uint8Array => {
      const logs = readdirSync(directory).filter((name) => name.endsWith('.log'));
      const kept = logs.map((name) => readFileSync(join(directory, name), 'utf8')).join();
      found.push(kept.includes(JSON.stringify(seen.body)));
      return recordAll(seen);
    };
    const { url } = await server([{ body: look }]);
    await client(url).submit(record());
    assert.deepEqual(found, [true]);
  }));

test('a stopped submit is queued and sent later with the same bytes', () =>
  withOutbox(async ({ box, client, server }) => {
    const { url, seen } = await server([AWAY, AWAY, AWAY, recorded()]);
    const sender = client(url);
    const error = await fails(sender.submit(record()));
    assert.deepEqual([error.name, error.queued], ['UnavailableError', true]);
    assert.deepEqual(counts(box), [1, 0]);
    assert.equal((await sender.flush(60_000)).entries, 0);
    assert.equal(new Set(seen.map(({ body }) => body)).size, 1);
    assert.equal(new Set(seen.map(({ headers }) => headers['idempotency-key'])).size, 1);
    assert.equal(seen[3]?.headers['x-retry-attempt'], undefined);
  }));

test('a restart goes on where the last process ended', () =>
  withDirectory(async (directory) => {
    const server = await ScriptedServer.start([AWAY, AWAY, AWAY, recorded()]);
    for (const changes of [{}, { signer: null, tenant: 'another' }]) {
      const outbox = await openOutbox(directory, QUIET);
      const client = new FractalLBAClient(options(server.url, { outbox, ...changes }));
      if (server.seen.length) assert.equal((await client.flush(60_000)).entries, 0);
      else await fails(client.submit(record()));
      await client.close();
      await outbox.close();
    }
    assert.equal(server.seen[3]?.body, server.seen[0]?.body);
    assert.equal(server.seen[3]?.headers['x-tenant-id'], 'acme', 'the tenant that signed');
    await server.stop();
  }));

for (const status of [400, 409, 413, 422]) {
  test(`what the server will never take becomes a dead letter: ${status}`, () =>
    withOutbox(async ({ box, client, server }) => {
      const { url, seen } = await server([refused(status, 'pcs_id_conflict'), recorded()]);
      const sender = client(url);
      assert.equal((await fails(sender.submit(record()))).queued, false);
      assert.deepEqual(counts(box), [0, 1]);
      const [dead] = await box.dead();
      assert.deepEqual([dead?.status, dead?.code], [status, 'pcs_id_conflict']);
      assert.equal(JSON.parse(dead?.response ?? '').code, 'pcs_id_conflict');
      await box.requeue(dead?.id ?? '');
      await sender.flush(60_000);
      assert.deepEqual(counts(box), [0, 0]);
      assert.equal(seen[0]?.body, seen[1]?.body);
    }));
}

test('a record that is refused here is not kept', () =>
  withOutbox(async ({ box, client }) => {
    await fails(client(NOBODY).submit(record(7, { extra: 1 })));
    assert.deepEqual(counts(box), [0, 0]);
  }));

test('a full outbox sends nothing', () =>
  withOutbox(
    async ({ client, server }) => {
      const silent = await server([]);
      const sender = client(silent.url);
      await sender.enqueue(record(1));
      const error = await fails(sender.submit(record(2)));
      assert.deepEqual(
        [error.name, error.code, error.queued],
        ['OutboxError', 'outbox_full', false],
      );
      assert.equal(silent.connections, 0);
    },
    { background: false, maxEntries: 1 },
  ));

test('an outbox keeps to the level that it can release', () =>
  withOutbox(async ({ box, client }) => {
    for (const durability of ['witnessed', 'local' as 'witnessed'] as const) {
      const changes = { outbox: box, durability };
      assert.throws(() => new FractalLBAClient(options(NOBODY, changes)), {
        code: 'config_invalid',
      });
    }
    for (const durability of ['replicated', 'witnessed'] as const) {
      const error = await fails(client(NOBODY).submit(record(), { durability }));
      assert.equal(error.code, 'config_invalid');
    }
    const replicated = client(NOBODY, { durability: 'replicated' });
    const error = await fails(replicated.submit(record(), { durability: 'durable' }));
    assert.equal(error.code, 'config_invalid');
    assert.deepEqual(counts(box), [0, 0]);
  }));

test('a cancelled submit is queued', BOUND, () =>
  withOutbox(async ({ box, client, server }) => {
    const silent = await server([{ hold: new Promise(() => {}) }]);
    const cancel = new AbortController();
    const call = fails(client(silent.url).submit(record(), { signal: cancel.signal }));
    await silent.arrived();
    cancel.abort();
    const { code, queued } = await call;
    assert.deepEqual([code, queued, box.stats().inFlight], ['cancelled', true, 0]);
  }),
);

test('what a transport breaks leaves its entry to the outbox', () =>
  withOutbox(async ({ box, client }) => {
    const foreign = new RangeError('a bug of the caller');
    const sender = client(NOBODY, { transport: () => Promise.reject(foreign) });
    await assert.rejects(sender.submit(record()), foreign);
    assert.deepEqual([box.stats().entries, box.stats().inFlight], [1, 0]);
  }));

test('a transport that breaks once does not end the delivery of what is kept', () =>
  withOutbox(async ({ box, client, server }) => {
    const { url } = await server([recorded()]);
    const real = fetchTransport();
    let sent = 0;
    const transport: Transport = (request, bounds) =>
      sent++ === 0 ? Promise.reject(new TypeError('a bug of the caller')) : real(request, bounds);
    const sender = client(url, { transport });
    await sender.enqueue(record());
    await sender.flush(60_000);
    assert.equal(sent, 2);
    assert.deepEqual([box.stats().entries, box.stats().dead], [0, 0]);
  }));

// --- pauses ------------------------------------------------------------------------------------

test('a refused key pauses its entries and lets others go', () =>
  withOutbox(async ({ client, server }) => {
    const other = client(NOBODY, {
      signer: new HmacSigner(new Uint8Array(32).fill(9), { kid: 'k2' }),
    });
    for (let number = 0; number < 3; number++) {
      await client(NOBODY).enqueue(record(number));
      await other.enqueue(record(10 + number));
    }
    const heard: unknown[] = [];
    const hooks = { onOutbox: ({ code }: OutboxEvent) => heard.push(code) };
    const problem = { code: 'kid_unknown', status: 401 };
    const body = (seen: Seen): Uint8Array =>
      answerLines(seen.body, ({ kid, pcs_id }) =>
        kid === 'k1'
          ? { status: 401, problem }
          : { status: 200, outcome: JSON.parse(text(outcomeBody(`${pcs_id}`))) },
      );
    const first = await server([{ body }]);
    const stats = await client(first.url, { hooks }).flush(60_000);
    assert.deepEqual([stats.entries, stats.dead], [3, 0]);
    assert.deepEqual(stats.blocked, [{ group: 'kid', name: 'k1' }]);
    assert.equal(heard.filter((code) => code === 'kid_unknown').length, 3);
    const second = await server([ALL]);
    assert.equal((await client(second.url).flush(60_000)).entries, 0, 'a flush tries again');
  }));

test('entries of a retired key are signed again by hand', () =>
  withOutbox(async ({ box, client, server }) => {
    await client(NOBODY).enqueue(record(1));
    const ninth = new HmacSigner(new Uint8Array(32).fill(9), { kid: 'k9' });
    await client(NOBODY, { signer: ninth }).enqueue(record(2));
    const signer = new HmacSigner(new Uint8Array(32).fill(2), { kid: 'k2' });
    const { url, seen } = await server([ALL]);
    const sender = client(url, { signer });
    assert.equal(await sender.resign('k1'), 1);
    await sender.flush(60_000);
    const lines = (seen[0]?.body ?? '').trim().split('\n');
    const kids = lines.map((line) => [JSON.parse(line).epoch, JSON.parse(line).kid]);
    assert.deepEqual(kids.sort(), [
      [1, 'k2'],
      [2, 'k9'],
    ]);
    const again = await sign(record(1), signer, { tenant: 'acme' });
    assert.ok(lines.includes(text(again.body)));
    assert.deepEqual(counts(box), [0, 0]);
  }));

test('only a client with a signer signs again', () =>
  withOutbox(async ({ box, client }) => {
    await client(NOBODY).enqueue(record(1));
    assert.equal(
      (await fails(client(NOBODY, { signer: null }).resign('k1'))).code,
      'config_invalid',
    );
    assert.deepEqual(counts(box), [1, 0]);
  }));

// --- flush -------------------------------------------------------------------------------------

test('a flush sends batches in order', () =>
  withOutbox(async (bench) => {
    await fill(bench, 30);
    const { url, seen } = await bench.server([ALL]);
    assert.equal((await bench.client(url).flush(60_000)).entries, 0);
    assert.equal(seen.length, 1);
    const [{ path, body, headers }] = seen as [Seen];
    assert.equal(path, '/v1/pcs/batch');
    const epochs = body
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line).epoch);
    assert.deepEqual(epochs, [...Array(30).keys()]);
    assert.deepEqual([headers['x-tenant-id'], headers['idempotency-key']], ['acme', undefined]);
  }));

test('a batch holds records of one tenant', () =>
  withOutbox(async (bench) => {
    await fill(bench, 3);
    const other = bench.client(NOBODY, { tenant: 'other' });
    for (let number = 100; number < 103; number++) await other.enqueue(record(number));
    const { url, seen } = await bench.server([ALL]);
    await bench.client(url).flush(60_000);
    const tenants = seen.map(({ headers, body }) => {
      const lines = body
        .trim()
        .split('\n')
        .map((line) => JSON.parse(line).tenant_id);
      assert.deepEqual(new Set(lines), new Set([headers['x-tenant-id']]));
      return headers['x-tenant-id'];
    });
    assert.deepEqual(tenants.sort(), ['acme', 'other']);
  }));

for (const status of [404, 405, 413, 415]) {
  test(`a server without batches gets singles: ${status}`, () =>
    withOutbox(async (bench) => {
      await fill(bench, 8);
      const { url, seen } = await bench.server([refused(status, 'not_found'), ALL]);
      assert.equal((await bench.client(url).flush(60_000)).entries, 0);
      assert.deepEqual(
        seen.map(({ path }) => path),
        ['/v1/pcs/batch', ...Array(8).fill('/v1/pcs/submit')],
      );
      assert.deepEqual(counts(bench.box), [0, 0]);
    }));
}

test('a batch that was cut is sent again and nothing is lost', () =>
  withOutbox(async (bench) => {
    await fill(bench, 5);
    const { url, seen } = await bench.server([{ body: recordAll, cut: 300 }, ALL]);
    assert.equal((await bench.client(url).flush(60_000)).entries, 0);
    assert.equal(seen[0]?.body, seen[1]?.body);
  }));

test('a flush waits as long as the server asked and no shorter', () =>
  withOutbox(async (bench) => {
    await fill(bench, 1);
    const asked = refused(429, 'rate_limited', { headers: [['Retry-After', '100']] });
    const { url, seen } = await bench.server([asked, recorded()]);
    const clock = new FakeClock();
    const start = clock.nowMs();
    const client = bench.client(url, { clock });
    assert.equal((await client.flush(50_000)).entries, 1);
    assert.deepEqual([seen.length, clock.nowMs() - start], [1, 50_000]);
    assert.equal((await client.flush(3_600_000)).entries, 0);
    assert.ok(clock.nowMs() - start >= 100_000);
  }));

test('a flush in vain ends at its deadline', () =>
  withOutbox(async (bench) => {
    await fill(bench, 3);
    const { url, seen } = await bench.server([refused(503, 'unavailable', { repeat: true })]);
    const clock = new FakeClock();
    const start = clock.nowMs();
    assert.equal((await bench.client(url, { clock }).flush(300_000)).entries, 3);
    assert.ok(clock.nowMs() - start >= 300_000);
    assert.ok(seen.length > 10);
  }));

test('while an endpoint is down one entry probes', () =>
  withOutbox(async (bench) => {
    await fill(bench, 40);
    const { url, seen } = await bench.server([AWAY, AWAY, AWAY, ALL]);
    assert.equal((await bench.client(url, { retry: 'none' }).flush(600_000)).entries, 0);
    const sizes = seen.map(({ body }) => body.trim().split('\n').length);
    assert.deepEqual(sizes.slice(0, 4), [40, 1, 1, 1]);
    assert.equal(
      sizes.slice(3).reduce((sum, size) => sum + size),
      40,
    );
  }));

test('an entry that grows too old is not sent', () =>
  withOutbox(async (bench) => {
    await fill(bench, 1);
    const silent = await bench.server([]);
    const clock = new FakeClock();
    clock.advance(40 * DAY_MS);
    await bench.client(silent.url, { clock }).flush(1_000);
    assert.equal(silent.connections, 0);
    assert.equal((await bench.box.dead())[0]?.code, 'outbox_expired');
  }));

test('a closed client neither keeps nor flushes', () =>
  withOutbox(async ({ box, client }) => {
    const closed = client(NOBODY);
    await closed.close();
    for (const call of [closed.enqueue(record()), closed.submit(record()), closed.flush(1)]) {
      assert.equal((await fails(call)).name, 'CancelledError');
    }
    assert.deepEqual(counts(box), [0, 0]);
  }));

test('the outbox forgets a client that is closed', () =>
  withOutbox(async ({ box, client }) => {
    const heard: OutboxEvent[] = [];
    const closed = client(NOBODY, { hooks: { onOutbox: (event) => heard.push(event) } });
    const id = await closed.enqueue(record(1));
    await closed.close();
    const { length } = heard;
    await box.settle(id, { what: 'later', endpointDown: false }, 0, 0);
    assert.equal(heard.length, length);
    assert.equal(heard[0]?.kind, 'queued');
  }));

// --- the courier on the real clock -----------------------------------------------------------

/** Resolve once so many events of a kind were heard. */
function heardAll(kind: OutboxEvent['kind'], count: number) {
  let hear: (event: OutboxEvent) => void = () => {};
  const done = new Promise<void>((resolve) => {
    let left = count;
    hear = (event) => {
      if (event.kind === kind && !--left) resolve();
    };
  });
  return { hooks: { onOutbox: (event: OutboxEvent) => hear(event) }, done };
}

test('what is enqueued goes out by itself', BOUND, () =>
  withDirectory(async (directory) => {
    const server = await ScriptedServer.start([ALL]);
    const outbox = await openOutbox(directory);
    const { hooks, done } = heardAll('acknowledged', 5);
    const given = { endpoints: server.url, signer: SIGNER, tenant: 'acme', outbox, hooks };
    const client = new FractalLBAClient(given);
    for (let number = 0; number < 5; number++) await client.enqueue(fresh(number));
    await done;
    assert.deepEqual(counts(outbox), [0, 0]);
    await client.close();
    await outbox.close();
    await server.stop();
  }),
);

test('what an earlier process left goes out with the first call', BOUND, () =>
  withDirectory(async (directory) => {
    const server = await ScriptedServer.start([ALL]);
    const given = { endpoints: server.url, signer: SIGNER, tenant: 'acme' };
    const earlier = await openOutbox(directory, QUIET);
    const before = new FractalLBAClient({ ...given, outbox: earlier });
    await before.enqueue(fresh(1));
    await before.close();
    await earlier.close();
    const outbox = await openOutbox(directory);
    const { hooks, done } = heardAll('acknowledged', 2);
    const client = new FractalLBAClient({ ...given, outbox, hooks });
    await client.submit(fresh(2));
    await done;
    await client.close();
    await outbox.close();
    await server.stop();
  }),
);

test('closing ends a delivery and keeps its entries', BOUND, () =>
  withDirectory(async (directory) => {
    const server = await ScriptedServer.start([{ hold: new Promise(() => {}) }]);
    const outbox = await openOutbox(directory);
    const given = { endpoints: server.url, signer: SIGNER, tenant: 'acme', outbox };
    const client = new FractalLBAClient(given);
    await client.enqueue(fresh(1));
    await server.arrived();
    await client.close();
    const { entries, inFlight } = outbox.stats();
    assert.deepEqual([entries, inFlight], [1, 0]);
    await outbox.close();
    await server.stop();
  }),
);

test('an outbox that fails ends the courier, which says so', BOUND, () =>
  withDirectory(async (directory) => {
    const outbox = await openOutbox(directory);
    const { hooks, done } = heardAll('outbox_corrupt', 1);
    const given = { endpoints: NOBODY, signer: SIGNER, tenant: 'acme', outbox, hooks };
    const client = new FractalLBAClient({ ...given, transport: () => Promise.reject(new Error()) });
    await outbox.close();
    assert.equal((await fails(client.enqueue(fresh(1)))).name, 'OutboxError');
    await done;
    await client.close();
  }),
);
