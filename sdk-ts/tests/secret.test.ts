/** A secret shows nothing, wherever it is printed. */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { format, inspect } from 'node:util';
import { Key } from '../src/keys.js';
import { reveal, Secret } from '../src/secret.js';
import { sign } from '../src/sign.js';
import { Ed25519Signer, HmacSigner } from '../src/signers.js';
import { record, SIGNER } from './clientParts.js';
import { digits, utf8 } from './values.js';

const TEXT = 'a-token-that-nobody-may-read-1234';
const FORMS = [TEXT, digits(utf8(TEXT)), Buffer.from(TEXT).toString('base64')];

function shown(value: unknown): string {
  const depth = { depth: 10, showHidden: true, showProxy: true } as const;
  return [
    String(value),
    JSON.stringify({ value }),
    `${value}`,
    inspect(value),
    inspect(value, depth),
    format('%s %o %j', value, value, value),
  ].join('\n');
}

test('a secret prints as a mask in every way', () => {
  const secret = new Secret(TEXT);
  assert.equal(String(secret), '***');
  assert.equal(`${secret}`, '***');
  assert.equal(JSON.stringify({ secret }), '{"secret":"***"}');
  assert.equal(inspect(secret), '***');
  assert.deepEqual(Object.keys(secret), []);
});

test('what holds a secret shows nothing of it', () => {
  const key = utf8(TEXT);
  const holders = [
    new Secret(key),
    new HmacSigner(key, { kid: 'k' }),
    new Ed25519Signer(key.slice(0, 32), { kid: 'k' }),
    new Key('k', 'HMAC', key),
  ];
  for (const holder of holders) {
    for (const form of FORMS) assert(!shown(holder).includes(form.slice(0, 16)), shown(holder));
    assert(!shown(holder).includes([...key.slice(0, 4)].join(', ')), shown(holder));
  }
});

test('a secret keeps its own bytes, and gives them when asked', () => {
  const given = utf8(TEXT);
  const secret = new Secret(given);
  given.fill(0);
  assert.deepEqual(secret.reveal(), utf8(TEXT));
  assert.deepEqual(reveal(secret), utf8(TEXT));
  assert.deepEqual(reveal(given), given);
});

test('a signed record shows neither its body nor its signature', async () => {
  const made = await sign(record(), SIGNER, { tenant: 'acme' });
  const sig = String(made.record.sig);
  assert.equal(sig.length, 44);
  for (const form of [sig, digits(made.body).slice(0, 32), [...made.body.slice(0, 8)].join(', ')]) {
    assert(!shown(made).includes(form), shown(made));
  }
});
