/**
 * Own the outbox's format, one for all SDKs (spec/formats.md 11): frames, what a crash leaves of
 * them, and space. A frame is
 *
 *     u32be length | u32be CRC-32 (IEEE) of the JSON | JSON {"t": type, "id": 16 hex digits, ...}
 *
 * with the types `put` (the frozen body), `sent`, `ack`, `hold` (acknowledged, and held until its
 * position is replicated), `dead` and `release`. This package reads `sent` and never writes it:
 * that an attempt began changes nothing. Files `outbox-<16 hex>.log` are named by the first id they
 * may hold, so ids never repeat while a file remains.
 *
 * The invariant: a `put` that is on disk without an `ack`, `dead` or `release` behind it is sent
 * again, with those bytes. A file therefore goes only when no entry in it is live *and* every older
 * file is gone, because its marks may speak of entries in older files.
 *
 * Nothing here touches a file, a clock or a socket.
 */

import { calendarMs } from './calendar.js';
import { isFractalLBAError } from './errors.js';
import { isObject } from './jcs.js';
import type { Position } from './outcome.js';
import { positionOf } from './response.js';
import { type Members, parseValue } from './scanner.js';
import type { Group } from './schedule.js';
import { utf8 } from './utf8.js';

/** A log file that has reached this size gets a successor before the next `put`. */
export const FILE_BYTES = 8 * 2 ** 20;

/** Longest JSON of one frame; a longer length field is damage, not a frame. */
const MAX_FRAME_BYTES = 2 ** 20;

const HEAD_BYTES = 8;

export const DEAD_LOG = 'dead.log';

/** The last id of all; it is never given out, as nothing comes after it. */
export const LAST_ID = 2n ** 64n - 1n;

/** One signed record as it is kept: the frozen body and what a request needs beside it. */
export interface Letter {
  readonly id: string;
  readonly pcsId: string;
  /** The idempotency key. */
  readonly key: string;
  readonly kid?: string | undefined;
  readonly tenant?: string | undefined;
  /** `sent_at` in Unix milliseconds. */
  readonly atMs: number;
  readonly body: Uint8Array;
  /** The dead letter that this one was requeued from. */
  readonly from?: string | undefined;
}

/** Limits and habits of an outbox. */
export interface OutboxOptions {
  /** Entries, dead letters included, before the outbox is full; 100,000. */
  readonly maxEntries?: number | undefined;
  /** Bytes of entries, dead letters included, before the outbox is full; 1 GiB. */
  readonly maxBytes?: number | undefined;
  /** Age, from `sent_at`, at which an entry becomes a dead letter; 13 days. */
  readonly maxAgeMs?: number | undefined;
  /** Whether a client sends waiting entries by itself, or in `flush` alone; true. */
  readonly background?: boolean | undefined;
}

/** What an outbox holds. */
export interface OutboxStats {
  readonly entries: number;
  readonly inFlight: number;
  /** Those of the entries that are acknowledged and not yet replicated. */
  readonly held: number;
  readonly dead: number;
  readonly bytes: number;
  /** Absent if there is no entry. */
  readonly oldestSentAtMs?: number | undefined;
  /** Keys and tenants that the server refuses. */
  readonly blocked: readonly Group[];
  readonly corruptFiles: readonly string[];
  readonly unreadableFrames: number;
}

/** One entry that will not be sent again, with the answer that ended it. */
export interface DeadLetter {
  /** Names the entry, for `requeue` and `purge`. */
  readonly id: string;
  readonly letter: Letter;
  /** Absent if no answer ended it. */
  readonly status?: number | undefined;
  readonly code: string;
  readonly reason: string;
  readonly response: string;
}

/** Where a frame lies in its file, head included. */
export interface Place {
  readonly offset: number;
  readonly length: number;
}

/** What is held in memory of a live entry: all but its body, and where that lies. */
export interface Entry extends Omit<Letter, 'body' | 'pcsId'>, Place {
  readonly file: string;
  /** The position at which it is held, if it is. */
  readonly hold?: Position | undefined;
}

/** Remember a letter by its place. */
export function entryOf(letter: Letter, file: string, { offset, length }: Place): Entry {
  const { id, key, kid, tenant, atMs, from } = letter;
  return { id, key, kid, tenant, atMs, from, file, offset, length };
}

// --- frames --------------------------------------------------------------------------------

/** One readable frame, and where it lies. */
export interface Framed extends Place {
  readonly value: Members;
}

const decoder = new TextDecoder('utf-8', { ignoreBOM: true });

/** `{"t":"`, the beginning of every frame's text. */
const MARK = [123, 34, 116, 34, 58, 34];

const CRC_TABLE = new Uint32Array(256).map((_, index) => {
  let rest = index;
  for (let bit = 0; bit < 8; bit++) rest = (rest >>> 1) ^ (rest & 1 && 0xedb88320);
  return rest;
});

/** Give the CRC-32 (IEEE) of some bytes. */
export function crc32(data: Uint8Array): number {
  let rest = -1;
  for (const byte of data) rest = (rest >>> 8) ^ (CRC_TABLE[(rest ^ byte) & 255] as number);
  return ~rest >>> 0;
}

/** Write one frame; `t` must be its first member, as recovery searches for it. */
export function encodeFrame(frame: Members): Uint8Array {
  const text = utf8(JSON.stringify(frame));
  const data = new Uint8Array(HEAD_BYTES + text.length);
  const head = new DataView(data.buffer);
  head.setUint32(0, text.length);
  head.setUint32(4, crc32(text));
  data.set(text, HEAD_BYTES);
  return data;
}

/** Give the members of the `put` frame of a letter; what is unset is left out. */
export function putFrame({ id, pcsId, key, kid, tenant, from, atMs, body }: Letter): Members {
  const text = decoder.decode(body);
  return { t: 'put', id, pcs_id: pcsId, key, kid, tenant, from, at: atMs, body: text };
}

/** Give the members of the frame in the dead-letter file. */
export function deadFrame({ id, letter, status, code, reason, response }: DeadLetter): Members {
  const text = status && `${status}`;
  return { t: 'dead', id, put: putFrame(letter), code, reason, response, status: text };
}

/** Read the frame at `offset`, or give undefined if there is none that is whole and known. */
export function readFrame(data: Uint8Array, offset = 0): Framed | undefined {
  const start = offset + HEAD_BYTES;
  if (!MARK.every((byte, index) => data[start + index] === byte)) return undefined;
  const head = new DataView(data.buffer, data.byteOffset + offset);
  const length = head.getUint32(0);
  const text = data.subarray(start, start + length);
  if (length > MAX_FRAME_BYTES || text.length < length) return undefined;
  if (crc32(text) !== head.getUint32(4)) return undefined;
  try {
    const value = parseValue(text, MAX_FRAME_BYTES);
    if (isKnown(value)) return { offset, length: HEAD_BYTES + length, value };
  } catch (error) {
    if (!isFractalLBAError(error)) throw error;
  }
  return undefined;
}

/** Read the members of a `put` frame, or give undefined if it is none. */
export function readLetter(frame: unknown): Letter | undefined {
  if (!isObject(frame) || frame.t !== 'put' || !isPut(frame)) return undefined;
  const { id, pcs_id, key, kid, tenant, from, at, body } = frame;
  return { id, pcsId: pcs_id, key, kid, tenant, atMs: at, body: utf8(body), from };
}

/** Read the members of a frame of the dead-letter file, or give undefined if they are not those. */
export function readDeadLetter(frame: Members): DeadLetter | undefined {
  const { t, status } = frame;
  const letter = readLetter(frame.put);
  if (t !== 'dead' || !letter || !hasTexts(frame, ['code', 'reason', 'response'])) return undefined;
  if (status !== undefined && !(typeof status === 'string' && /^\d{3}$/.test(status))) {
    return undefined;
  }
  const { id, code, reason, response } = frame as Record<string, string>;
  return { id, letter, status: status && +status, code, reason, response } as DeadLetter;
}

interface Put {
  readonly id: string;
  readonly pcs_id: string;
  readonly key: string;
  readonly kid?: string;
  readonly tenant?: string;
  readonly from?: string;
  readonly at: number;
  readonly body: string;
}

function isKnown(value: unknown): value is Members {
  if (!isObject(value)) return false;
  if (value.t === 'put') return isPut(value);
  return /^(sent|ack|hold|dead|release)$/.test(value.t as string) && hasId(value);
}

function isPut(value: Members): value is Members & Put {
  const optional = ['kid', 'tenant', 'from'].filter((name) => name in value);
  return (
    hasId(value) &&
    hasTexts(value, ['pcs_id', 'key', 'body', ...optional]) &&
    typeof value.at === 'number' &&
    Number.isInteger(value.at)
  );
}

function hasId({ id }: Members): boolean {
  return typeof id === 'string' && /^[0-9a-f]{16}$/.test(id);
}

function hasTexts(value: Members, names: readonly string[]): boolean {
  return names.every((name) => typeof value[name] === 'string');
}

/** What is readable of a file, and the ranges that are not. */
export interface Scan {
  readonly frames: readonly Framed[];
  readonly gaps: readonly (readonly [start: number, end: number])[];
}

/** Read every frame that can be read; behind damage, look for the next whole frame. */
export function scanFrames(data: Uint8Array): Scan {
  const frames: Framed[] = [];
  const gaps: [number, number][] = [];
  for (let at = 0; at < data.length; ) {
    const start = at;
    let found = readFrame(data, at);
    while (!found && at < data.length) {
      // To the next byte that could begin a text, less the head before it.
      const mark = data.indexOf(MARK[0] as number, at + HEAD_BYTES + 1);
      at = mark < 0 ? data.length : mark - HEAD_BYTES;
      found = readFrame(data, at);
    }
    if (at > start) gaps.push([start, at]);
    if (found) {
      frames.push(found);
      at += found.length;
    }
  }
  return { frames, gaps };
}

// --- ids, names and times ------------------------------------------------------------------

/** Write a number as an id. */
export function idOf(number: bigint): string {
  return number.toString(16).padStart(16, '0');
}

/** Name the log file whose first id is `first`. */
export function logName(first: bigint): string {
  return `outbox-${idOf(first)}.log`;
}

/** Read the first id from a log file's name, or give undefined for any other name. */
export function firstIdOf(name: string): bigint | undefined {
  const id = /^outbox-([0-9a-f]{16})\.log$/.exec(name)?.[1];
  return id === undefined ? id : BigInt(`0x${id}`);
}

/** Give the id after one; nothing comes after the last. */
export function idAfter(id: bigint): bigint {
  return id < LAST_ID ? id + 1n : id;
}

/** Read the record's `sent_at` as Unix milliseconds; the greatest age counts from it. */
export function sentAtMs(sentAt: string): number {
  const SECONDS = 19;
  const fraction = sentAt.slice(SECONDS + 1, -1);
  return calendarMs(sentAt.slice(0, SECONDS)) + +fraction.padEnd(3, '0').slice(0, 3);
}

// --- recovery ------------------------------------------------------------------------------

/** What files hold: what is live, what is dead and what is damaged. */
export interface Recovered {
  /** Oldest first. */
  readonly logs: readonly string[];
  readonly entries: Map<string, Entry>;
  readonly dead: Map<string, Place>;
  /** Of each file, after the cut. */
  readonly sizes: Map<string, number>;
  /** Files with a torn tail. */
  readonly cuts: Set<string>;
  /** Files with any other damage. */
  readonly corrupt: Set<string>;
  readonly unreadable: number;
  readonly nextId: bigint;
}

/** Fold the files of a directory, oldest first (spec/formats.md 11.5-11.9). */
export function recoverFiles(
  names: readonly string[],
  read: (name: string) => Uint8Array,
): Recovered {
  const logs = names.filter((name) => firstIdOf(name) !== undefined).sort();
  const entries = new Map<string, Entry>();
  const dead = new Map<string, Place>();
  const sizes = new Map<string, number>();
  const cuts = new Set<string>();
  const corrupt = new Set<string>();
  let unreadable = 0;
  let nextId = 1n;
  const see = (id: bigint): void => {
    if (id > nextId) nextId = id;
  };
  const damaged = (name: string, frames: number): void => {
    unreadable += frames;
    corrupt.add(name);
  };
  const framesOf = (name: string, mayBeTorn: boolean): readonly Framed[] => {
    const data = read(name);
    const { frames, gaps } = scanFrames(data);
    const [[start, end] = []] = gaps;
    const isTorn = mayBeTorn && gaps.length === 1 && end === data.length;
    sizes.set(name, isTorn ? (start as number) : data.length);
    if (isTorn) cuts.add(name);
    else if (gaps.length) damaged(name, gaps.length);
    for (const { value } of frames) see(idAfter(BigInt(`0x${value.id}`)));
    return frames;
  };
  for (const name of logs) {
    see(firstIdOf(name) as bigint);
    for (const framed of framesOf(name, name === logs.at(-1))) {
      const { t, id } = framed.value as { t: string; id: string };
      const letter = readLetter(framed.value);
      const older = entries.get(id);
      // A copy leaves the entry held.
      if (letter) entries.set(id, { ...entryOf(letter, name, framed), hold: older?.hold });
      else if (t === 'hold' && older) {
        entries.set(id, { ...older, hold: positionOf(framed.value.position) ?? older.hold });
      } else if (/ack|dead|release/.test(t)) entries.delete(id);
    }
  }
  if (names.includes(DEAD_LOG)) {
    for (const { value, offset, length } of framesOf(DEAD_LOG, true)) {
      const { t, id } = value as { t: string; id: string };
      if (t === 'release') dead.delete(id);
      else if (readDeadLetter(value)) dead.set(id, { offset, length });
      else damaged(DEAD_LOG, 1);
    }
  }
  for (const id of dead.keys()) entries.delete(id);
  return { logs, entries, dead, sizes, cuts, corrupt, unreadable, nextId };
}

/** Give the dead letters that a live entry replaced just before the crash. */
export function halfRequeued({ entries, dead }: Recovered): string[] {
  return [...entries.values()].flatMap(({ from }) => (from && dead.has(from) ? from : []));
}
