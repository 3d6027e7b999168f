/**
 * Write signed records as one batch, and read the answers line by line (spec/formats.md 8).
 *
 * A batch is newline-delimited JSON: one record a line, one answer a line, in order. Each line
 * means what a single submit of it would have meant, so an answer is read by the same functions
 * as that of a submit. Batches are for the outbox; `submitMany` sends singles. Pure.
 */

import type { Frozen, Spec } from './call.js';
import { APIError, type FractalLBAError, isFractalLBAError } from './errors.js';
import { buildRequest, type Request, type RequestOptions } from './http.js';
import { isObject, jcs } from './jcs.js';
import type { Submitted } from './outcome.js';
import { type Response, readResponse, readSubmitted } from './response.js';
import { type Members, parseValue } from './scanner.js';

/** Most records of one batch; the server refuses more. */
export const MAX_BATCH_LINES = 1_000;

/** Most bytes of one batch, and of its answer. */
export const MAX_BATCH_BYTES = 4 * 2 ** 20;

const NDJSON_TYPE = 'application/x-ndjson';
const LINE_END = 10;
const BLANK = 32;

/** What one line of a batch was answered with. */
export type BatchAnswer = Submitted | FractalLBAError;

/** Describe a batch of frozen bodies of one tenant. */
export function batchSpec(
  records: readonly Frozen[],
  options: RequestOptions,
): Spec<BatchAnswer[]> {
  return {
    name: 'batch',
    build: (endpoint, attempt) => batchRequest(endpoint, records, { ...options, attempt }),
    read: (response, attempts, nowMs) => readBatch(response, records, nowMs, attempts),
  };
}

/**
 * Build `POST /v1/pcs/batch`.
 *
 * A line end inside a record is white space between its members: a string holds none raw. It
 * becomes a blank, which no signature sees.
 */
export function batchRequest(
  endpoint: string,
  records: readonly Frozen[],
  options: RequestOptions,
): Request {
  const body = new Uint8Array(records.reduce((size, each) => size + each.body.length + 1, 0));
  let at = 0;
  for (const record of records) {
    for (const byte of record.body) body[at++] = byte === LINE_END ? BLANK : byte;
    body[at++] = LINE_END;
  }
  const typed = { ...options, body, contentType: NDJSON_TYPE };
  const { headers, ...request } = buildRequest('POST', endpoint, '/v1/pcs/batch', typed);
  const accept = `${NDJSON_TYPE}, application/problem+json`;
  return {
    ...request,
    headers: headers.map(([name, value]) => [name, name === 'Accept' ? accept : value] as const),
  };
}

/** Read the answer to each record; one that has none is `response_malformed`. */
export function readBatch(
  response: Response,
  records: readonly Frozen[],
  nowMs: number,
  attempts: number,
): BatchAnswer[] {
  const lines = linesOf(response.body);
  return records.map(({ pcsId }, index) => {
    try {
      const item = readItem(lines[index], index);
      return readSubmitted(single(item, response, nowMs), pcsId, attempts);
    } catch (error) {
      if (!isFractalLBAError(error)) throw error;
      error.attempts = attempts;
      return error;
    }
  });
}

function linesOf(body: Uint8Array): Uint8Array[] {
  const lines: Uint8Array[] = [];
  for (let at = 0; at < body.length; ) {
    const end = body.indexOf(LINE_END, at);
    const stop = end < 0 ? body.length : end;
    lines.push(body.subarray(at, stop));
    at = stop + 1;
  }
  return lines;
}

function readItem(line: Uint8Array | undefined, index: number): Members {
  let item: unknown;
  try {
    item = line && parseValue(line, MAX_BATCH_BYTES);
  } catch (error) {
    if (!isFractalLBAError(error)) throw error;
  }
  if (isObject(item) && item.index === index && Number.isInteger(item.status)) return item;
  throw new APIError('response_malformed', `batch: expected an answer for line ${index}`);
}

/** Give an item the shape of the response that a single submit would have had. */
function single(item: Members, batch: Response, nowMs: number): Response {
  const { requestId } = batch;
  const status = item.status as number;
  if ('problem' in item) {
    const headers = requestId === undefined ? [] : [['X-Request-Id', requestId] as const];
    return readResponse({ status, headers, body: jcs(item.problem) }, nowMs);
  }
  const headers: Record<string, string> = {};
  for (const [name, header] of HEADERS) if (name in item) headers[header] = `${item[name]}`;
  const watermark = batch.headers['pcs-replicated'];
  if (watermark !== undefined) headers['pcs-replicated'] = watermark;
  return { status, headers, body: jcs(item.outcome ?? null), requestId };
}

// Members of an item that a single answer has as headers.
const HEADERS = [
  ['replayed', 'idempotency-replayed'],
  ['position', 'pcs-position'],
  ['level', 'pcs-level'],
] as const;
