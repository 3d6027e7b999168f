/**
 * Hold key bytes and tokens so that nothing prints them by accident.
 *
 * A `Secret` shows `***` as text, in JSON, in a template and in `util.inspect`. The only way to
 * the bytes is `reveal()`, which is easy to search for.
 */

import { utf8 } from './utf8.js';

/** Wrap bytes that must not be printed or logged. */
export class Secret {
  readonly #bytes: Uint8Array;

  constructor(value: Uint8Array | string) {
    this.#bytes = typeof value === 'string' ? utf8(value) : value.slice();
  }

  /** Give the bytes. */
  reveal(): Uint8Array {
    return this.#bytes;
  }

  toString(): string {
    return '***';
  }

  toJSON(): string {
    return '***';
  }

  [Symbol.for('nodejs.util.inspect.custom')](): string {
    return '***';
  }
}

/** Give the bytes of a key that may be wrapped, by this copy of the package or another. */
export function reveal(value: Uint8Array | Secret): Uint8Array {
  return 'reveal' in value ? value.reveal() : value;
}
