/**
 * Say whether a record is in its format (spec/formats.md 1): the hand-written twin of
 * `spec/schemas/pcs.json` and of the rules that no JSON Schema can state.
 *
 * The signing rule reads eight members on its own (`canonical`), because a signature is also
 * checked on what is no whole record.
 */

import { calendarMs } from './calendar.js';
import { MAX_SHARD_ID_BYTES } from './canonical.js';
import { invalid, type ValidationError } from './errors.js';
import { isObject } from './jcs.js';
import { SIGNED_FLOATS } from './number.js';
import { hex64, lexicalEpoch, number, type Rule, string, text } from './rules.js';
import type { Members } from './scanner.js';
import { MAX_NAME_BYTES } from './signers.js';

/** Largest scale: 2^31 - 1. */
const MAX_SCALE = 2_147_483_647;

/** Most scales; two are the least that give a slope. */
const MAX_SCALES = 32;

/** Longest `v_star`; more doubles do not fit into a record. */
const MAX_DIMENSIONS = 2048;

/** Most entries of `ft.fallbacks`. */
const MAX_FALLBACKS = 16;

/** Longest entry of `ft.fallbacks`, in bytes of UTF-8. */
const MAX_FALLBACK_BYTES = 64;

/** Largest magnitude of `ft.clock_skew_ms`: one day. */
const MAX_CLOCK_SKEW_MS = 86_400_000;

/** How far the norm of `v_star` may be from 1; no vector comes within 1e-8 of this bound. */
const NORM_SLACK = 1e-6;

/** Take in a fault: its code, what was expected, and where below the value. */
type Tell = (code: string, expected: string, below?: string) => void;

/** Looks into a value that has parts. */
type Look = (value: unknown, tell: Tell) => void;

function judge(rule: Rule | Look, value: unknown, tell: Tell): void {
  if (typeof rule === 'function') {
    rule(value, tell);
  } else {
    const code = rule[0](value);
    if (code) tell(code, rule[1]);
  }
}

const integer = (low: number, high = Number.MAX_SAFE_INTEGER): Rule => [
  (value) => {
    if (typeof value !== 'bigint' && !Number.isInteger(value)) return 'member_type';
    return (value as number) >= low && (value as number) <= high ? '' : 'number_out_of_range';
  },
  `an integer from ${low} to ${high}`,
];

/** Tell of a place below, by its JSON pointer (RFC 6901). */
const below =
  (tell: Tell, name: string | number): Tell =>
  (code, expected, rest = '') =>
    tell(code, expected, `/${`${name}`.replace(/~/g, '~0').replace(/\//g, '~1')}${rest}`);

const list =
  (low: number, high: number, rule: Rule): Look =>
  (value, tell) => {
    if (!Array.isArray(value)) tell('member_type', 'an array');
    else if (value.length < low || value.length > high) tell('string_length', `${low} to ${high}`);
    else for (const [index, item] of value.entries()) judge(rule, item, below(tell, index));
  };

const unknown: Rule = [() => 'member_unknown', 'no such member'];

type Rules = Readonly<Record<string, Rule | Look>>;

function demand(names: readonly string[], members: Members, tell: Tell): void {
  for (const name of names) {
    if (members[name] === undefined) below(tell, name)('member_missing', 'this member');
  }
}

/** Ask for an object with these members; `other` is the rule of all others. */
const object =
  (rules: Rules, required = Object.keys(rules), other = unknown): Look =>
  (value, tell) => {
    if (!isObject(value)) {
      tell('member_type', 'an object');
      return;
    }
    demand(required, value, tell);
    for (const [name, item] of Object.entries(value)) {
      const rule = Object.hasOwn(rules, name) ? (rules[name] as Rule | Look) : other;
      if (item !== undefined) judge(rule, item, below(tell, name));
    }
  };

const count = integer(1);
const natural = integer(0);
const name = text(1, MAX_NAME_BYTES);

const TIME = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?Z$/;
const isTime = {
  test: (value: string) => TIME.test(value) && !Number.isNaN(calendarMs(value.slice(0, 19))),
};

const UNSIGNED: Rules = {
  pcs_id: hex64,
  schema: string(/^fractal-lba-kakeya$/, 'schema_unsupported', 'fractal-lba-kakeya'),
  version: string(/^0\.1$/, 'schema_unsupported', '0.1'),
  shard_id: text(1, MAX_SHARD_ID_BYTES),
  epoch: lexicalEpoch,
  attempt: count,
  sent_at: string(isTime, 'member_type', 'a UTC time like 2026-01-15T12:00:00Z'),
  seed: natural,
  scales: list(2, MAX_SCALES, integer(1, MAX_SCALE)),
  N_j: object({}, [], count),
  v_star: list(1, MAX_DIMENSIONS, number(-Number.MAX_VALUE, Number.MAX_VALUE)),
  D_hat: number(0, SIGNED_FLOATS.D_hat),
  budget: number(0, SIGNED_FLOATS.budget),
  coh_star: number(0, SIGNED_FLOATS.coh_star),
  r: number(0, SIGNED_FLOATS.r),
  regime: string(/^(sticky|mixed|non_sticky)$/, 'member_type', 'sticky, mixed or non_sticky'),
  merkle_root: hex64,
  ft: object({
    outbox_seq: natural,
    degraded: [(value) => (typeof value === 'boolean' ? '' : 'member_type'), 'true or false'],
    fallbacks: list(0, MAX_FALLBACKS, text(1, MAX_FALLBACK_BYTES)),
    clock_skew_ms: integer(-MAX_CLOCK_SKEW_MS, MAX_CLOCK_SKEW_MS),
  }),
};

const RECORD = object(
  {
    ...UNSIGNED,
    sig: string(/^/, '', ''),
    sig_v: [(value) => (value === 2 ? '' : 'sig_version_unsupported'), '2, or no such member'],
    alg: string(/^(HMAC|Ed25519)$/, 'alg_mismatch', 'HMAC or Ed25519'),
    kid: name,
    tenant_id: name,
  },
  Object.keys(UNSIGNED),
);

/** Ask what a signature needs beside itself (spec/canonical.md 4.3). */
function signature(record: Members, signed: boolean, tell: Tell): void {
  if (signed) demand(['sig'], record, tell);
  if (record.sig_v !== undefined) demand(['alg', 'kid', 'tenant_id'], record, tell);
  else if (record.tenant_id !== undefined) below(tell, 'tenant_id')('member_unknown', 'sig_v');
}

/** Ask what relates members, or items of one, to each other. */
function relations({ scales, N_j, v_star }: Members, tell: Tell): void {
  const steps = scales as number[];
  steps.forEach((scale, index) => {
    if (scale <= (steps[index - 1] ?? 0)) {
      tell('number_out_of_range', 'increasing scales', `/scales/${index}`);
    }
  });
  const counts = Object.fromEntries(steps.map((scale) => [scale, count]));
  object(counts, Object.keys(counts).sort())(N_j, below(tell, 'N_j'));
  const norm = Math.hypot(...(v_star as unknown[]).map(Number));
  if (!(Math.abs(norm - 1) <= NORM_SLACK)) tell('number_out_of_range', 'norm 1', '/v_star');
}

/** Of several faults, those of another format come first and those of the signature last. */
function rank({ pointer }: ValidationError): number {
  if (/^\/(schema|version)$/.test(`${pointer}`)) return 0;
  return /^\/(alg|sig_v)$/.test(`${pointer}`) ? 2 : 1;
}

/**
 * Refuse a record that is not in its format; `signed` asks for the member `sig`.
 *
 * Throws ValidationError with code and JSON pointer. Whether `pcs_id` is the derived one is asked
 * by `checkPcsId`.
 */
export function checkRecord(record: unknown, signed = false): asserts record is Members {
  const faults: ValidationError[] = [];
  const tell: Tell = (code, expected, pointer = '') => {
    faults.push(invalid(code, pointer, expected));
  };
  RECORD(record, tell);
  if (isObject(record)) signature(record, signed, tell);
  if (!faults.length) relations(record as Members, tell);
  faults.sort((a, b) => rank(a) - rank(b));
  if (faults[0]) throw faults[0];
}
