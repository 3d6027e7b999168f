/** Draw the same values in every run: property tests print their seed and can be repeated. */

/** Give a generator of numbers in [0, 1) (mulberry32). */
export function chance(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let x = Math.imul(state ^ (state >>> 15), 1 | state);
    x = (x + Math.imul(x ^ (x >>> 7), 61 | x)) ^ x;
    return ((x ^ (x >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** Take one of these. */
export function oneOf<T>(random: () => number, items: readonly T[]): T {
  return items[Math.floor(random() * items.length)] as T;
}

/** Take an integer below `high`. */
export function below(random: () => number, high: number): number {
  return Math.floor(random() * high);
}

const UNITS = [0x20, 0x22, 0x5c, 0x2f, 0x0a, 0x00, 0x1f, 0x7f, 0x61, 0xe9, 0x2028, 0xfb01, 0xffff];

/** Draw a text of Unicode scalar values, with what needs care more often than not. */
export function drawText(random: () => number): string {
  let text = '';
  for (let left = below(random, 8); left > 0; left--) {
    text += String.fromCodePoint(
      random() < 0.2 ? 0x10000 + below(random, 0xfffff) : oneOf(random, UNITS),
    );
  }
  return text;
}

const doubles = new Float64Array(1);
const words = new Uint32Array(doubles.buffer);

/** Draw a finite double: of any bits, of a few digits, or whole. */
export function drawDouble(random: () => number): number {
  const kind = random();
  if (kind < 0.3) return below(random, 2 ** 20) - 2 ** 19;
  if (kind < 0.6) return (below(random, 10 ** 9) - 5 * 10 ** 8) / 10 ** below(random, 15);
  words[0] = below(random, 2 ** 32);
  words[1] = below(random, 2 ** 32);
  const [x = 0] = doubles;
  return Number.isFinite(x) && !(Number.isInteger(x) && Math.abs(x) > 2 ** 53) ? x : 0.5;
}

/** Draw a JSON document. */
export function drawDocument(random: () => number, depth = 0): unknown {
  const kind = random();
  if (depth < 4 && kind < 0.25) {
    return Array.from({ length: below(random, 5) }, () => drawDocument(random, depth + 1));
  }
  if (depth < 4 && (kind < 0.5 || depth === 0)) {
    const members = Array.from({ length: below(random, 6) }, () => {
      return [drawText(random), drawDocument(random, depth + 1)] as const;
    });
    return Object.fromEntries(members);
  }
  if (kind < 0.7) return drawDouble(random);
  if (kind < 0.9) return drawText(random);
  return oneOf(random, [true, false, null]);
}
