// Sign as a day's work in JavaScript looks: the right rounding, and JSON.parse and JSON.stringify
// for everything else. A real program, wrong on purpose: see family I of list.toml.

import { createHash, createHmac, timingSafeEqual } from "node:crypto";
import { createInterface } from "node:readline";

const BOUNDS = { D_hat: 3.5, budget: 1, coh_star: 1.05, r: 1 };
const ORDER = ["D_hat", "budget", "coh_star", "epoch", "merkle_root", "pcs_id", "r", "shard_id"];
const EIGHT = {
  pcs_id: "a".repeat(64), merkle_root: "b".repeat(64), epoch: 1, shard_id: "s",
  D_hat: 1.25, coh_star: 0.5, r: 0.25, budget: 0.125,
};

class Refused extends Error {}

const refuse = (code) => {
  throw new Refused(code);
};

function rounded(member, x) {
  if (x < 0 || x > BOUNDS[member]) {
    refuse(Number.isFinite(x) ? "number_out_of_range" : "number_not_finite");
  }
  const p = x * 1e9;
  const n = Math.floor(p);
  return (p - n >= 0.5 ? n + 1 : n) / 1e9;
}

function signed(record) {
  const members = {};
  for (const name of ORDER) members[name] = record[name];
  for (const name of Object.keys(BOUNDS)) members[name] = rounded(name, record[name]);
  if (!Number.isSafeInteger(record.epoch) || record.epoch < 0) refuse("epoch_invalid");
  for (const name of ["merkle_root", "pcs_id"]) {
    if (!/^[0-9a-f]{64}$/.test(record[name])) refuse("hex_invalid");
  }
  const size = Buffer.byteLength(String(record.shard_id));
  if (size < 1 || size > 256) refuse("string_length");
  if (!String(record.shard_id).isWellFormed()) refuse("string_surrogate");
  return members;
}

// JSON.stringify keeps the order of insertion, so members are inserted in order.
function sorted(value) {
  if (Array.isArray(value)) return value.map(sorted);
  if (value === null || typeof value !== "object") return value;
  const copy = {};
  for (const name of Object.keys(value).sort()) copy[name] = sorted(value[name]);
  return copy;
}

const sha256 = (data) => createHash("sha256").update(data).digest();

function payload(record, version) {
  const members = signed(record);
  if (version === 1) return { text: JSON.stringify(members), body: "" };
  const whole = { ...record };
  for (const name of Object.keys(BOUNDS)) whole[name] = members[name];
  delete whole.sig;
  const body = sha256(JSON.stringify(sorted(whole))).toString("hex");
  return { text: JSON.stringify(sorted({ ...members, body, sig_v: 2 })), body };
}

function loads(hex) {
  const data = Buffer.from(hex, "hex");
  if (data.length > 65_536) refuse("payload_too_large");
  let value;
  try {
    value = JSON.parse(new TextDecoder().decode(data));
  } catch {
    refuse("json_malformed");
  }
  if (value === null || typeof value !== "object" || Array.isArray(value)) refuse("json_malformed");
  return value;
}

const double = (bits) => Buffer.from(bits, "hex").readDoubleBE();

function bits(x) {
  const data = Buffer.alloc(8);
  data.writeDoubleBE(x);
  return data.toString("hex");
}

const fromUtf16 = (units) =>
  String.fromCharCode(...(units.match(/..../g) ?? []).map((unit) => parseInt(unit, 16)));

const mac = (key, text) => createHmac("sha256", key).update(sha256(text)).digest();

const OPS = {
  "canon.number": ({ member, f64 }) => {
    const value = rounded(member, double(f64));
    return { text: JSON.stringify(value), nano: String(Math.round(value * 1e9)) };
  },
  "canon.string": ({ utf16 }) => {
    const members = signed({ ...EIGHT, shard_id: fromUtf16(utf16) });
    return { utf8: Buffer.from(JSON.stringify(members.shard_id)).toString("hex") };
  },
  "canon.record": ({ entry, json, values, sig_v: version = "1" }) => {
    const record = entry === "typed" ? typed(values) : loads(json);
    const { text, body } = payload(record, Number(version));
    const digest = sha256(text).toString("hex");
    const answer = { payload: Buffer.from(text).toString("hex"), sha256: digest };
    return version === "1" ? answer : { ...answer, body_sha256: body };
  },
  "sign.hmac": ({ json, key, kid, sig_v: version, tenant, allow_short_key: short }) => {
    const record = loads(json);
    if (key.length < 64 && short !== "true") refuse("key_unusable");
    if (kid !== undefined) Object.assign(record, { alg: "HMAC", kid });
    if (version === "2") Object.assign(record, { sig_v: 2, tenant_id: tenant });
    const { text } = payload(record, Number(version));
    const sig = mac(Buffer.from(key, "hex"), text).toString("base64");
    for (const name of Object.keys(BOUNDS)) record[name] = rounded(name, record[name]);
    return { sig, record: Buffer.from(JSON.stringify(sorted({ ...record, sig }))).toString("hex") };
  },
  verify: ({ json, keyring, v1_default_kid: fallback, min_version: least = "1" }) => {
    const record = loads(json);
    if (record.sig === undefined) refuse("member_missing");
    const version = record.sig_v ?? 1;
    if (![1, 2].includes(version) || version < Number(least)) refuse("sig_version_unsupported");
    const key = keyring.find((each) => each.kid === (record.kid ?? fallback));
    if (key === undefined) refuse("kid_unknown");
    if ((record.alg ?? key.alg) !== key.alg) refuse("alg_mismatch");
    const expected = mac(Buffer.from(key.key, "hex"), payload(record, version).text);
    const sig = Buffer.from(String(record.sig), "base64");
    if (sig.length !== expected.length) refuse("signature_malformed");
    if (!timingSafeEqual(sig, expected)) refuse("signature_invalid");
    const values = {};
    for (const name of Object.keys(BOUNDS)) values[name] = bits(rounded(name, record[name]));
    return { values };
  },
};

function typed(values) {
  const record = { epoch: Number(values.epoch) };
  for (const name of Object.keys(BOUNDS)) record[name] = double(values[name]);
  for (const name of ["merkle_root", "pcs_id", "shard_id"]) record[name] = fromUtf16(values[name]);
  return record;
}

const GREETING = {
  protocol: 1,
  testee: {
    name: "naive-ts", version: "0", language: "javascript", runtime: `node ${process.version}`,
    os: process.platform,
  },
  ops: Object.keys(OPS),
  levels: ["core"],
  policies: {
    "verify.off_grid": "accept", "hmac.short_key": "reject",
    "ed25519.small_order_key": "reject", "ed25519.equation": "cofactorless",
  },
  in_flight: 64,
};

function answer({ op, args }) {
  if (!(op in OPS)) return { skip: { reason: "not tried" } };
  try {
    return { ok: OPS[op](args) };
  } catch (error) {
    if (error instanceof Refused) return { err: { code: error.message, message: "refused" } };
    throw error;
  }
}

for await (const line of createInterface({ input: process.stdin, crlfDelay: Infinity })) {
  const message = JSON.parse(line);
  if (message.cmd === "bye") break;
  const said = message.cmd === "hello" ? GREETING : { seq: message.seq, ...answer(message) };
  process.stdout.write(`${JSON.stringify(said)}\n`);
}
process.exit(0);
