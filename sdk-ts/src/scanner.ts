/**
 * Read JSON under the strict profile of spec/canonical.md 3.9, over bytes.
 *
 * This file owns the profile. What a stock parser loses is kept in the type of a number, so that
 * every later question can still be asked:
 *
 *     number   an integer token within 2^53 - 1, or a double with a fraction
 *     bigint   an integer token beyond 2^53 - 1
 *     Number   (boxed) every other token: 1.0, 1e3, -0, 1e999
 *
 * A boxed number calculates, compares and turns into text as its value does.
 */

import { invalid } from './errors.js';
import { checkWellFormed, isObject } from './jcs.js';

/** Longest JSON text of one record, in bytes (spec/canonical.md 3.9(1)). */
export const MAX_RECORD_BYTES = 65_536;

/** Deepest nesting of arrays and objects in one record (spec/canonical.md 3.9(2)). */
export const MAX_DEPTH = 32;

/** Longer integer tokens keep only so many digits: no double is as large, none is in range. */
const MAX_INTEGER_DIGITS = 400;

/** A JSON object. One that was read here has no prototype: its names are its own alone. */
export type Members = Record<string, unknown>;

// No text matches in two ways, so a hostile one costs no more than its length.
const SPACE = String.raw`[ \t\n\r]*`;
const PLAIN = String.raw`[^"\\\0-\x1f]*`;
const ESCAPE = String.raw`\\(?:["\\/bfnrt]|u[\da-fA-F]{4})`;
const INTEGER = String.raw`-?(?:0|[1-9]\d*)`;
const NUMBER = String.raw`(${INTEGER})(?:\.\d+)?(?:[eE][+-]?\d+)?`;
const TOKEN = new RegExp(
  `${SPACE}(?:([{}[\\],:])|"(${PLAIN}(?:${ESCAPE}${PLAIN})*)"|(${NUMBER})|(true|false|null)|($))`,
  'y',
);

type Token = [
  all?: string,
  mark?: string,
  text?: string,
  number?: string,
  whole?: string,
  literal?: string,
  end?: string,
];

function numberOf(token: string, isInteger: boolean): unknown {
  const x = +token;
  if (!isInteger || Object.is(x, -0)) return x % 1 ? x : Object(x);
  return Number.isSafeInteger(x) ? x : BigInt(token.slice(0, MAX_INTEGER_DIGITS));
}

function stringOf(inside: string): string {
  const text: string = inside.includes('\\') ? JSON.parse(`"${inside}"`) : inside;
  checkWellFormed(text);
  return text;
}

/** Read one JSON text of any type. */
export function parseValue(data: Uint8Array, maxBytes = MAX_RECORD_BYTES): unknown {
  if (data.length > maxBytes) {
    throw invalid('payload_too_large', '', `at most ${maxBytes} bytes`, data.length);
  }
  let at = 0;
  let json = '';
  let token: Token = [];
  const malformed = () => invalid('json_malformed', '', `strict JSON near character ${at}`);
  const next = (): void => {
    at = TOKEN.lastIndex;
    token = (TOKEN.exec(json) ?? []) as Token;
  };
  const take = (mark: string): boolean => {
    const isNext = token[1] === mark;
    if (isNext) next();
    return isNext;
  };
  const value = (depth: number): unknown => {
    const [, mark, text, number, whole, literal] = token;
    next();
    if (text !== undefined) return stringOf(text);
    if (number) return numberOf(number, number === whole);
    if (literal) return JSON.parse(literal);
    if (mark !== '{' && mark !== '[') throw malformed();
    if (depth >= MAX_DEPTH) throw invalid('json_limit', '', `at most ${MAX_DEPTH} containers`);
    const members: Members = Object.create(null);
    const items: unknown[] = [];
    const close = mark === '{' ? '}' : ']';
    if (take(close)) return mark === '{' ? members : items;
    do {
      if (mark === '[') {
        items.push(value(depth + 1));
        continue;
      }
      const [, , quoted] = token;
      next();
      if (quoted === undefined || !take(':')) throw malformed();
      const name = stringOf(quoted);
      if (name in members) throw invalid('member_duplicate', '', 'each name once', name);
      members[name] = value(depth + 1);
    } while (take(','));
    if (!take(close)) throw malformed();
    return mark === '{' ? members : items;
  };
  try {
    json = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(data);
  } catch {
    throw malformed();
  }
  TOKEN.lastIndex = 0;
  next();
  const read = value(0);
  if (token[6] === undefined) throw malformed();
  return read;
}

/** Read one record: a JSON object of at most 65,536 bytes. */
export function parse(data: Uint8Array): Members {
  const record = parseValue(data);
  if (!isObject(record)) throw invalid('json_malformed', '', 'one JSON object');
  return record;
}
