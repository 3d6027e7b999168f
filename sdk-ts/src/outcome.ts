/**
 * Hold what the server says about a record: the stored outcome, and the facts of the exchange.
 *
 * The response body *is* the stored outcome, the same bytes for the first answer, every duplicate
 * and GET. What belongs to one exchange is in headers. `response` reads both.
 */

/** The durability levels; each includes those before it. */
export const LEVELS = ['durable', 'replicated', 'witnessed'] as const;

export type Level = (typeof LEVELS)[number];

/** Why an outcome is escalated and not accepted (spec/formats.md 2.3-2.5). */
export const REFUSING_REASONS = [
  'd_hat_out_of_tolerance',
  'coh_star_out_of_range',
  'n_j_implausible',
] as const;

/** Why an outcome is escalated and accepted (spec/formats.md 2.6, 2.7). */
export const ACCEPTING_REASONS = ['regime_mismatch', 'budget_deviation'] as const;

export type Reason = (typeof REFUSING_REASONS)[number] | (typeof ACCEPTING_REASONS)[number];

/** The stored verdict about one record; final, and the same for every duplicate. */
export interface Outcome {
  readonly accepted: boolean;
  /** Whether a person should look. */
  readonly escalated: boolean;
  readonly reason?: Reason;
  /** Where and when the first write of this id was recorded. */
  readonly firstSeen: { readonly region: string; readonly hlc: string };
  readonly pcsId: string;
  readonly policyVersion: string;
  readonly recomputedDHat: number;
  readonly recomputedBudget: number;
}

/** A place in a region's log. */
export interface Position {
  readonly region: string;
  readonly placement: string;
  readonly regionEpoch: number;
  readonly seq: number;
}

/** The exchange as it was. `headers` have lower-case names. */
export interface Raw {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: Uint8Array;
  readonly requestId?: string | undefined;
  readonly attempts: number;
}

/** A recorded submit: the outcome, and how this exchange went. */
export interface Submitted {
  readonly outcome: Outcome;
  /** Whether the record was known before. */
  readonly replayed: boolean;
  /** The durability that was reached. */
  readonly level: Level;
  readonly position?: Position | undefined;
  /** How far the region that answered is replicated, if it said so. */
  readonly replicated?: Position | undefined;
  /** Absent until the server issues receipts. */
  readonly receipt?: Uint8Array | undefined;
  readonly raw: Raw;
}
