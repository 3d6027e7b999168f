/**
 * Write a JSON value in the one form of RFC 8785.
 *
 * ECMAScript writes numbers and strings as RFC 8785 asks, and sorts texts by UTF-16 code units;
 * this file adds the order of names, and refuses what has no such form (spec/canonical.md 4.4).
 */

import { invalid } from './errors.js';
import { isNumber } from './number.js';
import type { Members } from './scanner.js';
import { utf8 } from './utf8.js';

/** Say whether a value is a JSON object: no array, no boxed number, no date. */
export function isObject(value: unknown): value is Members {
  return {}.toString.call(value) === '[object Object]';
}

/** Refuse a text with an unpaired surrogate, which has no UTF-8: `string_surrogate`. */
export function checkWellFormed(text: string, pointer = ''): void {
  if (!text.isWellFormed()) throw invalid('string_surrogate', pointer, 'no unpaired surrogate');
}

function stringText(value: string): string {
  // Most texts need no escape, and to see that costs less than to ask for one.
  if (!/[^ !#-[\]-~]/.test(value)) return `"${value}"`;
  checkWellFormed(value);
  return JSON.stringify(value);
}

/**
 * Write a value as text; members that are undefined are as if absent.
 *
 * Throws ValidationError `number_out_of_range`, `string_surrogate` or `member_type`.
 */
export function jcsText(value: unknown): string {
  if (typeof value === 'string') return stringText(value);
  if (Number.isFinite(value) || value === null || typeof value === 'boolean') return `${value}`;
  let text = '';
  if (Array.isArray(value)) {
    for (const item of value) text += (text && ',') + jcsText(item);
    return `[${text}]`;
  }
  if (isObject(value)) {
    for (const name of Object.keys(value).sort()) {
      const member = value[name];
      if (member !== undefined) text += `${text && ','}${stringText(name)}:${jcsText(member)}`;
    }
    return `{${text}}`;
  }
  if (value instanceof Number && Number.isFinite(+value)) return `${value}`;
  const code = isNumber(value) ? 'number_out_of_range' : 'member_type';
  throw invalid(code, '', 'a JSON value', value);
}

/** Write a value as UTF-8. */
export function jcs(value: unknown): Uint8Array<ArrayBuffer> {
  return utf8(jcsText(value));
}
