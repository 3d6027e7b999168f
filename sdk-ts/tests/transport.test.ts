/** The transport over `fetch`, against servers that answer badly, late or not at all. */

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { gzipSync } from 'node:zlib';
import type { RawResponse, Request } from '../src/http.js';
import { type FetchOptions, fetchTransport } from '../src/transport.js';
import { fails } from './clientParts.js';
import { Gate, ScriptedServer, type Step } from './scriptedServer.js';

const BOUND = { timeout: 30_000 };
const BODY = new TextEncoder().encode('{"a":1}');

function send(
  url: string,
  options: FetchOptions & { attemptTimeoutMs?: number; signal?: AbortSignal } = {},
  method: Request['method'] = 'POST',
): Promise<RawResponse> {
  const { attemptTimeoutMs = 10_000, signal = new AbortController().signal, ...rest } = options;
  const request: Request = { method, url, headers: [['X-A', '1']], body: BODY };
  const { body, ...bodiless } = request;
  return fetchTransport(rest)(method === 'GET' ? bodiless : request, {
    connectTimeoutMs: attemptTimeoutMs,
    attemptTimeoutMs,
    signal,
  });
}

async function served<T>(step: Step, use: (url: string) => Promise<T>): Promise<T> {
  const server = await ScriptedServer.start([step]);
  try {
    return await use(server.url);
  } finally {
    await server.stop();
  }
}

test('a response comes back with its status, fields and bytes', async () => {
  const body = Uint8Array.from({ length: 70_000 }, (_, index) => index % 251);
  const headers = [
    ['X-One', 'a'],
    ['X-Two', 'b, c'],
  ] as const;
  const response = await served({ status: 202, headers, body }, (url) => send(url));
  assert.equal(response.status, 202);
  assert.deepEqual(response.body, body);
  const fields = new Map(response.headers);
  assert.deepEqual([fields.get('x-one'), fields.get('x-two')], ['a', 'b, c']);
});

test('a GET has no body and no length', async () => {
  const server = await ScriptedServer.start([{}]);
  await send(server.url, {}, 'GET');
  assert.equal(server.seen[0]?.headers['content-length'], undefined);
  assert.equal(server.seen[0]?.method, 'GET');
  await server.stop();
});

for (const status of [301, 302, 303, 307, 308]) {
  test(`a redirect is not followed: ${status}`, async () => {
    const away = await ScriptedServer.start();
    const headers = [['Location', away.url]] as const;
    const response = await served({ status, headers }, (url) => send(url));
    assert.equal(response.status, status);
    assert.equal(away.connections, 0);
    await away.stop();
  });
}

test('a 421 is an answer: fetch does not ask again on its own', async () => {
  const server = await ScriptedServer.start([{ status: 421 }]);
  assert.equal((await send(server.url)).status, 421);
  assert.equal(server.seen.length, 1);
  assert.equal(server.seen[0]?.headers['content-length'], `${BODY.length}`);
  await server.stop();
});

test('several Retry-After are told apart although fetch joins them', async () => {
  for (const values of [
    ['5', '7'],
    ['5'],
    ['Sun, 06 Nov 1994 08:49:37 GMT'],
    ['3', 'Sun, 06 Nov 1994 08:49:37 GMT', '-1', '2.5'],
    ['Sunday, 06-Nov-94 08:49:37 GMT', 'Sun Nov  6 08:49:37 1994'],
  ]) {
    const headers = values.map((value) => ['Retry-After', value] as const);
    const response = await served({ status: 503, headers }, (url) => send(url));
    const found = response.headers.filter(([name]) => name === 'retry-after');
    assert.deepEqual(
      found.map(([, value]) => value),
      values,
    );
  }
});

// --- limits ------------------------------------------------------------------------------------

for (const size of [9, 10, 11, 1_000_000]) {
  test(`of a body of ${size} bytes at most one over the limit of 10 is read`, async () => {
    const body = new Uint8Array(size).fill(7);
    const response = await served({ body }, (url) => send(url, { maxResponseBytes: 10 }));
    assert.equal(response.body.length, Math.min(size, 11));
  });
}

test('a body that never ends is left at the limit', BOUND, async () => {
  const server = createServer((socket) => {
    socket.on('error', () => {});
    socket.write('HTTP/1.1 200 OK\r\n\r\n');
    const timer = setInterval(() => socket.write('x'.repeat(1_000)), 1);
    socket.on('close', () => clearInterval(timer));
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as { port: number };
  const response = await send(`http://127.0.0.1:${port}`, { maxResponseBytes: 5_000 });
  assert.equal(response.body.length, 5_001);
  await new Promise((resolve) => server.close(resolve));
});

test('a compressed body counts as what it holds', async () => {
  const body = gzipSync(new Uint8Array(1_000_000));
  const headers = [['Content-Encoding', 'gzip']] as const;
  const response = await served({ body, headers }, (url) => send(url, { maxResponseBytes: 500 }));
  assert.equal(response.body.length, 501);
});

test('of a response with too many fields no body is read', async () => {
  const headers = Array.from({ length: 101 }, (_, index) => [`X-${index}`, '1'] as const);
  const response = await served({ headers, body: BODY }, (url) => send(url));
  assert.ok(response.headers.length > 100);
  assert.equal(response.body.length, 0);
});

test('a head without end is too large', async () => {
  const headers = [['X-Long', 'a'.repeat(300_000)]] as const;
  const error = await fails(served({ headers }, (url) => send(url)));
  assert.deepEqual([error.name, error.code], ['APIError', 'response_too_large']);
});

// --- failures ----------------------------------------------------------------------------------

for (const [name, step] of [
  ['is lost', { cut: 0 }],
  ['is reset', { cut: 0, reset: true }],
  ['ends in its head', { cut: 12 }],
  ['ends in its body', { body: BODY, cut: 45 }],
  ['is no HTTP', { raw: 'nonsense\r\n\r\n' }],
] as const) {
  test(`a response that ${name} is connection_lost`, async () => {
    const error = await fails(served(step, (url) => send(url)));
    assert.deepEqual(
      [error.name, error.code, error.fault],
      ['ConnectionError', 'connection_lost', 'network'],
    );
  });
}

for (const [name, url] of [
  ['nobody listens', ''],
  ['the host has no address', 'https://cert.tls.invalid/'],
  ['the port is forbidden', 'http://127.0.0.1:1/'],
] as const) {
  test(`where ${name} it is connect_failed`, async () => {
    const server = await ScriptedServer.start();
    const closed = server.url;
    await server.stop();
    const error = await fails(send(url || closed));
    assert.deepEqual([error.name, error.code], ['ConnectionError', 'connect_failed']);
    assert.ok(!`${error}`.includes('invalid'), 'the text holds no URL');
  });
}

test('a certificate that nobody trusts, and no TLS at all, are tls_failed', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'fractal-lba-tls-'));
  const [key, cert] = [join(folder, 'key.pem'), join(folder, 'cert.pem')];
  const made = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-days', '2'];
  const named = ['-subj', '/CN=localhost', '-keyout', key, '-out', cert];
  execFileSync('openssl', ['req', '-x509', ...made, ...named], { stdio: 'ignore' });
  const server = await ScriptedServer.start([], {
    key: readFileSync(key),
    cert: readFileSync(cert),
  });
  rmSync(folder, { recursive: true });
  const plain = createServer((socket) => {
    socket.on('error', () => {});
    socket.once('data', () => socket.end('HTTP/1.1 400 No\r\n\r\n'));
  });
  await new Promise<void>((resolve) => plain.listen(0, '127.0.0.1', resolve));
  const { port } = plain.address() as { port: number };
  const errors = [await fails(send(server.url)), await fails(send(`https://127.0.0.1:${port}`))];
  plain.close();
  await server.stop();
  for (const { name, code } of errors) {
    assert.deepEqual([name, code], ['ConnectionError', 'tls_failed']);
  }
  assert.equal(server.seen.length, 0);
});

test('an attempt ends at its bound, before and within the body', BOUND, async () => {
  const gate = new Gate();
  for (const step of [{ hold: gate.opened }, { body: new Uint8Array(60_000), trickle: true }]) {
    const error = await fails(served(step, (url) => send(url, { attemptTimeoutMs: 150 })));
    assert.deepEqual([error.name, error.code], ['TimeoutError', 'attempt_timeout']);
  }
  gate.open();
});

test('a bound beyond what a timer takes is no bound of zero', async () => {
  const response = await served({}, (url) => send(url, { attemptTimeoutMs: 2 ** 40 }));
  assert.equal(response.status, 200);
});

test(
  'a signal ends an attempt with `cancelled`, and before it nothing is sent',
  BOUND,
  async () => {
    const gate = new Gate();
    const server = await ScriptedServer.start([{ hold: gate.opened }]);
    const cancel = new AbortController();
    const call = fails(send(server.url, { signal: cancel.signal }));
    await server.arrived();
    cancel.abort();
    assert.equal((await call).code, 'cancelled');
    assert.equal(
      (await fails(send(server.url, { signal: AbortSignal.abort() }))).code,
      'cancelled',
    );
    assert.equal(server.connections, 1);
    gate.open();
    await server.stop();
  },
);

test('an own fetch is used', async () => {
  const asked: unknown[] = [];
  const own: typeof fetch = async (input, init) => {
    asked.push(input, init?.redirect, init?.method);
    return new Response('hello', { status: 201 });
  };
  const response = await send('https://a.example/', { fetch: own });
  assert.deepEqual(asked, ['https://a.example/', 'manual', 'POST']);
  assert.deepEqual([response.status, new TextDecoder().decode(response.body)], [201, 'hello']);
});

// What other runtimes say; the tests of the runtimes themselves hear it from them.
for (const [reported, code] of [
  [
    {
      message:
        'error sending request for url (https://cert.example/tls): client error (Connect): tcp connect error: Connection refused (os error 111)',
    },
    'connect_failed',
  ],
  [
    {
      message:
        'error sending request for url (https://a.example/): client error (Connect): invalid peer certificate: UnknownIssuer',
    },
    'tls_failed',
  ],
  [
    {
      message:
        'error sending request from 1.2.3.4:5 for http://tls.example/cert (1.2.3.4:6): client error (SendRequest): connection closed before message completed',
    },
    'connection_lost',
  ],
  [
    {
      message:
        'error sending request for url (http://a.example/): client error (SendRequest): message head is too large',
    },
    'response_too_large',
  ],
  [{ message: 'error reading a body from connection' }, 'connection_lost'],
  [{ code: 'DEPTH_ZERO_SELF_SIGNED_CERT', message: 'self signed certificate' }, 'tls_failed'],
  [
    { code: 'ECONNRESET', message: 'the socket connection was closed unexpectedly' },
    'connection_lost',
  ],
  [
    {
      code: 'ECONNRESET',
      message: 'Client network socket disconnected before secure TLS connection was established',
    },
    'connect_failed',
  ],
  [
    { code: 'ETIMEDOUT', syscall: 'connect', message: 'connect ETIMEDOUT 10.0.0.1:443' },
    'connect_failed',
  ],
  [{ code: 'ETIMEDOUT', syscall: 'read', message: 'read ETIMEDOUT' }, 'connection_lost'],
  [{ code: 'UND_ERR_CONNECT_TIMEOUT', message: 'Connect Timeout Error' }, 'connect_failed'],
  [
    { code: 'ECONNREFUSED', message: '', errors: [{ code: 'ECONNREFUSED', syscall: 'connect' }] },
    'connect_failed',
  ],
  [
    { code: 'UNABLE_TO_VERIFY_LEAF_SIGNATURE', message: 'unable to verify the first certificate' },
    'tls_failed',
  ],
  [{ code: 'ERR_TLS_CERT_ALTNAME_INVALID', message: 'Hostname/IP does not match' }, 'tls_failed'],
  [{ message: 'Failed to fetch' }, 'connection_lost'],
  [{ message: 'NetworkError when attempting to fetch resource.' }, 'connection_lost'],
  [{ message: 'Load failed' }, 'connection_lost'],
] as const) {
  const name = 'code' in reported ? reported.code : '';
  test(`read as ${code}: ${name} ${reported.message.slice(-60)}`, async () => {
    for (const error of [reported, { message: 'fetch failed', cause: reported }]) {
      const broken = () => Promise.reject(Object.assign(new TypeError(), error));
      assert.equal((await fails(send('https://a.example/', { fetch: broken }))).code, code);
    }
  });
}
