/**
 * Sign records (spec/canonical.md 3.6, 3.7, 4.3).
 *
 * What is signed is the digest that `canonical` derives; what signs it is a `Signer`. This file
 * owns which members carry a signature.
 */

import { base64 } from './base64.js';
import { type Canonical, canonicalize } from './canonical.js';
import { SignatureError } from './errors.js';
import { jcs } from './jcs.js';
import type { Members } from './scanner.js';
import { checkName, SIGNATURE_BYTES, type Signer } from './signers.js';

/**
 * The frozen bytes of a signed record: what every attempt sends.
 *
 * No text form of it shows the body or the signature (spec/formats.md 12.12).
 */
export class SignedRecord {
  readonly #body: Uint8Array;
  readonly #record: Readonly<Members>;
  readonly #canonical: Canonical;

  constructor(body: Uint8Array, record: Readonly<Members>, canonical: Canonical) {
    this.#body = body;
    this.#record = record;
    this.#canonical = canonical;
  }

  get body(): Uint8Array {
    return this.#body;
  }

  /** What `body` says. */
  get record(): Readonly<Members> {
    return this.#record;
  }

  get pcsId(): string {
    return this.#record.pcs_id as string;
  }

  /** The content digest: the idempotency key. */
  get content(): string {
    return this.#canonical.content;
  }
}

export interface SignOptions {
  /** 2 unless given; never lowered by this package. */
  readonly sigVersion?: 1 | 2 | undefined;
  /** Needed by version 2, which signs it. */
  readonly tenant?: string | undefined;
}

/** Refuse version 2 without what it signs: `config_invalid`. */
export function checkVersion2({ kid }: Signer, tenant: string | undefined): void {
  checkName('kid', kid);
  checkName('tenant', tenant);
}

/**
 * Sign a copy of a record; the caller's record is never changed.
 *
 * What is sent is what was signed: the four numbers go out as n / 10^9. Version 1 adds `alg` and
 * `kid` if the signer has a kid; version 2 needs `tenant` and a kid, and signs every member. A
 * signature that the record had is replaced.
 */
export async function sign(
  record: Members,
  signer: Signer,
  { sigVersion = 2, tenant }: SignOptions = {},
): Promise<SignedRecord> {
  const { alg, kid } = signer;
  const isWhole = sigVersion === 2;
  if (isWhole) checkVersion2(signer, tenant);
  // The names stand before the record: an object that grows after a copy is slow from then on.
  const members: Members = { sig: 0, sig_v: 0, tenant_id: 0, alg: 0, kid: 0, ...record };
  members.sig_v = isWhole ? 2 : undefined;
  members.tenant_id = isWhole ? tenant : undefined;
  members.alg = kid && alg;
  members.kid = kid;
  const canonical = canonicalize(members, sigVersion);
  const signature = await signer.sign(canonical.digest);
  if (signature.length !== SIGNATURE_BYTES[alg]) {
    throw new SignatureError('signature_malformed', `signer: got ${signature.length} bytes`);
  }
  const signed = canonical.signed(base64(signature));
  return new SignedRecord(jcs(signed), signed, canonical);
}
