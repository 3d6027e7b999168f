/** Entries for the vectors of canonical form, records, identity and signatures. */

import assert from 'node:assert/strict';
import { canonicalize, payload, signatureVersion } from '../src/canonical.js';
import { isFractalLBAError } from '../src/errors.js';
import { checkPcsId, contentDigest, derivePcsId, idempotencyKey } from '../src/ids.js';
import { jcs, jcsText } from '../src/jcs.js';
import { Key } from '../src/keys.js';
import { nano, numberText, rounded, SIGNED_FLOATS, type SignedFloat } from '../src/number.js';
import { type PcsInput, pcsRecord, pcsRecordFromJson, signedRecord } from '../src/record.js';
import { checkRecord } from '../src/recordCheck.js';
import { type Members, parse, parseValue } from '../src/scanner.js';
import { Secret } from '../src/secret.js';
import { sign } from '../src/sign.js';
import { type Algorithm, Ed25519Signer, HmacSigner, type Signer } from '../src/signers.js';
import { verify } from '../src/verify.js';
import { bits, bytes, digits, double, fromUtf16, textOf } from './values.js';
import type { Answer, Args, Entry } from './vectorFiles.js';

/** A record in every member that the eight-member vectors do not have. */
const WHOLE = {
  sent_at: '2026-01-15T12:00:00Z',
  scales: [2, 4],
  N_j: { '2': 4, '4': 16 },
  v_star: [0.6, 0.8],
  regime: 'mixed',
} as const;

/** BASE of the mutant list. */
const BASE = {
  pcs_id: 'a'.repeat(64),
  merkle_root: 'b'.repeat(64),
  epoch: 1,
  shard_id: 's',
  D_hat: 1.25,
  coh_star: 0.5,
  r: 0.25,
  budget: 0.125,
} as const;

const FLOATS = Object.keys(SIGNED_FLOATS) as SignedFloat[];
const whole = (changes: Members): PcsInput => ({ ...WHOLE, ...BASE, ...changes }) as PcsInput;

/** Say whether the whole record has an RFC 8785 form; version 1 does not ask for one. */
function canTravel(record: Members): boolean {
  try {
    jcs(record);
    return true;
  } catch (error) {
    assert(isFractalLBAError(error));
    return false;
  }
}

function after(text: string, mark: string): string {
  const place = text.indexOf(mark);
  assert(place >= 0, `${mark} in ${text}`);
  return text.slice(place + mark.length);
}

// --- canon -----------------------------------------------------------------------------------

const numberOf =
  (record: (changes: Members) => Members): Entry =>
  (args) => {
    const [member, f64] = [args.member as SignedFloat, args.f64 as string];
    const { payload: made, values } = canonicalize(record({ [member]: double(f64) }), 1);
    const [text] = after(textOf(made), `"${member}":`).split(',');
    const n = nano(values[member]);
    assert.equal(values[member], n / 1e9);
    assert.equal(jcsText([values[member]]), `[${text}]`);
    return { text, nano: `${n}` };
  };

const numberByParts: Entry = (args) => {
  const x = double(args.f64);
  // The parts do not judge the range.
  if (!(x >= 0 && x <= SIGNED_FLOATS[args.member as SignedFloat])) return numberByMembers(args);
  assert.equal(rounded(x), nano(x) / 1e9);
  return { text: numberText(nano(x)), nano: `${nano(x)}` };
};

const small = (changes: Members): Members => ({ ...BASE, ...changes });
const numberByMembers = numberOf(small);
const numberByRecord = numberOf((changes) => pcsRecord(whole(changes)));

const stringOf =
  (record: (changes: Members) => Members): Entry =>
  ({ utf16 }) => {
    const made = textOf(payload(record({ shard_id: fromUtf16(utf16) })));
    const text = after(made, '"shard_id":').slice(0, -1);
    assert.equal(jcsText(fromUtf16(utf16)), text);
    return { utf8: Buffer.from(text).toString('hex') };
  };

function canonicalAnswer(record: Members, version: 1 | 2): Answer {
  const seen = canonicalize(record, version);
  assert.deepEqual(payload(record, version), seen.payload);
  const answer = { payload: digits(seen.payload), sha256: digits(seen.digest) };
  return version === 1 ? answer : { ...answer, body_sha256: seen.body };
}

function typedValues({ values }: Args): Members {
  const given = values as unknown as Record<string, string>;
  const record: Members = { epoch: Number(given.epoch) };
  for (const name of FLOATS) record[name] = double(given[name] as string);
  for (const name of ['pcs_id', 'merkle_root', 'shard_id']) {
    record[name] = fromUtf16(given[name] as string);
  }
  return record;
}

const versionOf = ({ sig_v }: Args): 1 | 2 => (Number(sig_v ?? 1) === 2 ? 2 : 1);

const recordByValues: Entry = (args) =>
  args.entry === 'typed'
    ? canonicalAnswer(typedValues(args), 1)
    : canonicalAnswer(parse(bytes(args.json)), versionOf(args));

const recordByRecord: Entry = (args) =>
  args.entry === 'typed'
    ? canonicalAnswer(pcsRecord(whole(typedValues(args))), 1)
    : recordByValues(args);

/** A signer sees the digest of the same payload, and the version is the one that is asked for. */
const recordBySign: Entry = async (args) => {
  const answer = await recordByValues(args);
  const record = args.entry === 'typed' ? typedValues(args) : parse(bytes(args.json));
  if (!canTravel(record)) return answer;
  const made = await sign(record, new HmacSigner(new Uint8Array(32)), { sigVersion: 1 });
  const seen = canonicalize(made.record, signatureVersion(made.record));
  assert.deepEqual(seen.digest, canonicalize(record, 1).digest);
  return answer;
};

// --- record, jcs, id -------------------------------------------------------------------------

const parseByCheck: Entry = ({ json }) => {
  checkRecord(parse(bytes(json)));
  return {};
};

const parseByRecord: Entry = ({ json }) => {
  const record = pcsRecordFromJson(bytes(json));
  assert(Object.isFrozen(record) && Object.isFrozen(record.ft.fallbacks));
  assert.deepEqual(pcsRecord(record), record);
  return {};
};

const jcsByDocument: Entry = ({ json }) => ({ utf8: digits(jcs(parseValue(bytes(json)))) });

/** Inside a version-2 record a document has the same form, and the same faults. */
const jcsByBody: Entry = ({ json }) => {
  const made = jcs(canonicalize(small({ x: parseValue(bytes(json)) }), 2).signed('s'));
  return { utf8: Buffer.from(after(textOf(made), ',"x":').slice(0, -1)).toString('hex') };
};

const idByValues: Entry = ({ json }) => {
  const record = parse(bytes(json));
  const { merkle_root, epoch, shard_id } = record as Record<string, string>;
  const pcs_id = derivePcsId(`${merkle_root}`, Number(epoch), `${shard_id}`);
  assert.equal(idempotencyKey(record), contentDigest(record));
  return { pcs_id, content: contentDigest(record) };
};

const idByCanonicalize: Entry = async (args) => {
  const record = parse(bytes(args.json));
  const answer = await idByValues(args);
  if (canTravel(record)) {
    assert.equal(canonicalize(record, 2).content, answer.content);
    const signer = new HmacSigner(new Uint8Array(32), { kid: 'any' });
    assert.equal((await sign(record, signer, { tenant: 'any' })).content, answer.content);
  }
  if (record.pcs_id === answer.pcs_id) checkPcsId(record);
  return answer;
};

// --- sign, verify ----------------------------------------------------------------------------

type SignerOf = (args: Args) => Signer | Promise<Signer>;

const optionsOf = ({ kid, allow_short_key }: Args) => ({
  kid,
  allowShortKey: allow_short_key === 'true',
});
const hmacOf: SignerOf = (args) => new HmacSigner(new Secret(bytes(args.key)), optionsOf(args));
const ed25519Of: SignerOf = (args) => new Ed25519Signer(bytes(args.seed), optionsOf(args));

/** The same key, not to be read back from WebCrypto; it takes no key of no bytes. */
const cryptoKeyOf: SignerOf = async (args) => {
  const key = bytes(args.key);
  const usable = key.length > 0 && (await hmacOf(args));
  if (!usable) return hmacOf(args);
  const algorithm = { name: 'HMAC', hash: 'SHA-256' };
  const held = await crypto.subtle.importKey('raw', key as BufferSource, algorithm, false, [
    'sign',
  ]);
  return new HmacSigner(held, optionsOf(args));
};

const signedBy =
  (signerOf: SignerOf): Entry =>
  async (args) => {
    const { json, tenant } = args;
    const record = parse(bytes(json));
    const before = canTravel(record) ? jcsText(record) : '';
    const signer = await signerOf(args);
    const made = await sign(record, signer, { sigVersion: versionOf(args), tenant });
    if (before) assert.equal(jcsText(record), before, 'the record of the caller is as it was');
    assert.deepEqual(jcs(made.record), made.body);
    return { sig: made.record.sig, record: digits(made.body) };
  };

/** The typed entry, where the record is a whole one; its bytes are the same. */
const signedAsRecord =
  (signerOf: SignerOf): Entry =>
  async (args) => {
    const byJson = await signedBy(signerOf)(args);
    let record: Members;
    try {
      record = pcsRecordFromJson(bytes(args.json));
    } catch (error) {
      assert(isFractalLBAError(error));
      return byJson;
    }
    const options = { sigVersion: versionOf(args), tenant: args.tenant };
    const made = await sign(record, await signerOf(args), options);
    assert.equal(signedRecord(made.body).content, made.content);
    return { sig: made.record.sig, record: digits(made.body) };
  };

type KeyArgs = Record<'kid' | 'alg' | 'key' | 'tenant', string>;

const verified: Entry = async ({ json, keyring, strict, v1_default_kid, min_version }) => {
  const ring = new Map<string, Key>();
  for (const { kid, alg, key, tenant } of keyring as unknown as KeyArgs[]) {
    const options = { tenant, allowShortKey: true };
    ring.set(kid, new Key(kid, alg as Algorithm, bytes(key), options));
  }
  const seen = await verify(bytes(json), ring, {
    strict: strict === 'true',
    v1DefaultKid: v1_default_kid,
    minVersion: Number(min_version ?? 1) === 2 ? 2 : 1,
  });
  const values = FLOATS.map((name) => {
    assert.equal(bits(seen.record[name] as number), bits(seen.values[name]));
    return [name, bits(seen.values[name])] as const;
  });
  return { values: Object.fromEntries(values) };
};

export const ENTRIES: Readonly<Record<string, readonly Entry[]>> = {
  'canon.number': [numberByMembers, numberByParts, numberByRecord],
  'canon.string': [stringOf(small), stringOf((changes) => pcsRecord(whole(changes)))],
  'canon.record': [recordByValues, recordByRecord, recordBySign],
  'record.parse': [parseByCheck, parseByRecord],
  'jcs.document': [jcsByDocument, jcsByBody],
  'id.derive': [idByValues, idByCanonicalize],
  'sign.hmac': [signedBy(hmacOf), signedAsRecord(hmacOf), signedBy(cryptoKeyOf)],
  'sign.ed25519': [signedBy(ed25519Of), signedAsRecord(ed25519Of)],
  verify: [verified],
};
