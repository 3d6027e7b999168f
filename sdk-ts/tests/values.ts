/** Turn the values of vectors into those of the language, and back. */

/** Bytes of hex digits. */
export function bytes(digits: string): Uint8Array {
  return new Uint8Array(Buffer.from(digits, 'hex'));
}

/** Hex digits of bytes. */
export function digits(data: Uint8Array): string {
  return Buffer.from(data).toString('hex');
}

/** A double of its 16 hex digits. */
export function double(bits: string): number {
  return Buffer.from(bits, 'hex').readDoubleBE();
}

/** The 16 hex digits of a double. */
export function bits(x: number): string {
  const out = Buffer.alloc(8);
  out.writeDoubleBE(x);
  return out.toString('hex');
}

/** A text of its UTF-16 code units, unpaired surrogates included. */
export function fromUtf16(units: string): string {
  const codes = (units.match(/.{4}/g) ?? []).map((unit) => Number.parseInt(unit, 16));
  return String.fromCharCode(...codes);
}

/** UTF-8 of a text. */
export function utf8(text: string): Uint8Array {
  return new TextEncoder().encode(text);
}

/** The text of UTF-8. */
export function textOf(data: Uint8Array): string {
  return new TextDecoder().decode(data);
}

/** The members that are there. */
export function present(members: Readonly<Record<string, unknown>>): Record<string, unknown> {
  return Object.fromEntries(Object.entries(members).filter(([, value]) => value !== undefined));
}
