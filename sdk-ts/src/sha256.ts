/**
 * Hash and authenticate synchronously: SHA-256 (FIPS 180-4) and HMAC (RFC 2104).
 *
 * WebCrypto costs two turns of the event loop a call, several times what the hash itself takes;
 * so records are hashed here, and signed here where the key is raw bytes.
 */

import { utf8Into } from './utf8.js';

// The constants are the first 32 bits of the fractions of roots of primes; an Int32Array takes just
// those bits. `pow` has 15 more, so that its last digit does not matter; a test compares all.
const START = new Int32Array(64);
const ROUND = new Int32Array(64);
for (let n = 2, count = 0; count < 64; n++) {
  let divisor = 2;
  while (n % divisor) divisor++;
  if (divisor < n) continue;
  START[count] = n ** (1 / 2) * 2 ** 32;
  ROUND[count++] = n ** (1 / 3) * 2 ** 32;
}

const words = new Int32Array(64);
const rotate = (x: number, by: number): number => (x >>> by) | (x << (32 - by));

/** Take the 64 bytes at `from` into the state. */
function compress(state: Int32Array, view: DataView, from: number): void {
  let a = state[0] as number;
  let b = state[1] as number;
  let c = state[2] as number;
  let d = state[3] as number;
  let e = state[4] as number;
  let f = state[5] as number;
  let g = state[6] as number;
  let h = state[7] as number;
  for (let i = 0; i < 64; i++) {
    if (i < 16) {
      words[i] = view.getInt32(from + 4 * i);
    } else {
      const x = words[i - 15] as number;
      const y = words[i - 2] as number;
      words[i] =
        (words[i - 16] as number) +
        (words[i - 7] as number) +
        (rotate(x, 7) ^ rotate(x, 18) ^ (x >>> 3)) +
        (rotate(y, 17) ^ rotate(y, 19) ^ (y >>> 10));
    }
    const next =
      (h +
        (rotate(e, 6) ^ rotate(e, 11) ^ rotate(e, 25)) +
        ((e & f) ^ (~e & g)) +
        (ROUND[i] as number) +
        (words[i] as number)) |
      0;
    const top = (rotate(a, 2) ^ rotate(a, 13) ^ rotate(a, 22)) + ((a & b) ^ (a & c) ^ (b & c));
    h = g;
    g = f;
    f = e;
    e = (d + next) | 0;
    d = c;
    c = b;
    b = a;
    a = (next + top) | 0;
  }
  [a, b, c, d, e, f, g, h].forEach((word, i) => {
    (state[i] as number) += word;
  });
}

// A new array of this size costs more than the hash of a record, so that one is kept.
let room = new Uint8Array(4096);
let view = new DataView(room.buffer);

/** Hash a text or bytes, after the block of a key that `start` has taken. */
function hash(data: Uint8Array | string, start: Int32Array, before = 0): Uint8Array<ArrayBuffer> {
  const most = 3 * data.length + 72;
  if (room.length < most) {
    room = new Uint8Array(most);
    view = new DataView(room.buffer);
  }
  const { length } = typeof data === 'string' ? utf8Into(data, room) : data;
  if (typeof data !== 'string') room.set(data);
  const end = (length + 72) & -64;
  room.fill(0, length, end);
  room[length] = 0x80;
  // No text here has 2^29 bytes: the length in bits fits into 32.
  view.setInt32(end - 4, (before + length) * 8);
  const state = start.slice(0, 8);
  for (let from = 0; from < end; from += 64) compress(state, view, from);
  for (let i = 0; i < 8; i++) view.setInt32(4 * i, state[i] as number);
  return room.slice(0, 32);
}

/** Give the 32 bytes of the SHA-256 of bytes, or of a text in UTF-8. */
export function sha256(data: Uint8Array | string): Uint8Array<ArrayBuffer> {
  return hash(data, START);
}

/** Prepare a key; the function gives the 32 bytes of the HMAC-SHA256 of a message. */
export function hmacSha256(key: Uint8Array): (message: Uint8Array) => Uint8Array<ArrayBuffer> {
  const [inner, outer] = [0x36, 0x5c].map((pad) => {
    const block = new Uint8Array(64);
    block.set(key.length > 64 ? sha256(key) : key);
    const state = START.slice(0, 8);
    compress(state, new DataView(block.map((byte) => byte ^ pad).buffer), 0);
    return state;
  }) as [Int32Array, Int32Array];
  return (message) => hash(hash(message, inner, 64), outer, 64);
}

/** Write bytes as lower-case hexadecimal digits. */
export function hex(bytes: Uint8Array): string {
  let text = '';
  for (const byte of bytes) text += (byte + 256).toString(16).slice(1);
  return text;
}
