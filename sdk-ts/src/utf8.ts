/** Own the one encoder of texts. */

const encoder = new TextEncoder();

/** Write a text as UTF-8. */
export function utf8(text: string): Uint8Array<ArrayBuffer> {
  return encoder.encode(text);
}

/** Write a text into `room`, which is large enough; `length` is the number of bytes. */
export function utf8Into(text: string, room: Uint8Array): { readonly length: number } {
  return { length: encoder.encodeInto(text, room).written };
}
