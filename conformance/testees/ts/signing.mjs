/** Operations of canonical form, records, identity and signatures. */

import { canonicalize } from './.build/canonical.js';
import { contentDigest, derivePcsId } from './.build/ids.js';
import { jcs } from './.build/jcs.js';
import { Key } from './.build/keys.js';
import { pcsRecordFromJson } from './.build/record.js';
import { parse, parseValue } from './.build/scanner.js';
import { sign } from './.build/sign.js';
import { Ed25519Signer, HmacSigner } from './.build/signers.js';
import { verify } from './.build/verify.js';

export const bytes = (digits) => new Uint8Array(Buffer.from(digits, 'hex'));
export const hex = (data) => Buffer.from(data).toString('hex');
export const text = (digits) => Buffer.from(digits, 'hex').toString();
export const double = (bits) => Buffer.from(bits, 'hex').readDoubleBE();

export function bits(x) {
  const out = Buffer.alloc(8);
  out.writeDoubleBE(x);
  return out.toString('hex');
}

const utf16 = (units) =>
  String.fromCharCode(...(units.match(/.{4}/g) ?? []).map((unit) => Number.parseInt(unit, 16)));

const FLOATS = ['D_hat', 'budget', 'coh_star', 'r'];
const BASE = {
  ...{ pcs_id: 'a'.repeat(64), merkle_root: 'b'.repeat(64), epoch: 1, shard_id: 's' },
  ...{ D_hat: 1.25, coh_star: 0.5, r: 0.25, budget: 0.125 },
};

function number({ member, f64 }) {
  const { payload, values } = canonicalize({ ...BASE, [member]: double(f64) }, 1);
  const written = Buffer.from(payload).toString().split(`"${member}":`)[1].split(',')[0];
  return { text: written, nano: `${Math.round(values[member] * 1e9)}` };
}

function string({ utf16: units }) {
  const { payload } = canonicalize({ ...BASE, shard_id: utf16(units) }, 1);
  return { utf8: hex(Buffer.from(payload).toString().split('"shard_id":')[1].slice(0, -1)) };
}

function typed(values) {
  const record = { epoch: Number(values.epoch) };
  for (const name of FLOATS) record[name] = double(values[name]);
  for (const name of ['pcs_id', 'merkle_root', 'shard_id']) record[name] = utf16(values[name]);
  return record;
}

function record({ entry, json, values, sig_v = '1' }) {
  const members = entry === 'typed' ? typed(values) : parse(bytes(json));
  const seen = canonicalize(members, Number(sig_v));
  const answer = { payload: hex(seen.payload), sha256: hex(seen.digest) };
  return sig_v === '1' ? answer : { ...answer, body_sha256: seen.body };
}

const signedBy = (signerOf) => async (args) => {
  const { json, sig_v, tenant, kid, allow_short_key } = args;
  const signer = signerOf(args, { kid, allowShortKey: allow_short_key === 'true' });
  const made = await sign(parse(bytes(json)), signer, { sigVersion: Number(sig_v), tenant });
  return { sig: made.record.sig, record: hex(made.body) };
};

async function verified({ json, keyring, strict, v1_default_kid, min_version = '1' }) {
  const ring = new Map();
  for (const { kid, alg, key, tenant } of keyring) {
    ring.set(kid, new Key(kid, alg, bytes(key), { tenant, allowShortKey: true }));
  }
  const { values } = await verify(bytes(json), ring, {
    strict: strict === 'true',
    v1DefaultKid: v1_default_kid,
    minVersion: Number(min_version),
  });
  return { values: Object.fromEntries(FLOATS.map((name) => [name, bits(values[name])])) };
}

export const OPS = {
  'canon.number': number,
  'canon.string': string,
  'canon.record': record,
  'record.parse': ({ json }) => {
    pcsRecordFromJson(bytes(json));
    return {};
  },
  'jcs.document': ({ json }) => ({ utf8: hex(jcs(parseValue(bytes(json)))) }),
  'id.derive': ({ json }) => {
    const members = parse(bytes(json));
    const { merkle_root, epoch, shard_id } = members;
    return { pcs_id: derivePcsId(merkle_root, epoch, shard_id), content: contentDigest(members) };
  },
  'sign.hmac': signedBy(({ key }, options) => new HmacSigner(bytes(key), options)),
  'sign.ed25519': signedBy(({ seed }, options) => new Ed25519Signer(bytes(seed), options)),
  verify: verified,
};
