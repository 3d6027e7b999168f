/** Batches: one record a line, one answer a line, read as that of a single submit. */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { batchRequest, batchSpec, readBatch } from '../src/batch.js';
import { type FractalLBAError, isFractalLBAError } from '../src/errors.js';
import { jcs } from '../src/jcs.js';
import type { Submitted } from '../src/outcome.js';
import { sign } from '../src/sign.js';
import { outcomeBody } from '../src/testing.js';
import { record, SIGNER } from './clientParts.js';

const NOW_MS = 1_767_225_600_000;
const text = (bytes: Uint8Array | undefined): string => new TextDecoder().decode(bytes);
const bytes = (given: string): Uint8Array => new TextEncoder().encode(given);

const RECORDS = await Promise.all(
  [1, 2, 3].map((number) => sign(record(number), SIGNER, { tenant: 'acme' })),
);
const outcome = (index: number): unknown =>
  JSON.parse(text(outcomeBody(RECORDS[index]?.pcsId ?? '')));

function read(body: string, requestId?: string): (Submitted | FractalLBAError)[] {
  return readBatch({ status: 200, headers: {}, body: bytes(body), requestId }, RECORDS, NOW_MS, 2);
}

function lines(...items: readonly object[]): string {
  return items.map((item, index) => `${text(jcs({ index, ...item }))}\n`).join('');
}

test('a request has a line for each record, and the types of lines', () => {
  const [first, ...rest] = RECORDS as [(typeof RECORDS)[0], ...typeof RECORDS];
  const pretty = bytes(JSON.stringify(JSON.parse(text(first.body)), null, 1));
  const { pcsId, content } = first;
  const records = [{ body: pretty, pcsId, content }, ...rest];
  const options = { agent: 'agent', tenant: 'acme', attempt: 2 };
  const { method, url, headers, body } = batchRequest('https://a.example', records, options);
  assert.deepEqual([method, url], ['POST', 'https://a.example/v1/pcs/batch']);
  assert.deepEqual(Object.fromEntries(headers), {
    Accept: 'application/x-ndjson, application/problem+json',
    'Content-Type': 'application/x-ndjson',
    'User-Agent': 'agent',
    'X-Tenant-Id': 'acme',
    'X-Retry-Attempt': '1',
  });
  const sent = text(body).split('\n');
  assert.equal(sent.pop(), '');
  const expected = RECORDS.map((each) => JSON.parse(text(each.body)));
  assert.deepEqual(
    sent.map((line) => JSON.parse(line)),
    expected,
  );
});

test('each line is read as the answer to its record', () => {
  const facts = { replayed: true, level: 'durable', position: 'fra/open/1/7' };
  const problem = { code: 'rate_limited', status: 429, retry_after_ms: 1_500 };
  const [done, limited, conflict] = read(
    lines(
      {
        status: 202,
        outcome: {
          ...(outcome(0) as object),
          accepted: false,
          escalated: true,
          reason: 'n_j_implausible',
        },
        ...facts,
      },
      { status: 429, problem },
      { status: 409, problem: { code: 'pcs_id_conflict' } },
    ),
    'req-9',
  ) as [Submitted, FractalLBAError, FractalLBAError];
  assert.deepEqual([done.outcome.accepted, done.replayed, done.level], [false, true, 'durable']);
  assert.deepEqual([done.position?.seq, done.raw.requestId, done.raw.attempts], [7, 'req-9', 2]);
  assert.deepEqual(
    [limited.name, limited.retryAfterMs, limited.requestId, limited.attempts],
    ['RateLimitError', 1_500, 'req-9', 2],
  );
  assert.deepEqual([conflict.name, conflict.status], ['ConflictError', 409]);
});

const GOOD = { status: 200, outcome: outcome(0), replayed: false };

for (const [name, body] of [
  ['is absent', ''],
  ['is empty', '\n'],
  ['is no JSON', 'nonsense\n'],
  ['is no object', '[]\n'],
  ['has another index', '{"index":1,"status":200}\n'],
  ['has no status', '{"index":0}\n'],
  ['has a status that is no integer', '{"index":0,"status":"200"}\n'],
  ['has no outcome', '{"index":0,"status":200}\n'],
  ['has another outcome', lines({ status: 200, outcome: outcome(1) })],
  ['is cut', lines(GOOD).slice(0, 40)],
] as const) {
  test(`an answer that ${name} is response_malformed`, () => {
    const [answer] = read(body);
    assert.ok(isFractalLBAError(answer));
    assert.deepEqual([answer.code, answer.attempts], ['response_malformed', 2]);
  });
}

test('an answer that breaks off keeps what it said', () => {
  const [first, second, third] = read(lines(GOOD));
  assert.equal(isFractalLBAError(first), false);
  for (const each of [second, third]) assert.ok(isFractalLBAError(each));
});

test('a batch is a call as any other', () => {
  const spec = batchSpec(RECORDS, { tenant: 'acme' });
  assert.equal(spec.name, 'batch');
  assert.equal(new Map(spec.build('https://a.example', 3).headers).get('X-Retry-Attempt'), '2');
  const body = bytes(lines(GOOD));
  assert.equal(spec.read({ status: 200, headers: {}, body }, 1, NOW_MS).length, 3);
});
