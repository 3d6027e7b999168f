/** What is told: events to hooks, lines to the log. */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { inspect } from 'node:util';
import { base64 } from '../src/base64.js';
import { errorFor } from '../src/codes.js';
import { type ClientEvent, type Hooks, type Logger, reporter } from '../src/hooks.js';
import { hex } from '../src/sha256.js';
import { outcomeBody } from '../src/testing.js';
import { fails, KEY, record, SIGNER, withClient } from './clientParts.js';
import { recorded, refused, ScriptedServer } from './scriptedServer.js';

/** Keep lines with the name of the method that took them. */
class Lines implements Logger {
  readonly lines: string[] = [];
  debug = (message: string): void => void this.lines.push(`debug ${message}`);
  info = (message: string): void => void this.lines.push(`info ${message}`);
  warn = (message: string): void => void this.lines.push(`warn ${message}`);
  error = (message: string): void => void this.lines.push(`error ${message}`);
}

const EVENTS: readonly (readonly [ClientEvent, string])[] = [
  [
    {
      type: 'attempt',
      call: 'submit',
      method: 'POST',
      url: 'https://a.example/v1/pcs/submit',
      attempt: 2,
      elapsedMs: 12,
      status: 503,
      code: 'unavailable',
      requestId: 'r1',
      requestHeaders: { 'x-retry-attempt': '1' },
      responseHeaders: { 'retry-after': '1' },
    },
    'debug submit attempt 2 POST https://a.example/v1/pcs/submit -> 503 in 12 ms, ' +
      'sent {"x-retry-attempt":"1"}, got {"retry-after":"1"}',
  ],
  [
    {
      type: 'attempt',
      call: 'get',
      method: 'GET',
      url: 'u',
      attempt: 1,
      elapsedMs: 0,
      code: 'connect_failed',
      requestHeaders: {},
      responseHeaders: {},
    },
    'debug get attempt 1 GET u -> connect_failed in 0 ms, sent {}, got {}',
  ],
  [
    { type: 'retry', call: 'submit', attempt: 2, waitMs: 250, code: 'unavailable' },
    'debug submit attempt 2 failed with unavailable, waiting 250 ms',
  ],
  [
    { type: 'failover', fromUrl: 'https://a.example', toUrl: 'https://b.example' },
    'debug failover from https://a.example to https://b.example',
  ],
  [{ type: 'outbox', kind: 'queued', id: '1' }, 'debug outbox queued: entry 1, no code'],
  [
    { type: 'outbox', kind: 'dead', id: '1', code: 'pcs_id_conflict' },
    'warn outbox dead: entry 1, pcs_id_conflict',
  ],
  [
    { type: 'outbox', kind: 'outbox_blocked', id: '1', code: 'kid_unknown' },
    'warn outbox outbox_blocked: entry 1, kid_unknown',
  ],
  [{ type: 'outbox', kind: 'outbox_corrupt' }, 'warn outbox outbox_corrupt: no entry, no code'],
  [
    {
      type: 'stop',
      call: 'submit',
      error: errorFor('pcs_id_conflict', 'free text', { status: 409 }),
    },
    'warn submit stopped: pcs_id_conflict after 0 attempts (no reason), status 409, no request id',
  ],
];

for (const [event, line] of EVENTS) {
  test(`one line: ${line}`, () => {
    const log = new Lines();
    reporter({}, log)({ ...event });
    assert.deepEqual(log.lines, [line]);
    reporter({})({ ...event });
  });
}

test('each hook hears its own events, and they are frozen', () => {
  const heard: [string, ClientEvent][] = [];
  const names = ['onAttempt', 'onRetry', 'onFailover', 'onOutbox'] as const;
  const hooks = Object.fromEntries(
    names.map((name) => [name, (event: ClientEvent) => heard.push([name, event])]),
  );
  const tell = reporter(hooks as Hooks);
  const told = EVENTS.map(([event]) => ({ ...event }));
  for (const event of told) tell(event);
  const of = { attempt: names[0], retry: names[1], failover: names[2], outbox: names[3], stop: '' };
  const expected = told.filter(({ type }) => of[type]).map((event) => [of[event.type], event]);
  assert.deepEqual(heard, expected);
  assert.ok(heard.every(([, event]) => Object.isFrozen(event)));
});

test('a hook that throws is logged once, without its text', async () => {
  const log = new Lines();
  const broken = () => {
    throw new RangeError('s3cret');
  };
  const rejecting = async () => {
    throw new TypeError('s3cret');
  };
  const tell = reporter({ onRetry: broken, onFailover: rejecting }, log);
  const [, , [retry], [failover]] = [...EVENTS] as unknown as [
    never,
    never,
    [ClientEvent],
    [ClientEvent],
  ];
  for (let n = 0; n < 3; n++) {
    tell({ ...retry });
    tell({ ...failover });
  }
  await new Promise((resolve) => setImmediate(resolve));
  const warnings = log.lines.filter((line) => line.startsWith('warn'));
  assert.deepEqual(warnings, [
    'warn a hook threw RangeError; later ones are not logged',
    'warn a hook threw TypeError; later ones are not logged',
  ]);
  assert.ok(!log.lines.join().includes('s3cret'));
});

test('what a hook throws, even nothing, is contained without a logger', () => {
  const tell = reporter({
    onRetry: () => {
      throw undefined;
    },
  });
  tell({ type: 'retry', call: 'get', attempt: 1, waitMs: 1, code: 'internal' });
});

test('hooks hear every attempt, retry and failover', async () => {
  const heard: string[] = [];
  const hooks: Hooks = {
    onAttempt: ({ attempt, status }) => heard.push(`attempt ${attempt} ${status}`),
    onRetry: ({ code }) => heard.push(`retry after ${code}`),
    onFailover: ({ toUrl }) => heard.push(`to ${toUrl}`),
  };
  const first = await ScriptedServer.start([refused(503, 'unavailable')]);
  const second = await ScriptedServer.start([recorded()]);
  await withClient([first.url, second.url], { hooks }, (client) => client.submit(record()));
  assert.deepEqual(heard, [
    'attempt 1 503',
    'retry after unavailable',
    `to ${second.url}`,
    'attempt 2 200',
  ]);
  await Promise.all([first.stop(), second.stop()]);
});

test('nothing secret is ever logged or told', async () => {
  const log = new Lines();
  const told: unknown[] = [];
  const hear = (event: unknown): void => void told.push(event);
  const hooks = { onAttempt: hear, onRetry: hear, onFailover: hear, onOutbox: hear };
  const token = 'tokentokentoken';
  const server = await ScriptedServer.start([
    refused(401, 'signature_invalid', { headers: [['Set-Cookie', 'session=cookiecookie']] }),
    { body: new Uint8Array(20).fill(255) },
    refused(503, 'unavailable'),
    { cut: 0 },
    recorded(),
    { body: outcomeBody(record().pcs_id) },
  ]);
  await withClient(server.url, { token, hooks, logger: log }, async (client) => {
    told.push(await fails(client.submit(record())), await fails(client.submit(record())));
    await client.submit(record());
    await client.get(record().pcs_id);
    told.push(client, SIGNER);
  });
  await server.stop();
  const texts = told.flatMap((each) => [
    `${each}`,
    JSON.stringify(each),
    inspect(each, { depth: 9 }),
  ]);
  // The body and the headers of an error are for the program; its text forms hold them all.
  const everything = [...log.lines, ...texts].join('\n');
  const signatures = server.seen.flatMap(({ body }) => (body ? JSON.parse(body).sig : []));
  assert.equal(new Set(signatures).size, 1);
  const needles = [hex(KEY), base64(KEY), token, 'Bearer', 'merkle_root', ...signatures];
  for (const needle of needles) assert.ok(!everything.includes(needle), needle);
  assert.ok(!log.lines.join().includes('cookiecookie'));
  assert.match(everything, /debug submit attempt 1 POST http/);
  assert.match(everything, /warn submit stopped: signature_invalid after 1 attempts/);
  assert.ok(log.lines.every((line) => /^(debug|warn) /.test(line)));
});
