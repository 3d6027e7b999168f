/**
 * Hold what one member of a record must be.
 *
 * The signing rule and the record's format share these, so that both say the same of one member.
 */

import { isNumber } from './number.js';
import { utf8 } from './utf8.js';

/** Gives the code of a value's fault, or nothing, and says what is expected. */
export type Rule = readonly [codeOf: (value: unknown) => string, expected: string];

const ofString = (codeOf: (value: string) => string, expected: string): Rule => [
  (value) => (typeof value === 'string' ? codeOf(value) : 'member_type'),
  expected,
];

/** Ask for a string that fits `form`; another string has the fault `code`. */
export const string = (form: Pick<RegExp, 'test'>, code: string, expected: string): Rule =>
  ofString((value) => (form.test(value) ? '' : code), expected);

/** 64 lower-case hexadecimal digits. */
export const HEX64 = /^[0-9a-f]{64}$/;

export const hex64 = string(HEX64, 'hex_invalid', '64 characters 0-9 a-f');

/** Ask for a string of so many bytes of UTF-8. */
export const text = (low: number, high: number): Rule =>
  ofString((value) => {
    if (!value.isWellFormed()) return 'string_surrogate';
    const { length } = 3 * value.length > high ? utf8(value) : value;
    return length >= low && length <= high ? '' : 'string_length';
  }, `${low} to ${high} bytes`);

/** Ask for a number from `low` to `high`. NaN and infinities come from callers, never from JSON. */
export const number = (low: number, high: number): Rule => [
  (value) => {
    if (!isNumber(value)) return 'member_type';
    if (value >= low && value <= high) return '';
    const isToken = typeof value !== 'number' || Number.isFinite(value);
    return isToken ? 'number_out_of_range' : 'number_not_finite';
  },
  `${low} to ${high}`,
];

/** Ask for the epoch: a lexical integer (spec/canonical.md 3.3). */
export const lexicalEpoch: Rule = [
  (value) => {
    if (!isNumber(value)) return 'member_type';
    return Number.isSafeInteger(value) && value >= 0 ? '' : 'epoch_invalid';
  },
  '0 to 2^53 - 1',
];
