/** Signals, close and queues, on the real clock: what is not ended by them hangs the test. */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { FractalLBAClient } from '../src/index.js';
import type { ClientOptions } from '../src/options.js';
import { FakeClock, outcomeBody } from '../src/testing.js';
import { fails, options, record, SIGNER, withClient } from './clientParts.js';
import { Gate, recorded, refused, ScriptedServer, type Step } from './scriptedServer.js';

const SILENT: Step = { hold: new Promise(() => {}), repeat: true };
const BOUND = { timeout: 30_000 };

/** Give a client on the real clock: its waits end by a signal, or the test hangs. */
function real(endpoints: string, changes: Partial<ClientOptions> = {}): FractalLBAClient {
  return new FractalLBAClient({ endpoints, signer: SIGNER, tenant: 'acme', ...changes });
}

const asked = refused(503, 'unavailable', { headers: [['Retry-After', '50']] });

for (const [name, step] of [
  ['an attempt', SILENT],
  ['a wait', asked],
] as const) {
  test(`a signal ends ${name}`, BOUND, async () => {
    const server = await ScriptedServer.start([step]);
    const client = real(server.url);
    const cancel = new AbortController();
    const call = client.submit(record(), { signal: cancel.signal });
    await server.arrived();
    // The answer of 503 is read, and the wait begun, some turns of the event loop later.
    setTimeout(() => cancel.abort(), step === asked ? 100 : 0);
    const error = await fails(call);
    assert.deepEqual([error.name, error.stop, error.attempts], ['CancelledError', 'cancelled', 1]);
    await client.close();
    await server.stop();
  });
}

test('a transport that hears no signal keeps neither its call nor close', BOUND, async () => {
  const transport = (): Promise<never> => new Promise(() => {});
  const client = real('https://a.example', { transport });
  const cancel = new AbortController();
  const calls = [client.submit(record(), { signal: cancel.signal }), client.submit(record())];
  setTimeout(() => cancel.abort(), 20);
  assert.equal((await fails(calls[0] as Promise<unknown>)).code, 'cancelled');
  const other = fails(calls[1] as Promise<unknown>);
  await client.close();
  assert.equal((await other).code, 'cancelled');
});

test('a signal that has aborted sends nothing', async () => {
  const server = await ScriptedServer.start();
  await withClient(server.url, {}, async (client) => {
    const signal = AbortSignal.abort();
    for (const call of [
      client.submit(record(), { signal }),
      client.get('a'.repeat(64), { signal }),
    ]) {
      const { code, stop, attempts } = await fails(call);
      assert.deepEqual([code, stop, attempts], ['cancelled', 'cancelled', 0]);
    }
  });
  assert.equal(server.connections, 0);
  await server.stop();
});

test('close ends attempts, waits, queues and health checks', BOUND, async () => {
  const server = await ScriptedServer.start([SILENT]);
  const client = real(server.url, { maxInFlight: 1 });
  const calls = [1, 2, 3].map((number) => fails(client.submit(record(number))));
  const health = client.health();
  await server.arrived(2);
  await client.close();
  assert.deepEqual(
    (await Promise.all(calls)).map((error) => error.code),
    ['cancelled', 'cancelled', 'cancelled'],
  );
  assert.deepEqual(
    (await health).map((each) => each.error),
    ['cancelled'],
  );
  for (const call of [
    client.submit(record()),
    client.get('a'.repeat(64)),
    client.submitPCS(record()),
  ]) {
    assert.equal((await fails(call)).code, 'cancelled');
  }
  await client.close();
  await server.stop();
});

test('a client is disposed of where the runtime knows that', async () => {
  const client = real('https://a.example');
  assert.equal(typeof client[Symbol.asyncDispose], 'function');
  await client[Symbol.asyncDispose]();
  assert.equal((await fails(client.submit(record()))).code, 'cancelled');
});

test('a call that queues too long says so', BOUND, async () => {
  const gate = new Gate();
  const server = await ScriptedServer.start([recorded(200, { hold: gate.opened, repeat: true })]);
  const client = real(server.url, { maxInFlight: 1 });
  const first = client.submit(record());
  await server.arrived();
  const error = await fails(client.submit(record(), { totalTimeoutMs: 50 }));
  assert.deepEqual(
    [error.name, error.stop, error.attempts],
    ['TimeoutError', 'deadline_exceeded', 0],
  );
  gate.open();
  assert.equal((await first).outcome.accepted, true);
  await client.close();
  await server.stop();
});

test('places pass on in the order of asking, and none is lost', BOUND, async () => {
  const server = await ScriptedServer.start([recorded(200, { repeat: true })]);
  const client = real(server.url, { maxInFlight: 2 });
  const cancel = new AbortController();
  const calls = Array.from({ length: 30 }, (_, number) =>
    client.submit(record(number), number % 5 === 4 ? { signal: cancel.signal } : {}),
  );
  cancel.abort();
  const ends = await Promise.allSettled(calls);
  assert.equal(ends.filter(({ status }) => status === 'fulfilled').length, 24);
  assert.ok(server.inFlightMax <= 2);
  const epochs = server.seen.map((seen) => JSON.parse(seen.body).epoch as number);
  // Two at a time may overtake each other, by one place.
  for (const [place, epoch] of epochs.entries()) {
    const expected = [...epochs].sort((a, b) => a - b)[place] as number;
    assert.ok(Math.abs(epoch - expected) <= 2, `${epochs}`);
  }
  assert.equal((await client.submit(record())).outcome.accepted, true);
  await client.close();
  await server.stop();
});

// --- many --------------------------------------------------------------------------------------

async function* asynchronous<T>(items: Iterable<T>): AsyncGenerator<T> {
  for (const item of items) yield item;
}

const records = (count: number, from = 0) =>
  Array.from({ length: count }, (_, number) => record(from + number));

for (const kind of ['sync', 'async'] as const) {
  test(`answers come in the order of the input: ${kind}`, BOUND, async () => {
    const gates = Array.from({ length: 8 }, () => new Gate());
    const server = await ScriptedServer.start(
      gates.map(({ opened }) => recorded(200, { hold: opened })),
    );
    await withClient(server.url, {}, async (client) => {
      const input = kind === 'sync' ? records(8) : asynchronous(records(8));
      const items = client.submitMany(input, { concurrency: 8 });
      const all = collect(items);
      await server.arrived(8);
      for (const gate of gates.reverse()) gate.open();
      const found = await all;
      assert.deepEqual(
        found.map(({ index, result }) => [index, result?.outcome.pcsId]),
        records(8).map(({ pcs_id }, index) => [index, pcs_id]),
      );
    });
    await server.stop();
  });
}

async function collect<T>(items: AsyncIterable<T>): Promise<T[]> {
  const all: T[] = [];
  for await (const item of items) all.push(item);
  return all;
}

test('one bad record spoils no other', BOUND, async () => {
  const server = await ScriptedServer.start([recorded(200, { repeat: true })]);
  await withClient(server.url, {}, async (client) => {
    const given = [record(1), record(7, { extra: 1 }), record(2), null as never, record(3)];
    const items = await collect(client.submitMany(given));
    assert.deepEqual(
      items.map(({ error }) => error?.code),
      [undefined, 'member_unknown', undefined, 'member_type', undefined],
    );
  });
  await server.stop();
});

test('no more are in flight than asked', BOUND, async () => {
  const gate = new Gate();
  const server = await ScriptedServer.start([recorded(200, { hold: gate.opened, repeat: true })]);
  await withClient(server.url, {}, async (client) => {
    const all = collect(client.submitMany(records(20), { concurrency: 3 }));
    await server.arrived(3);
    gate.open();
    assert.equal((await all).length, 20);
  });
  assert.equal(server.inFlightMax, 3);
  await server.stop();
});

test('what the input throws comes after the answers', BOUND, async () => {
  function* broken() {
    yield record(1);
    yield record(2);
    throw new RangeError('the source ended badly');
  }
  const server = await ScriptedServer.start([recorded(200, { repeat: true })]);
  await withClient(server.url, {}, async (client) => {
    for (const input of [broken(), asynchronous(broken())]) {
      const items: number[] = [];
      await assert.rejects(
        async () => {
          for await (const { index } of client.submitMany(input)) items.push(index);
        },
        { message: 'the source ended badly' },
      );
      assert.deepEqual(items, [0, 1]);
    }
  });
  await server.stop();
});

test('an input that is broken from the start is thrown, not waited for', BOUND, async () => {
  const broken: Iterable<never> = {
    [Symbol.iterator]: () => ({
      next() {
        throw new RangeError('no source');
      },
    }),
  };
  await withClient('https://a.example', {}, async (client) => {
    await assert.rejects(collect(client.submitMany(broken)), { message: 'no source' });
    assert.deepEqual(await collect(client.submitMany([])), []);
  });
});

test('an answer comes although the input keeps us waiting', BOUND, async () => {
  const goOn = new Gate();
  async function* source() {
    yield record(1);
    await goOn.opened;
    yield record(2);
  }
  const server = await ScriptedServer.start([recorded(200, { repeat: true })]);
  await withClient(server.url, {}, async (client) => {
    const items = client.submitMany(source());
    assert.equal((await items.next()).value?.index, 0);
    goOn.open();
    assert.equal((await items.next()).value?.index, 1);
    assert.equal((await items.next()).done, true);
  });
  await server.stop();
});

test('the input is read no more than twice the width ahead, and closed', BOUND, async () => {
  let read = 0;
  let isClosed = false;
  function* source() {
    try {
      for (;;) yield record(read++ % 5);
    } finally {
      isClosed = true;
    }
  }
  const gate = new Gate();
  const server = await ScriptedServer.start([recorded(200, { hold: gate.opened, repeat: true })]);
  await withClient(server.url, {}, async (client) => {
    const items = client.submitMany(source(), { concurrency: 3 });
    assert.equal(read, 0);
    const first = items.next();
    await server.arrived(3);
    gate.open();
    await first;
    assert.ok(read <= 2 * 3 + 2, `${read}`);
    await items.return();
    assert.ok(isClosed);
    assert.equal(server.inFlightMax, 3);
  });
  await server.stop();
});

test('a cancel marks the rest', BOUND, async () => {
  const cancel = new AbortController();
  const server = await ScriptedServer.start([recorded(200, { repeat: true })]);
  await withClient(server.url, {}, async (client) => {
    const { signal } = cancel;
    const items = client.submitMany(records(40), { concurrency: 2, signal });
    assert.ok((await items.next()).value?.result);
    cancel.abort();
    const rest = await collect(items);
    assert.deepEqual(
      rest.map(({ index }) => index),
      Array.from({ length: 39 }, (_, index) => index + 1),
    );
    assert.equal(rest.at(-1)?.error?.code, 'cancelled');
  });
  await server.stop();
});

test('turning away from the answers ends what is in flight', BOUND, async () => {
  const never = new Promise<void>(() => {});
  const step: Step = {
    hold: never,
    body: (seen) => outcomeBody(JSON.parse(seen.body).pcs_id),
  };
  const server = await ScriptedServer.start([recorded(), { ...step, repeat: true }]);
  const client = real(server.url, { maxInFlight: 4 });
  for await (const item of client.submitMany(records(100), { concurrency: 4 })) {
    assert.equal(item.index, 0);
    break;
  }
  const error = await fails(client.submit(record(), { totalTimeoutMs: 200 }));
  assert.equal(error.attempts, 1, 'every place is free again');
  await client.close();
  await server.stop();
});

test('one signal for very many calls is no leak', BOUND, async () => {
  const warnings: string[] = [];
  const note = (warning: Error): void => void warnings.push(warning.name);
  process.on('warning', note);
  const { signal } = new AbortController();
  const clock = new FakeClock();
  const transport: ClientOptions['transport'] = async ({ body }) => {
    await new Promise((resolve) => setImmediate(resolve));
    const { pcs_id } = JSON.parse(new TextDecoder().decode(body));
    return { status: 200, headers: [], body: outcomeBody(pcs_id) };
  };
  const client = new FractalLBAClient(options('https://a.example', { transport, clock }));
  await Promise.all(records(100).map((each) => client.submit(each, { signal })));
  await collect(client.submitMany(records(200), { signal, concurrency: 64 }));
  await client.close();
  await new Promise((resolve) => setImmediate(resolve));
  process.off('warning', note);
  assert.deepEqual(warnings, []);
});
