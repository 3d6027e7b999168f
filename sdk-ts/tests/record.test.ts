/** The typed record, and the format that a record has. */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isFractalLBAError } from '../src/errors.js';
import { derivePcsId } from '../src/ids.js';
import { jcs } from '../src/jcs.js';
import {
  type PcsInput,
  pcsRecord,
  pcsRecordFromJson,
  signedRecord,
  withId,
} from '../src/record.js';
import { checkRecord } from '../src/recordCheck.js';
import { type Members, parse } from '../src/scanner.js';
import { sign } from '../src/sign.js';
import { record, SIGNER } from './clientParts.js';
import { bytes, utf8 } from './values.js';
import { suite } from './vectorFiles.js';

const GIVEN: PcsInput = {
  merkle_root: 'c3'.repeat(32),
  epoch: 7,
  shard_id: 'shard-001',
  sent_at: '2026-01-15T12:00:00Z',
  scales: [2, 4, 8, 16],
  N_j: { '2': 4, '4': 16, '8': 64, '16': 256 },
  v_star: [0.6, 0.8],
  D_hat: 2,
  coh_star: 0.5,
  r: 0.5,
  regime: 'mixed',
  budget: 0.35,
};

const SIGNED = { alg: 'HMAC', kid: 'k', tenant_id: 't' } as const;

function faultOf(given: unknown, signed = false): readonly [code: string, pointer: string] {
  try {
    checkRecord(given, signed);
  } catch (error) {
    assert(isFractalLBAError(error), String(error));
    return [error.code, `${error.pointer}`];
  }
  return ['', ''];
}

test('a record is complete, with a derived id', () => {
  const made = pcsRecord(GIVEN);
  assert.equal(made.pcs_id, derivePcsId(made.merkle_root, 7, 'shard-001'));
  assert.deepEqual(made, record());
  assert.deepEqual(pcsRecord({ ...GIVEN, pcs_id: 'ab'.repeat(32) }).pcs_id, 'ab'.repeat(32));
});

test('a record is frozen, to its last part, and apart from what made it', () => {
  const scales = [2, 4];
  const made = pcsRecord({ ...GIVEN, scales, N_j: { '2': 4, '4': 16 } });
  scales.push(8);
  assert.deepEqual(made.scales, [2, 4]);
  for (const part of [made, made.scales, made.N_j, made.v_star, made.ft, made.ft.fallbacks]) {
    assert(Object.isFrozen(part));
  }
});

test('a record from text has plain numbers', () => {
  const text = JSON.stringify({ ...record(), sig: undefined }).replace('"D_hat":2', '"D_hat":2.0');
  const made = pcsRecordFromJson(utf8(text.replace('"r":0.5', '"r":-0')));
  assert.equal(typeof made.D_hat, 'number');
  assert(Object.is(made.r, -0));
  assert.throws(() => pcsRecordFromJson(utf8('{}')), {
    code: 'member_missing',
    pointer: '/schema',
  });
});

test('an id is added where it can be', () => {
  const { pcs_id, ...rest } = record();
  assert.equal(withId(rest).pcs_id, pcs_id);
  assert.equal(withId({ ...rest, epoch: undefined }).pcs_id, undefined);
  assert.equal(withId({ ...rest, pcs_id: 'x' }).pcs_id, 'x');
});

test('a record that a server refuses is refused here with the same code and pointer', () => {
  const { cases } = suite('reject-http/record.json');
  let seen = 0;
  for (const { id, args, expect } of cases) {
    let given: Members;
    try {
      given = parse(bytes(args.body));
    } catch {
      continue;
    }
    assert.deepEqual(faultOf(given, true), [expect.code, expect.pointer], id);
    seen++;
  }
  assert(seen > 200, `${seen}`);
});

test('a typed value has the faults of a value', () => {
  const wrong: readonly (readonly [Members, string, string])[] = [
    [{ v_star: [Number.NaN, 1] }, 'number_not_finite', '/v_star/0'],
    [{ v_star: [10n ** 400n] }, 'number_out_of_range', '/v_star/0'],
    [{ v_star: [10n ** 20n] }, 'number_out_of_range', '/v_star'],
    [{ v_star: [] }, 'string_length', '/v_star'],
    [{ v_star: 'x' }, 'member_type', '/v_star'],
    [{ r: Number.POSITIVE_INFINITY }, 'number_not_finite', '/r'],
    [{ seed: 2 ** 53 }, 'number_out_of_range', '/seed'],
    [{ seed: 2n ** 53n }, 'number_out_of_range', '/seed'],
    [{ seed: Object(1) }, 'member_type', '/seed'],
    [{ seed: Number.NaN }, 'member_type', '/seed'],
    [{ attempt: 0 }, 'number_out_of_range', '/attempt'],
    [{ scales: [2, 2, 8, 16] }, 'number_out_of_range', '/scales/1'],
    [{ N_j: { '2': 4, '4': 16, '8': 64 } }, 'member_missing', '/N_j/16'],
    [{ N_j: { '2': 4, '4': 16, '8': 64, '16': 256, 'a/~b': 1 } }, 'member_unknown', '/N_j/a~1~0b'],
    [{ N_j: [] }, 'member_type', '/N_j'],
    [{ ft: null }, 'member_type', '/ft'],
    [{ constructor: 1 }, 'member_unknown', '/constructor'],
    [{ sent_at: '2026-02-29T00:00:00Z' }, 'member_type', '/sent_at'],
    [{ sent_at: '2026-01-15T24:00:00Z' }, 'member_type', '/sent_at'],
    [{ sent_at: '0000-01-15T00:00:00Z' }, 'member_type', '/sent_at'],
    [{ sent_at: '2026-13-15T00:00:00Z' }, 'member_type', '/sent_at'],
    [{ tenant_id: 't' }, 'member_unknown', '/tenant_id'],
    [{ sig_v: 2, alg: 'HMAC', kid: 'k' }, 'member_missing', '/tenant_id'],
    [{ alg: 'none' }, 'alg_mismatch', '/alg'],
    [{ ...SIGNED, sig_v: 3 }, 'sig_version_unsupported', '/sig_v'],
    [{ ...SIGNED, sig_v: Object(2) }, 'sig_version_unsupported', '/sig_v'],
    [{ kid: '' }, 'string_length', '/kid'],
    [{ regime: 'Mixed' }, 'member_type', '/regime'],
  ];
  for (const [changes, code, pointer] of wrong) {
    assert.deepEqual(faultOf({ ...record(), ...changes }), [code, pointer], pointer);
  }
  for (const other of [null, 1, 'x', [], new Map()])
    assert.deepEqual(faultOf(other), ['member_type', '']);
});

test('a time before 1970 is a time', () => {
  for (const sent_at of [
    '0001-01-01T00:00:00Z',
    '1969-12-31T23:59:59.123456789Z',
    '2024-02-29T00:00:00Z',
  ]) {
    assert.deepEqual(faultOf({ ...record(), sent_at }), ['', '']);
  }
});

test('of several faults the format comes first and the signature last', () => {
  const { seed: _, ...rest } = record();
  assert.deepEqual(faultOf({ ...rest, alg: 'x', version: '9' }), [
    'schema_unsupported',
    '/version',
  ]);
  assert.deepEqual(faultOf({ ...rest, alg: 'x', x: 1 }), ['member_missing', '/seed']);
  assert.deepEqual(faultOf({ ...record(), alg: 'x', kid: '' }), ['string_length', '/kid']);
  assert.deepEqual(faultOf({}), ['member_missing', '/schema']);
});

test('a signature is asked for where a record is to be sent', () => {
  assert.deepEqual(faultOf(record(), true), ['member_missing', '/sig']);
  assert.deepEqual(faultOf({ ...record(), sig: '' }, true), ['', '']);
  assert.deepEqual(faultOf({ ...record(), sig: undefined, sig_v: undefined }), ['', '']);
});

test('a signed record of somebody else keeps its bytes', async () => {
  const made = await sign(record(), SIGNER, { tenant: 'acme' });
  const body = utf8(JSON.stringify(made.record, null, 1));
  const taken = signedRecord(body);
  assert.deepEqual(taken.body, body);
  assert.equal(taken.content, made.content);
  assert.equal(taken.pcsId, made.pcsId);
  body.fill(0);
  assert.notDeepEqual(taken.body, body);
  assert.throws(() => signedRecord(jcs(record())), { code: 'member_missing', pointer: '/sig' });
});
