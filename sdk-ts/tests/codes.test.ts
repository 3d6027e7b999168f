/** The closed list of codes, and what an error shows. */

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { CODES, codeOfStatus, errorFor } from '../src/codes.js';
import * as errors from '../src/errors.js';
import { isRetryable, resultOf } from '../src/retry.js';
import { ROOT } from './vectorFiles.js';

interface Row {
  readonly code: string;
  readonly class: string;
  readonly fault: string;
  readonly status: number | null;
  readonly retryable: boolean;
}

const ROWS: readonly Row[] = JSON.parse(
  readFileSync(join(ROOT, 'spec', 'errors.json'), 'utf8'),
).codes;

test('the list of codes is the one of the specification', () => {
  assert.deepEqual([...CODES.keys()].sort(), ROWS.map(({ code }) => code).sort());
  for (const row of ROWS) {
    const error = errorFor(row.code, 'x', { status: row.status ?? undefined });
    assert.equal(error.name, row.class, row.code);
    assert.equal(error.constructor.name, row.class, row.code);
    assert.equal(error.fault, row.fault, row.code);
    assert.equal(CODES.get(row.code)?.status, row.status ?? 0, row.code);
    assert.equal(isRetryable(resultOf(error)), row.retryable, row.code);
  }
});

test('an error that is built by its class has the fault of the list', () => {
  const { ConfigError, ValidationError, SignatureError, AuthError, OutboxError } = errors;
  const kinds = [ConfigError, ValidationError, SignatureError, AuthError, OutboxError];
  for (const { code, class: name, fault } of ROWS) {
    const kind = kinds.find((each) => each.name === name);
    if (kind) assert.equal(new kind(code, 'x').fault, fault, code);
  }
});

test('a status without a known code has one', () => {
  assert.equal(codeOfStatus(503), 'unavailable');
  assert.equal(codeOfStatus(418), 'bad_request');
  assert.equal(codeOfStatus(599), 'internal');
});

test('an unknown code is an error of the base class, by its status', () => {
  assert.equal(errorFor('new_code', 'x', { status: 500 }).fault, 'server');
  assert.equal(errorFor('new_code', 'x', { status: 400 }).fault, 'caller');
  assert.equal(errorFor('new_code', 'x').fault, 'caller');
  assert.equal(errorFor('new_code', 'x').constructor, errors.FractalLBAError);
});

test('an error says code, what and request, and keeps the facts', () => {
  const cause = new Error('why');
  const error = errorFor('rate_limited', 'too many', {
    status: 429,
    requestId: 'r-1',
    retryAfterMs: 1000,
    cause,
  });
  assert.equal(error.message, 'rate_limited: too many (request r-1)');
  assert.equal(`${error}`, 'RateLimitError: rate_limited: too many (request r-1)');
  assert(error instanceof errors.RateLimitError && error instanceof errors.APIError);
  assert.equal(error.cause, cause);
  assert.equal(error.retryAfterMs, 1000);
  assert.equal(error.attempts, 0);
  assert.equal(error.queued, false);
  assert.deepEqual(error.headers, {});
  assert.deepEqual(error.body, new Uint8Array());
});

test('an error is known by its brand, whatever copy of the package made it', () => {
  const copy = { [Symbol.for('fractal-lba.error')]: true, code: 'cancelled' };
  assert(errors.isFractalLBAError(copy));
  assert(errors.isFractalLBAError(errorFor('cancelled', 'x')));
  for (const other of [null, undefined, 'cancelled', new Error('cancelled'), {}]) {
    assert(!errors.isFractalLBAError(other));
  }
});

test('a message shows a short part of what came, and nothing of an object', () => {
  assert.match(errors.configError('x', 'y', 'z'.repeat(1000)).message, /^.{1,150}$/);
  assert.match(errors.configError('x', 'y', { key: 'hidden' }).message, /got an object$/);
  assert.match(errors.configError('x', 'y', Symbol('s')).message, /got Symbol\(s\)$/);
  assert.equal(
    errors.invalid('hex_invalid', '/a', 'hex', 1).message,
    'hex_invalid: a: expected hex, got 1',
  );
});
