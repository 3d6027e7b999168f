/**
 * Own the rounding of the four signed numbers and their text (spec/canonical.md 3.2).
 *
 * Nothing else in this package rounds a number that is signed.
 */

/** The four signed numbers and the largest value of each (spec/canonical.md 3.1). */
export const SIGNED_FLOATS = { D_hat: 3.5, budget: 1, coh_star: 1.05, r: 1 } as const;

export type SignedFloat = keyof typeof SIGNED_FLOATS;

/** The four numbers as they were signed. */
export type SignedValues = Readonly<Record<SignedFloat, number>>;

/**
 * Round x to whole billionths, ties away from zero (spec/canonical.md 3.2(3), 3.2(4)).
 *
 * The domain is 0 <= x <= 3.5. `floor(p + 0.5)` is wrong for one double of it; `Math.round` takes
 * ties up, which for numbers that are not negative is away from zero.
 */
export function nano(x: number): number {
  // -0 is 0 billionths, and what is used must say so.
  return Math.round(x * 1e9) + 0;
}

/** Give the number that is transmitted and used for x: n / 10^9 (spec/canonical.md 3.7). */
export function rounded(x: number): number {
  return nano(x) / 1e9;
}

/** Write n billionths as RFC 8785 does: the text of RN64(n / 10^9) (spec/canonical.md 3.2(5)). */
export function numberText(n: number): string {
  return `${n / 1e9}`;
}

/** Say whether a value is a JSON number, as a caller or the scanner gives it. */
export function isNumber(value: unknown): value is number {
  return typeof value === 'number' || typeof value === 'bigint' || value instanceof Number;
}
