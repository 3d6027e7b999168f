/** The client against scripted servers on real sockets; waits pass on a fake clock. */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { HEALTH_TIMEOUT_MS } from '../src/client.js';
import { codeOfStatus } from '../src/codes.js';
import {
  type AnyRecord,
  type ClientOptions,
  HmacSigner,
  Secret,
  signedRecord,
} from '../src/index.js';
import { jcs } from '../src/jcs.js';
import { sign } from '../src/sign.js';
import { FakeClock, outcomeBody, ScriptedTransport } from '../src/testing.js';
import { fails, record, SIGNER, withClient } from './clientParts.js';
import { Gate, recorded, refused, ScriptedServer, type Seen } from './scriptedServer.js';
import { against, closedUrl } from './served.js';

const TENANT = { tenant: 'acme' };

// --- every status ------------------------------------------------------------------------------

for (const status of [200, 202]) {
  test(`a submit answered with ${status} is a result`, async () => {
    await against([recorded(status, { replayed: true })], {}, async (client) => {
      const submitted = await client.submit(record());
      assert.equal(submitted.outcome.accepted, status === 200);
      assert.equal(submitted.replayed, true);
      assert.deepEqual(submitted.position, {
        region: 'fra',
        placement: 'open',
        regionEpoch: 1,
        seq: 7,
      });
      assert.deepEqual([submitted.level, submitted.receipt], ['durable', undefined]);
      assert.deepEqual([submitted.raw.status, submitted.raw.requestId], [status, 'req-1']);
    });
  });
}

const REFUSALS: readonly (readonly [number, string, number])[] = [
  [400, 'APIError', 1],
  [401, 'AuthError', 1],
  [403, 'AuthError', 1],
  [404, 'NotFoundError', 1],
  [409, 'ConflictError', 1],
  [413, 'APIError', 1],
  [415, 'APIError', 1],
  [422, 'APIError', 1],
  [429, 'RateLimitError', 3],
  [500, 'APIError', 3],
  [502, 'APIError', 3],
  [503, 'UnavailableError', 3],
  [504, 'APIError', 3],
];

for (const [status, name, attempts] of REFUSALS) {
  test(`${status} is one typed error`, async () => {
    const code = codeOfStatus(status);
    const server = await against([refused(status, code, { repeat: true })], {}, async (client) => {
      const error = await fails(client.submit(record()));
      assert.equal(error.name, name);
      assert.deepEqual([error.code, error.status, error.attempts], [code, status, attempts]);
      assert.deepEqual([error.requestId, error.queued], ['req-2', false]);
      assert.equal(error.stop, attempts === 3 ? 'attempts_exhausted' : 'not_retryable');
    });
    assert.equal(server.seen.length, attempts);
  });
}

for (const [status, code, name] of [
  [401, 'signature_invalid', 'SignatureError'],
  [401, 'kid_unknown', 'SignatureError'],
  [422, 'pcs_id_mismatch', 'ValidationError'],
  [400, 'json_malformed', 'ValidationError'],
  [503, 'not_primary', 'UnavailableError'],
] as const) {
  test(`the server's code ${code} is kept`, async () => {
    await against([refused(status, code, { repeat: true })], {}, async (client) => {
      const error = await fails(client.submit(record()));
      assert.deepEqual([error.name, error.code], [name, code]);
    });
  });
}

// --- the request -------------------------------------------------------------------------------

/** What `fetch` of this runtime adds by itself; browsers and other runtimes add others. */
const OF_FETCH = ['accept-encoding', 'accept-language', 'connection', 'host', 'sec-fetch-mode'];

test('a submit sends the documented headers, and fetch its own', async () => {
  const server = await against([recorded()], { app: 'test/1' }, async (client) => {
    await client.submit(record());
  });
  const signed = await sign(record(), SIGNER, TENANT);
  const [{ method, path, body, headers }] = server.seen as [Seen];
  assert.deepEqual(
    [method, path, body],
    ['POST', '/v1/pcs/submit', new TextDecoder().decode(signed.body)],
  );
  const ours = Object.entries(headers).filter(([name]) => !OF_FETCH.includes(name));
  assert.deepEqual(Object.fromEntries(ours), {
    accept: 'application/json, application/problem+json',
    'content-type': 'application/json',
    'content-length': `${signed.body.length}`,
    'idempotency-key': signed.content,
    'user-agent': 'fractal-lba-ts-sdk/0.4.0 test/1',
    'x-tenant-id': 'acme',
  });
});

test('bytes and key are the same in every attempt', async () => {
  const script = [refused(503, 'unavailable'), { cut: 0 }, recorded()];
  const server = await against(script, {}, async (client) => {
    assert.equal((await client.submit(record())).raw.attempts, 3);
  });
  const sent = server.seen.map((seen) => `${seen.headers['idempotency-key']} ${seen.body}`);
  assert.equal(new Set(sent).size, 1);
  assert.deepEqual(
    server.seen.map((seen) => seen.headers['x-retry-attempt']),
    [undefined, '1', '2'],
  );
});

for (const level of ['replicated', 'witnessed'] as const) {
  test(`only a level above the default is asked for: ${level}`, async () => {
    const server = await against([recorded(200, { repeat: true })], {}, async (client, { url }) => {
      await client.submit(record(), { durability: 'durable' });
      await client.submit(record(), { durability: level });
      await withClient(url, { durability: level }, (other) => other.submit(record()));
    });
    assert.deepEqual(
      server.seen.map((seen) => seen.headers['pcs-min-ack']),
      [undefined, level, level],
    );
  });
}

test('the tenant is sent only if it is set', async () => {
  const changes = { tenant: undefined, sigVersion: 1 as const };
  const server = await against([recorded()], changes, async (client) => {
    await client.submit(record());
  });
  assert.equal(server.seen[0]?.headers['x-tenant-id'], undefined);
  assert.equal('sig_v' in JSON.parse(server.seen[0]?.body ?? ''), false);
});

test('a submit carries no token', async () => {
  const server = await against([recorded()], { token: 't0ken' }, async (client) => {
    await client.submit(record());
  });
  assert.equal(server.seen[0]?.headers.authorization, undefined);
});

// --- records -----------------------------------------------------------------------------------

test("the caller's record is never changed, and two clients may sign it", async () => {
  const given = record();
  const before = structuredClone(given);
  const other = { signer: new HmacSigner(new Uint8Array(32).fill(9), { kid: 'k2' }), tenant: 'o' };
  const server = await against([recorded(200, { repeat: true })], {}, async (client, { url }) => {
    await client.submit(given);
    await withClient(url, other, (second) => second.submit(given));
  });
  assert.deepEqual(given, before);
  assert.deepEqual(
    server.seen.map((seen) => JSON.parse(seen.body).kid),
    ['k1', 'k2'],
  );
  assert.equal(new Set(server.seen.map((seen) => seen.headers['idempotency-key'])).size, 1);
});

test('a missing id is derived and a wrong one refused', async () => {
  const { pcs_id, ...without } = record();
  const server = await against([recorded(200, { repeat: true })], {}, async (client) => {
    assert.equal((await client.submit(without)).outcome.pcsId, pcs_id);
    const error = await fails(client.submit({ ...without, pcs_id: '0'.repeat(64) }));
    assert.equal(error.code, 'pcs_id_mismatch');
  });
  assert.equal(server.seen.length, 1);
});

const { pcs_id: _, ...WITHOUT_ID } = record();

for (const [name, given, code] of [
  ['an extra member', record(7, { extra: 1 }), 'member_unknown'],
  ['a number out of range', record(7, { D_hat: 4 }), 'number_out_of_range'],
  ['NaN', record(7, { r: Number.NaN }), 'number_not_finite'],
  ['missing members', { epoch: 1 }, 'member_missing'],
  ['a number', 7, 'member_type'],
  ['null', null, 'member_type'],
  ['undefined', undefined, 'member_type'],
  ['a wrong type', { ...WITHOUT_ID, merkle_root: 7 }, 'member_type'],
  ['a boxed symbol', { ...WITHOUT_ID, epoch: true }, 'member_type'],
] as const) {
  test(`a record with ${name} is refused before anything is sent`, async () => {
    const server = await against([], {}, async (client) => {
      const error = await fails(client.submit(given as AnyRecord));
      assert.deepEqual([error.name, error.code, error.fault], ['ValidationError', code, 'caller']);
    });
    assert.equal(server.connections, 0);
  });
}

test('a signed record goes out byte for byte', async () => {
  const { body } = await sign(record(), SIGNER, TENANT);
  const pretty = JSON.stringify(JSON.parse(new TextDecoder().decode(body)), null, 1);
  const signed = signedRecord(new TextEncoder().encode(pretty));
  const server = await against([recorded(200, { repeat: true })], {}, async (client, { url }) => {
    await client.submit(signed);
    await withClient(url, { signer: null }, async (unsigning) => {
      await unsigning.submit(signed);
      await unsigning.submit(JSON.parse(pretty));
    });
  });
  assert.deepEqual(
    server.seen.map((seen) => seen.body),
    [pretty, pretty, new TextDecoder().decode(jcs(JSON.parse(pretty)))],
  );
});

test('without a signer an unsigned record is refused', async () => {
  await withClient('https://a.example', { signer: null }, async (client) => {
    const error = await fails(client.submit(record()));
    assert.deepEqual([error.code, error.fault], ['member_missing', 'caller']);
  });
});

test('a record over the limit is refused', async () => {
  await withClient('https://a.example', { maxRecordBytes: 500 }, async (client) => {
    assert.equal((await fails(client.submit(record()))).code, 'payload_too_large');
  });
});

// --- waits and time ----------------------------------------------------------------------------

test('Retry-After is a floor', async () => {
  const script = [refused(429, 'rate_limited', { headers: [['Retry-After', '7.5']] }), recorded()];
  await against(script, {}, async (client, _, clock) => {
    await client.submit(record());
    const [waitMs = 0] = clock.waitsMs;
    assert.ok(waitMs >= 7_500 && waitMs < 8_000, `${waitMs}`);
  });
});

test('of several Retry-After the largest counts', async () => {
  const headers = [
    ['Retry-After', '3'],
    ['Retry-After', 'Thu, 01 Jan 2026 00:00:09 GMT'],
    ['Retry-After', '5'],
  ] as const;
  const script = [refused(429, 'rate_limited', { headers }), recorded()];
  await against(script, {}, async (client, _, clock) => {
    await client.submit(record());
    const [waitMs = 0] = clock.waitsMs;
    assert.ok(waitMs >= 9_000 && waitMs < 9_500, `${waitMs}`);
  });
});

test('a Retry-After beyond reason ends the call', async () => {
  const script = [refused(503, 'unavailable', { headers: [['Retry-After', '61']] })];
  await against(script, {}, async (client, _, clock) => {
    const error = await fails(client.submit(record()));
    assert.deepEqual([error.stop, error.retryAfterMs], ['retry_after_too_long', 61_000]);
    assert.deepEqual(clock.waitsMs, []);
  });
});

test('a lost reply after acceptance becomes a replay', async () => {
  const server = await against(
    [{ cut: 0 }, recorded(200, { replayed: true })],
    {},
    async (client) => {
      const submitted = await client.submit(record());
      assert.deepEqual([submitted.replayed, submitted.raw.attempts], [true, 2]);
    },
  );
  assert.equal(server.seen[0]?.body, server.seen[1]?.body);
});

for (const [name, step] of [
  ['cut in its head', { cut: 17 }],
  ['cut in its body', { body: new Uint8Array(50), cut: 70 }],
  ['reset', { cut: 0, reset: true }],
  ['no HTTP', { raw: 'nonsense\r\n' }],
] as const) {
  test(`an answer that is ${name} is asked for again`, async () => {
    await against([step, recorded()], {}, async (client) => {
      assert.equal((await client.submit(record())).raw.attempts, 2);
    });
  });
}

test('an attempt has its own bound', async () => {
  const gate = new Gate();
  const script = [recorded(200, { hold: gate.opened }), recorded()];
  await against(script, { attemptTimeoutMs: 100 }, async (client) => {
    assert.equal((await client.submit(record())).raw.attempts, 2);
  });
  gate.open();
});

test('the total bound counts waits', async () => {
  const script = [refused(503, 'unavailable', { headers: [['Retry-After', '5']] })];
  await against(script, {}, async (client) => {
    const error = await fails(client.submit(record(), { totalTimeoutMs: 5_000 }));
    assert.deepEqual(
      [error.code, error.stop, error.attempts],
      ['unavailable', 'deadline_exceeded', 1],
    );
  });
});

test('a success that cannot be read is not sent again', async () => {
  const server = await against([{ body: jcs({ accepted: true }) }], {}, async (client) => {
    const error = await fails(client.submit(record()));
    assert.deepEqual(
      [error.code, error.stop, error.status],
      ['response_malformed', 'not_retryable', 200],
    );
  });
  assert.equal(server.seen.length, 1);
});

test('one quota serves all calls of a client', async () => {
  const script = [refused(500, 'internal', { repeat: true })];
  const server = await against(script, { failover: { downAfter: 10 ** 6 } }, async (client) => {
    const stops: (string | undefined)[] = [];
    for (let n = 0; n < 20; n++) stops.push((await fails(client.submit(record()))).stop);
    assert.deepEqual([stops[0], stops.at(-1)], ['attempts_exhausted', 'quota_exhausted']);
  });
  assert.equal(server.seen.length, 20 + Math.floor(500 / 14));
});

// --- get and health ----------------------------------------------------------------------------

for (const [name, token] of [
  ['text', 't0ken'],
  ['secret', new Secret('t0ken')],
  ['function', () => 't0ken'],
  ['promise', async () => new Secret('t0ken')],
] as const) {
  test(`get reads with a token given as ${name}`, async () => {
    const { pcs_id } = record();
    const server = await against([{ body: outcomeBody(pcs_id) }], { token }, async (client) => {
      assert.equal((await client.get(pcs_id)).pcsId, pcs_id);
    });
    const [seen] = server.seen;
    assert.deepEqual([seen?.method, seen?.path], ['GET', `/v1/pcs/${pcs_id}`]);
    assert.equal(seen?.headers.authorization, 'Bearer t0ken');
    assert.equal(seen?.headers['idempotency-key'], undefined);
  });
}

test('missing is not unavailable', async () => {
  const away = refused(503, 'unavailable', { repeat: true });
  await against([refused(404, 'not_found'), away], {}, async (client) => {
    assert.equal((await fails(client.get('a'.repeat(64)))).name, 'NotFoundError');
    assert.equal((await fails(client.get('a'.repeat(64)))).name, 'UnavailableError');
    assert.equal((await fails(client.get('not an id'))).name, 'ValidationError');
  });
});

test('health asks all endpoints at once and never throws', { timeout: 30_000 }, async () => {
  const gate = new Gate();
  const well = await ScriptedServer.start([{ body: jcs({}) }]);
  const sick = await ScriptedServer.start([refused(503, 'not_primary')]);
  const silent = await ScriptedServer.start([{ hold: gate.opened }]);
  const gone = await closedUrl();
  const endpoints = [{ url: well.url, region: 'eu' }, sick.url, gone, silent.url];
  assert.equal(HEALTH_TIMEOUT_MS, 2_000);
  await withClient(endpoints, {}, async (client) => {
    const answers = await client.health();
    assert.deepEqual(answers, [
      { url: well.url, region: 'eu', ok: true, status: 200, error: undefined },
      { url: sick.url, region: undefined, ok: false, status: 503, error: 'not_primary' },
      { url: gone, region: undefined, ok: false, status: undefined, error: 'connect_failed' },
      {
        url: silent.url,
        region: undefined,
        ok: false,
        status: undefined,
        error: 'attempt_timeout',
      },
    ]);
  });
  assert.equal(well.seen[0]?.path, '/health');
  assert.equal(well.seen[0]?.headers['x-tenant-id'], undefined);
  gate.open();
  await Promise.all([well.stop(), sick.stop(), silent.stop()]);
});

test('the names of the seeds are aliases', async () => {
  await against([recorded(), { body: jcs({}) }], {}, async (client) => {
    assert.equal((await client.submitPCS(record())).outcome.accepted, true);
    assert.equal((await client.healthCheck())[0]?.ok, true);
  });
});

// --- a transport of its own ---------------------------------------------------------------------

test('a client works over a transport of its own, and hands it the bounds', async () => {
  const clock = new FakeClock();
  const body = outcomeBody(record().pcs_id);
  const script = new ScriptedTransport([{ code: 'connect_failed' }, { status: 200, body }], clock);
  const bounds: number[][] = [];
  const transport: ClientOptions['transport'] = (request, given) => {
    bounds.push([given.connectTimeoutMs, given.attemptTimeoutMs]);
    return script.send(request, given);
  };
  await withClient('https://a.example', { transport, clock }, async (client) => {
    assert.equal((await client.submit(record())).raw.attempts, 2);
  });
  assert.equal(script.requests.length, 2);
  assert.deepEqual(bounds, [
    [5_000, 10_000],
    [5_000, 10_000],
  ]);
});

test('an attempt on a fake clock takes no time', async () => {
  const clock = new FakeClock();
  const late = { status: 200, delayMs: 20_000 };
  const { send: transport } = new ScriptedTransport([late, late, late], clock);
  await withClient('https://a.example', { transport, clock }, async (client) => {
    const error = await fails(client.submit(record()));
    assert.deepEqual(
      [error.name, error.code, error.attempts],
      ['TimeoutError', 'attempt_timeout', 3],
    );
  });
});

test('what a transport throws that is no error of the package passes untouched', async () => {
  const foreign = new RangeError('a bug of the caller');
  const transport = (): Promise<never> => Promise.reject(foreign);
  await withClient('https://a.example', { transport, maxInFlight: 1 }, async (client) => {
    for (let call = 0; call < 3; call++) {
      await assert.rejects(client.submit(record()), foreign);
    }
  });
});
