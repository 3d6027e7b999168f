/**
 * Read the status of a region: how far the streams that it writes are replicated.
 *
 * Bytes in, values out, no socket (spec/formats.md 12.15-12.17). What cannot be read says nothing
 * and is no error: the answer that it came with stands on its own.
 */

import { isFractalLBAError } from './errors.js';
import { buildRequest, type Request, type RequestOptions } from './http.js';
import { isObject } from './jcs.js';
import type { Position } from './outcome.js';
import { type Members, parseValue } from './scanner.js';

/** One stream: its watermark, and the last seq that stands of each earlier region_epoch. */
export interface StreamStatus {
  readonly watermark: Position;
  readonly closed: readonly { readonly regionEpoch: number; readonly seq: number }[];
}

/** What a region says of the streams that it writes. */
export interface RegionStatus {
  readonly streams: readonly StreamStatus[];
}

/** Build the reading of a status, which needs the tenant's read token. */
export function statusRequest(endpoint: string, options: RequestOptions): Request {
  return buildRequest('GET', endpoint, '/v1/region/status', options);
}

/** Read the answer to a status request, or give undefined; unknown members are ignored. */
export function readRegionStatus(body: Uint8Array): RegionStatus | undefined {
  try {
    return statusOf(parseValue(body, body.length));
  } catch (error) {
    if (!isFractalLBAError(error)) throw error;
    return undefined;
  }
}

function statusOf(members: unknown): RegionStatus | undefined {
  if (!isObject(members) || !isText(members.region, /^[a-z0-9]{3}$/)) return undefined;
  const { region, streams } = members;
  if (!Array.isArray(streams) || !streams.every(isStream)) return undefined;
  return {
    streams: streams.map(({ placement, region_epoch, replicated, closed }) => ({
      watermark: { region, placement, regionEpoch: region_epoch, seq: replicated },
      closed: closed.map((end) => ({ regionEpoch: end.region_epoch, seq: end.seq })),
    })),
  };
}

interface WireStream {
  readonly placement: string;
  readonly region_epoch: number;
  readonly replicated: number;
  readonly closed: readonly { readonly region_epoch: number; readonly seq: number }[];
}

function isStream(value: unknown): value is WireStream {
  return (
    isObject(value) &&
    isText(value.placement, /^[a-z0-9-]{1,64}$/) &&
    hasCounts(value, ['region_epoch', 'replicated', 'durable']) &&
    Array.isArray(value.closed) &&
    value.closed.every((end) => isObject(end) && hasCounts(end, ['region_epoch', 'seq']))
  );
}

function isText(value: unknown, form: RegExp): value is string {
  return typeof value === 'string' && form.test(value);
}

/** Integer tokens are numbers here, all others are not (`scanner`). */
function hasCounts(members: Members, names: readonly string[]): boolean {
  return names.every((name) => {
    const value = members[name];
    return typeof value === 'number' && Number.isInteger(value) && value >= 0;
  });
}
