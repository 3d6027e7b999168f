/** Options: what is wrong fails before any I/O; zero is a value. */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { FractalLBAClient, HmacSigner } from '../src/index.js';
import { fails, KEY, options, record, SIGNER, withClient } from './clientParts.js';

const INVALID: readonly Record<string, unknown>[] = [
  { sigVersion: 3 },
  { sigVersion: true },
  { sigVersion: '2' },
  { sigVersion: null },
  { tenant: undefined },
  { tenant: 'no spaces' },
  { tenant: '' },
  { tenant: null },
  { signer: new HmacSigner(KEY) },
  { signer: undefined },
  { retry: 3 },
  { retry: { maxAttempts: 0 } },
  { retry: { waitBaseMs: -1 } },
  { retry: 'seed' },
  { connectTimeoutMs: 0 },
  { attemptTimeoutMs: -1 },
  { totalTimeoutMs: Number.POSITIVE_INFINITY },
  { totalTimeoutMs: Number.NaN },
  { totalTimeoutMs: true },
  { totalTimeoutMs: '60' },
  { totalTimeoutMs: null },
  { durability: 'local' },
  { failover: { downAfter: 0 } },
  { failover: { allowedRegions: ['eu'] } },
  { concurrency: 0 },
  { concurrency: 1.5 },
  { maxInFlight: 0 },
  { maxInFlight: true },
  { connectionMaxAgeMs: 0 },
  { connectionIdleMs: 0 },
  { maxRecordBytes: 65_537 },
  { maxRecordBytes: 0 },
  { maxResponseBytes: 0 },
  { maxResponseHeaders: 101 },
  { maxResponseHeaders: 0 },
  { app: 'x'.repeat(25) },
  { app: 'line\nend' },
  { maxInflight: 3 },
  { retry: { maxAttempt: 3 } },
  { failover: { downafter: 3 } },
  { failover: null },
  { endpoints: [null] },
  { endpoints: 'http://a.example' },
  { endpoints: 'ftp://a.example' },
  { endpoints: 'https://u:p@a.example' },
  { endpoints: 'https://a.example?q' },
  { endpoints: [] },
  { endpoints: '' },
  { endpoints: undefined },
  { endpoints: ['https://a.example', 'https://a.example/'] },
  { endpoints: 'https://' },
];

for (const changes of INVALID) {
  const name = Object.entries(changes).map(([key, value]) => `${key} ${JSON.stringify(value)}`);
  test(`an invalid option fails in the constructor: ${name}`, () => {
    assert.throws(() => new FractalLBAClient({ ...options('https://a.example'), ...changes }), {
      name: 'ConfigError',
      code: 'config_invalid',
    });
  });
}

test('zero is a value where it is one', () => {
  const retry = { maxAttempts: 1, waitBaseMs: 0, waitMaxMs: 0, retryAfterMaxMs: 0 };
  const failover = { failbackAfterMs: 0, redirectHops: 0 };
  new FractalLBAClient(options('https://a.example', { retry, failover }));
});

test('a call may have its own bounds but no invalid ones', async () => {
  await withClient('https://a.example', {}, async (client) => {
    const invalid: readonly Promise<unknown>[] = [
      client.submit(record(), { totalTimeoutMs: 0 }),
      client.submit(record(), { durability: 'none' as never }),
      client.get('a'.repeat(64), { totalTimeoutMs: -1 }),
      client.enqueue(record()),
      client.flush(1),
      client.resign('k'),
    ];
    for (const call of invalid) assert.equal((await fails(call)).code, 'config_invalid');
    assert.throws(() => client.submitMany([], { concurrency: 0 }), { code: 'config_invalid' });
  });
});

test('a constructor does no I/O', (t) => {
  const touched = (): never => assert.fail('I/O in a constructor');
  t.mock.method(globalThis, 'fetch', touched);
  for (const timer of ['setTimeout', 'setInterval'] as const) {
    t.mock.method(globalThis, timer, touched);
  }
  new FractalLBAClient({ endpoints: 'https://a.example', signer: SIGNER, tenant: 'acme' });
});
