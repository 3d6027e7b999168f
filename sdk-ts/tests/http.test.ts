/** Requests and responses, where vectors do not reach. */

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { inspect } from 'node:util';
import { type FractalLBAError, isFractalLBAError } from '../src/errors.js';
import {
  buildRequest,
  checkTenant,
  type HeaderFields,
  healthRequest,
  joinHeaders,
  loggableHeaders,
  loggableUrl,
  outcomeRequest,
  submitRequest,
  userAgent,
  VERSION,
} from '../src/http.js';
import {
  leaderHint,
  MAX_RESPONSE_BYTES,
  readOutcome,
  readResponse,
  readSubmitted,
} from '../src/response.js';
import { Secret } from '../src/secret.js';
import { utf8 } from './values.js';
import { ROOT } from './vectorFiles.js';

const CONFIG = { code: 'config_invalid' };
const ID = 'ab'.repeat(32);

function refusal(status: number, body: unknown, headers: HeaderFields = []): FractalLBAError {
  try {
    readResponse({ status, headers, body: utf8(JSON.stringify(body)) }, 0);
  } catch (error) {
    assert(isFractalLBAError(error));
    return error;
  }
  return assert.fail('expected an error');
}

test('the version is that of the package', () => {
  const file = join(ROOT, 'sdk-ts', 'package.json');
  assert.equal(VERSION, JSON.parse(readFileSync(file, 'utf8')).version);
  assert.equal(userAgent(), `fractal-lba-ts-sdk/${VERSION}`);
  assert.equal(userAgent('app/1 x'), `fractal-lba-ts-sdk/${VERSION} app/1 x`);
  for (const app of ['', 'x'.repeat(25), 'é', ' x', 'a\nb'])
    assert.throws(() => userAgent(app), CONFIG);
});

test('a header can break no request', () => {
  for (const tenant of ['a\r\nX: y', 'é', '', ' a', 'a\0']) {
    assert.throws(() => buildRequest('GET', '', '/', { tenant }), CONFIG);
  }
  const token = new Secret(utf8('caf\u00e9'));
  assert.throws(() => buildRequest('GET', '', '/', { token }), CONFIG);
  for (const tenant of ['', 'a b', 'a/b', 'é', 'a'.repeat(65)])
    assert.throws(() => checkTenant(tenant), CONFIG);
  checkTenant(undefined);
  checkTenant('A-z_0.9');
});

test('a submit has no token and a read no key', () => {
  const made = submitRequest('https://a.example/', utf8('{}'), ID, {
    traceparent: '00-1-2-00',
    contentType: 'application/x-ndjson',
  });
  const headers = joinHeaders(made.headers);
  assert.equal(made.url, 'https://a.example/v1/pcs/submit');
  assert.equal(headers.traceparent, '00-1-2-00');
  assert.equal(headers['content-type'], 'application/x-ndjson');
  assert.equal(headers.authorization, undefined);
  assert.throws(() => outcomeRequest('', ID.toUpperCase()), { code: 'hex_invalid' });
  assert.equal(healthRequest('https://a.example').body, undefined);
});

test('headers are joined by name, and no name is special', () => {
  const joined = joinHeaders([
    ['A', '1'],
    ['a', '2'],
    ['__proto__', 'x'],
    ['constructor', 'y'],
  ]);
  assert.equal(joined.a, '1, 2');
  assert.deepEqual(Object.keys(joined), ['a', '__proto__', 'constructor']);
});

test('a log has the headers and the part of a URL that it may have', () => {
  const fields: HeaderFields = [
    ['Authorization', 'Bearer x'],
    ['X-Request-Id', 'r'],
    ['Set-Cookie', 'c'],
  ];
  assert.deepEqual({ ...loggableHeaders(fields) }, { 'x-request-id': 'r' });
  assert.equal(loggableUrl('https://u:p@a.example:1/x/y?q=1#f'), 'https://a.example:1/x/y');
  assert.equal(loggableUrl('https://a.example/x@y'), 'https://a.example/x@y');
});

test('a response over a limit is an error, not a part', () => {
  const big = { status: 200, headers: [], body: new Uint8Array(MAX_RESPONSE_BYTES + 1) };
  const error = { code: 'response_too_large', status: 200 };
  assert.throws(() => readResponse(big, 0), error);
  assert.equal(readResponse({ ...big, body: big.body.subarray(1) }, 0).status, 200);
  const headers = Array.from({ length: 101 }, (_, i) => [`x-${i}`, ''] as const);
  assert.throws(() => readResponse({ status: 503, headers, body: new Uint8Array() }, 0), {
    code: 'response_too_large',
  });
  assert.throws(() => readResponse({ ...big, body: new Uint8Array(11) }, 0, 10), error);
  for (const status of [100, 304, 600]) {
    assert.throws(() => readResponse({ status, headers: [], body: new Uint8Array() }, 0), {
      code: 'response_malformed',
    });
  }
});

test('the text of a server is one short line', () => {
  const error = refusal(400, { detail: 'a\nb\u0000\u0085c' });
  assert.equal(error.message, 'bad_request: a b c');
  assert(refusal(400, { detail: 'x'.repeat(9999) }).message.length < 600);
  assert.equal(refusal(400, { detail: '', title: 'T' }).message, 'bad_request: T');
  assert.equal(refusal(400, { detail: 1 }).message, 'bad_request: the server answered 400');
});

test('a code that no server sends is not believed', () => {
  for (const code of ['connect_failed', 'cancelled', 'unknown', 'toString', 1, null]) {
    assert.equal(refusal(503, { code }).code, 'unavailable', String(code));
  }
  assert.equal(refusal(401, { code: 'signature_invalid' }).name, 'SignatureError');
});

test('a wait in the body counts as one in the headers', () => {
  assert.equal(refusal(503, { retry_after_ms: 5 }, [['Retry-After', '1']]).retryAfterMs, 1000);
  assert.equal(refusal(503, { retry_after_ms: 5000 }, [['Retry-After', '1']]).retryAfterMs, 5000);
  assert.equal(refusal(503, { retry_after_ms: 1e18 }).retryAfterMs, Number.MAX_SAFE_INTEGER);
  for (const retry_after_ms of [-1, 1.5, '5', null, -1e18]) {
    assert.equal(refusal(503, { retry_after_ms }).retryAfterMs, undefined);
  }
});

test('a request id is short and printable, and the header wins', () => {
  assert.equal(refusal(400, { request_id: 'b' }, [['X-Request-Id', 'h']]).requestId, 'h');
  assert.equal(refusal(400, { request_id: 'b' }, [['X-Request-Id', 'h\n']]).requestId, 'b');
  assert.equal(refusal(400, { request_id: 'b'.repeat(65) }).requestId, undefined);
});

test('a hint is read where it can be one', () => {
  const leader_hint = { endpoint: 'https://b.example', region_epoch: 3 };
  const expected = { endpoint: 'https://b.example', regionEpoch: 3 };
  assert.deepEqual(leaderHint(refusal(421, { leader_hint })), expected);
  assert.deepEqual(leaderHint(refusal(423, { leader_hint })), expected);
  assert.equal(leaderHint(refusal(503, { leader_hint })), undefined);
  for (const bad of [
    null,
    'x',
    {},
    { endpoint: 1, region_epoch: 3 },
    { endpoint: 'x', region_epoch: '3' },
  ]) {
    assert.equal(leaderHint(refusal(421, { leader_hint: bad })), undefined);
  }
  assert.equal(leaderHint(refusal(421, [])), undefined);
});

test('an outcome that contradicts itself is none', () => {
  const good = {
    accepted: true,
    escalated: false,
    first_seen: { hlc: '0'.repeat(16), region: 'eu1' },
    pcs_id: ID,
    policy_version: '3fcb272de67aa246',
    recomputed_D_hat: 2,
    recomputed_budget: 0.35,
  };
  const read = (changes: object, status = 200) =>
    readOutcome({ status, headers: {}, body: utf8(JSON.stringify({ ...good, ...changes })) }, ID);
  assert.equal(read({}).recomputedDHat, 2);
  assert.equal(read({ escalated: true, reason: 'regime_mismatch' }).reason, 'regime_mismatch');
  // biome-ignore format: a table
  const bad: readonly object[] = [
    { accepted: false }, { reason: 'regime_mismatch' }, { escalated: true }, { reason: null },
    { escalated: true, reason: 'n_j_implausible' },
    { escalated: true, accepted: false, reason: 'budget_deviation' },
    { pcs_id: 'cd'.repeat(32) }, { x: 1 }, { recomputed_D_hat: '2' }, { recomputed_budget: 1.1 },
    { recomputed_D_hat: -1 }, { first_seen: { hlc: '0', region: 'eu1' } }, { first_seen: null },
    { accepted: 1 },
    { toString: 1 },
  ];
  const malformed = { code: 'response_malformed', name: 'APIError', status: 200 };
  for (const changes of bad) assert.throws(() => read(changes), malformed, JSON.stringify(changes));
  assert.throws(() => read({}, 204), { code: 'response_malformed' });
  const headers = {
    'pcs-position': 'eu1/open/0/1',
    'pcs-level': 'replicated',
    'idempotency-replayed': 'true',
  };
  const response = { status: 202, headers, body: utf8(JSON.stringify(good)), requestId: 'r' };
  const submitted = readSubmitted(response, ID, 2);
  assert.deepEqual(submitted.position, {
    region: 'eu1',
    placement: 'open',
    regionEpoch: 0,
    seq: 1,
  });
  assert.deepEqual([submitted.level, submitted.replayed], ['replicated', true]);
  assert.deepEqual([submitted.raw.attempts, submitted.raw.requestId], [2, 'r']);
  for (const [name, value] of [
    ['pcs-position', 'eu1/open/00/1'],
    ['pcs-position', 'eu1/open/0/9999999999999999'],
    ['pcs-level', 'x'],
    ['idempotency-replayed', ''],
  ]) {
    const wrong = { ...response, headers: { ...headers, [`${name}`]: `${value}` } };
    assert.throws(() => readSubmitted(wrong, ID), { code: 'response_malformed' }, `${name}`);
  }
});

test('no text form of an error shows the body or headers of a response', () => {
  const error = refusal(400, { detail: 'd', secret: 'told-to-nobody' }, [
    ['X-Odd', 'told-to-nobody'],
  ]);
  assert.ok(error.body.length > 0);
  assert.equal(error.headers['x-odd'], 'told-to-nobody');
  for (const text of [String(error), JSON.stringify(error), inspect(error, { depth: 9 })]) {
    assert.ok(!text.includes('told-to-nobody'), text);
  }
});
