/** Write and read base64 with padding (RFC 4648 section 4). */

/** Write bytes. */
export function base64(bytes: Uint8Array): string {
  // To spread the bytes would take three times as long as all the rest.
  return btoa(String.fromCharCode.apply(null, bytes as unknown as number[]));
}

/** Read a text; undefined unless it is the one that `base64` writes. */
export function fromBase64(text: string): Uint8Array<ArrayBuffer> | undefined {
  try {
    const bytes = Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
    return base64(bytes) === text ? bytes : undefined;
  } catch {
    return undefined;
  }
}
