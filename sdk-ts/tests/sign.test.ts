/** Signers, signing, keys and verifying, where vectors do not reach. */

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { base64, fromBase64 } from '../src/base64.js';
import { ed25519PublicKey } from '../src/ed25519.js';
import { isFractalLBAError } from '../src/errors.js';
import { checkSignature, Key, keyring } from '../src/keys.js';
import { Secret } from '../src/secret.js';
import { sign } from '../src/sign.js';
import {
  type Algorithm,
  CallableSigner,
  Ed25519Signer,
  HmacSigner,
  hmacSignerFromEnv,
} from '../src/signers.js';
import { verify } from '../src/verify.js';
import { KEY, record, SIGNER } from './clientParts.js';
import { bytes, digits, textOf, utf8 } from './values.js';
import { THIRD_PARTY } from './vectorFiles.js';

const DIGEST = bytes('9cf51a7c3ceec78159e373f045ea5636dcde60a8dd3781b1b6672cacd3b77efc');
const TENANT = { tenant: 'acme' } as const;
const ED25519 = new Ed25519Signer(KEY, { kid: 'e1' });
const PUBLIC = bytes('03a107bff3ce10be1d70dd18e74bc09967e4d6309ba50d5f1ddc8664125531b8');

async function codeOf(task: () => unknown): Promise<string> {
  try {
    await task();
  } catch (error) {
    assert(isFractalLBAError(error), String(error));
    return error.code;
  }
  return '';
}

test('the first values of the specification', async () => {
  const signer = new HmacSigner(utf8('testsecret'), { allowShortKey: true });
  const mac = await signer.sign(DIGEST);
  assert.equal(base64(mac), 'UkUZ2Y0HFY8Ff/lTG+bY0Z6gILnhBtr4bw6Jt0VX6a4=');
});

test('a public key belongs to its seed', async () => {
  assert.deepEqual(await ed25519PublicKey(KEY), PUBLIC);
});

test('a key that does not fit its algorithm is unusable, and not shown', async () => {
  const short = utf8('only-31-bytes-and-not-one-more!');
  assert.equal(await codeOf(() => new HmacSigner(short)), 'key_unusable');
  assert.equal(await codeOf(() => new HmacSigner(short, { allowShortKey: true })), '');
  assert.equal(await codeOf(() => new HmacSigner(new Uint8Array(200))), '');
  assert.equal(await codeOf(() => new Ed25519Signer(new Uint8Array(64))), 'key_unusable');
  assert.equal(await codeOf(() => new Key('k', 'HMAC', short)), 'key_unusable');
  assert.equal(await codeOf(() => new Key('k', 'Ed25519', short)), 'key_unusable');
  assert.throws(
    () => new HmacSigner(short),
    (error: Error) => !error.message.includes('only-31'),
  );
});

test('a name that no key has is refused', async () => {
  for (const kid of ['', 'k'.repeat(65), 'é'.repeat(33), '\ud800']) {
    assert.equal(await codeOf(() => new HmacSigner(KEY, { kid })), 'config_invalid');
    assert.equal(await codeOf(() => new Key(kid, 'HMAC', KEY)), 'config_invalid');
  }
  for (const alg of ['none', 'hmac', 'toString', ''] as unknown as Algorithm[]) {
    const name = () => new CallableSigner(alg, 'k', () => new Uint8Array(32));
    assert.equal(await codeOf(name), 'config_invalid');
    assert.equal(await codeOf(() => new Key('k', alg, KEY)), 'config_invalid');
  }
});

test('the environment gives a key in hex', async () => {
  const signer = hmacSignerFromEnv({ PCS_HMAC_KEY: digits(KEY), PCS_KID: 'k1' });
  assert.equal(signer.kid, 'k1');
  assert.deepEqual(await signer.sign(DIGEST), await SIGNER.sign(DIGEST));
  assert.equal(
    hmacSignerFromEnv({ PCS_HMAC_KEY: digits(KEY).toUpperCase(), PCS_KID: '' }).kid,
    undefined,
  );
  assert.equal(await codeOf(() => hmacSignerFromEnv({})), 'config_invalid');
  assert.equal(await codeOf(() => hmacSignerFromEnv({ PCS_HMAC_KEY: 'abc' })), 'key_unusable');
  assert.equal(
    await codeOf(() => hmacSignerFromEnv({ PCS_HMAC_KEY: 'zz'.repeat(32) })),
    'key_unusable',
  );
});

test('a signer of another place gets the digest, and its answer is measured', async () => {
  const asked: Uint8Array[] = [];
  const kms = new CallableSigner('HMAC', 'k1', (digest) => {
    asked.push(digest);
    return SIGNER.sign(digest);
  });
  const made = await sign(record(), kms, TENANT);
  assert.deepEqual(made.body, (await sign(record(), SIGNER, TENANT)).body);
  assert.equal(asked[0]?.length, 32);
  const short = new CallableSigner('Ed25519', 'k1', async () => new Uint8Array(63));
  assert.equal(await codeOf(() => sign(record(), short, TENANT)), 'signature_malformed');
});

test('version 2 needs a kid and a tenant, version 1 neither', async () => {
  const nameless = new HmacSigner(KEY);
  assert.equal(await codeOf(() => sign(record(), nameless, TENANT)), 'config_invalid');
  assert.equal(await codeOf(() => sign(record(), SIGNER)), 'config_invalid');
  assert.equal(await codeOf(() => sign(record(), SIGNER, { tenant: '' })), 'config_invalid');
  const made = await sign(record(), nameless, { sigVersion: 1, tenant: 'acme' });
  const names = Object.keys(JSON.parse(textOf(made.body)));
  for (const name of ['alg', 'kid', 'sig_v', 'tenant_id']) assert(!names.includes(name), name);
});

test('a signature that a record had is replaced', async () => {
  const first = await sign(record(), ED25519, { tenant: 'other' });
  const again = await sign(first.record, SIGNER, TENANT);
  assert.deepEqual(again.body, (await sign(record(), SIGNER, TENANT)).body);
  assert.equal(again.content, first.content);
});

test('a key of WebCrypto signs, and need not be readable', async () => {
  const usages: KeyUsage[] = ['sign'];
  const hmac = { name: 'HMAC', hash: 'SHA-256' };
  const key = await crypto.subtle.importKey('raw', KEY, hmac, false, usages);
  const made = await sign(record(), new HmacSigner(key, { kid: 'k1' }), TENANT);
  assert.deepEqual(made.body, (await sign(record(), SIGNER, TENANT)).body);
  const pair = await crypto.subtle.generateKey('Ed25519', false, usages);
  const { publicKey, privateKey } = pair as CryptoKeyPair;
  const signer = new Ed25519Signer(privateKey, { kid: 'e1' });
  const raw = new Uint8Array(await crypto.subtle.exportKey('raw', publicKey));
  const signed = await sign(record(), signer, TENANT);
  const ring = await keyring([new Key('e1', 'Ed25519', raw, TENANT)]);
  assert.equal((await verify(signed.body, ring)).sigV, 2);
});

test('a runtime without Ed25519 says so', async (context) => {
  const none = () => Promise.reject(new DOMException('no', 'NotSupportedError'));
  context.mock.method(crypto.subtle, 'importKey', none);
  const signer = new Ed25519Signer(KEY, { kid: 'e2' });
  assert.equal(await codeOf(() => sign(record(), signer, TENANT)), 'ed25519_unavailable');
  const key = new Key('e1', 'Ed25519', PUBLIC);
  const sig = base64(new Uint8Array(64));
  assert.equal(await codeOf(() => checkSignature(key, DIGEST, sig)), 'ed25519_unavailable');
});

test('base64 is read only as it is written', () => {
  for (const length of [0, 1, 2, 3, 32, 64]) {
    const data = Uint8Array.from({ length }, (_, i) => 255 - i);
    assert.equal(base64(data), Buffer.from(data).toString('base64'));
    assert.deepEqual(fromBase64(base64(data)), data);
  }
  for (const text of ['QQ', 'QQ=', 'QR==', 'QQ==\n', ' QQ==', 'Q Q==', '_-8=', '!', 'é', 'QQ===']) {
    assert.equal(fromBase64(text), undefined, text);
  }
});

test('a signature of Ed25519 has no twin', async () => {
  const raw = await ED25519.sign(DIGEST);
  const order = 2n ** 252n + 27_742_317_777_372_353_535_851_937_790_883_648_493n;
  const s = BigInt(`0x${digits(raw.slice(32).reverse())}`) + order;
  const twin = bytes(s.toString(16).padStart(64, '0')).reverse();
  const key = new Key('e1', 'Ed25519', PUBLIC);
  const text = base64(Uint8Array.of(...raw.slice(0, 32), ...twin));
  assert.equal(await codeOf(() => checkSignature(key, DIGEST, base64(raw))), '');
  assert.equal(await codeOf(() => checkSignature(key, DIGEST, text)), 'signature_invalid');
});

test('a signature is compared as a whole', async () => {
  const key = new Key('k1', 'HMAC', KEY);
  const good = base64(await SIGNER.sign(DIGEST));
  assert.equal(await codeOf(() => checkSignature(key, DIGEST, good)), '');
  for (let at = 0; at < good.length; at++) {
    const bad = good.slice(0, at) + (good[at] === 'A' ? 'B' : 'A') + good.slice(at + 1);
    assert.match(await codeOf(() => checkSignature(key, DIGEST, bad)), /^signature_/, bad);
  }
  for (const bad of ['', good.slice(0, 43), `${good}=`, `${good}\n`, good.replace('=', '')]) {
    assert.equal(await codeOf(() => checkSignature(key, DIGEST, bad)), 'signature_malformed', bad);
  }
});

test('a keyring has each name and each key once', async () => {
  const key = (kid: string, fill: number) => new Key(kid, 'HMAC', new Uint8Array(40).fill(fill));
  const ring = await keyring([key('a', 1), key('b', 2)]);
  assert.deepEqual([...ring.keys()], ['a', 'b']);
  assert.equal(await codeOf(() => keyring([key('a', 1), key('a', 2)])), 'config_invalid');
  assert.equal(await codeOf(() => keyring([key('a', 1), key('b', 1)])), 'key_unusable');
  const publicKey = new Key('e', 'Ed25519', PUBLIC);
  assert.equal(
    (await keyring([publicKey, key('a', 1), new Key('c', 'HMAC', new Uint8Array(32))])).size,
    3,
  );
  assert.equal(await codeOf(() => keyring([publicKey, new Key('s', 'HMAC', KEY)])), 'key_unusable');
  assert.equal(await codeOf(() => keyring([new Key('s', 'HMAC', KEY), publicKey])), 'key_unusable');
});

test('a key of small order is unusable, with either sign', async () => {
  const y = [
    '00'.repeat(32),
    `01${'00'.repeat(31)}`,
    `ec${'ff'.repeat(30)}7f`,
    `ed${'ff'.repeat(30)}ff`,
  ];
  for (const each of y) {
    assert.equal(
      await codeOf(() => new Key('k', 'Ed25519', new Secret(bytes(each)))),
      'key_unusable',
    );
  }
});

test('verifying gives the rounded values and the content', async () => {
  const given = record(7, { D_hat: 2, r: 0.25 });
  const made = await sign(given, SIGNER, TENANT);
  const off = utf8(textOf(made.body).replace('"r":0.25', '"r":0.2500000001'));
  const ring = await keyring([new Key('k1', 'HMAC', KEY, TENANT)]);
  const seen = await verify(off, ring);
  assert.equal(seen.record.r, 0.25);
  assert.equal(seen.content, made.content);
  assert.equal(seen.key.tenant, 'acme');
  assert.equal(await codeOf(() => verify(off, ring, { strict: true })), 'number_out_of_range');
  assert.equal(await codeOf(() => verify(made.body, new Map())), 'kid_unknown');
});

async function judge(publicKey: string, message: Uint8Array, signature: string): Promise<string> {
  return await codeOf(async () => {
    const key = new Key('k', 'Ed25519', bytes(publicKey));
    await checkSignature(key, message, base64(bytes(signature)));
  });
}

test('Wycheproof is judged as it says', async () => {
  const file = join(THIRD_PARTY, 'wycheproof', 'ed25519_test.json');
  const { testGroups, numberOfTests } = JSON.parse(readFileSync(file, 'utf8'));
  let seen = 0;
  for (const { publicKey, tests } of testGroups) {
    for (const { msg, sig, result, tcId } of tests) {
      const code = await judge(publicKey.pk, bytes(msg), sig);
      assert.equal(code === '', result === 'valid', `${tcId} ${code}`);
      seen++;
    }
  }
  assert.equal(seen, numberOfTests);
});

test('edge points are judged without the cofactor', async () => {
  const file = join(THIRD_PARTY, 'cctv-ed25519', 'ed25519vectors.json');
  const verdicts = new Set<string>();
  for (const { key, sig, msg, flags, number } of JSON.parse(readFileSync(file, 'utf8'))) {
    const has = (...names: string[]) => names.some((name) => flags?.includes(name));
    let expected = '';
    if (has('low_order_A')) expected = 'key_unusable';
    else if (has('low_order_residue', 'non_canonical_R')) expected = 'signature_invalid';
    assert.equal(await judge(key, utf8(msg), sig), expected, `${number}`);
    verdicts.add(expected);
  }
  assert.equal(verdicts.size, 3);
});
