/** The outbox's format: frames, recovery, space, and the vectors of both. */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  crc32,
  DEAD_LOG,
  type DeadLetter,
  deadFrame,
  encodeFrame,
  type Framed,
  firstIdOf,
  halfRequeued,
  idOf,
  LAST_ID,
  type Letter,
  logName,
  putFrame,
  type Recovered,
  readDeadLetter,
  readFrame,
  readLetter,
  recoverFiles,
  scanFrames,
  sentAtMs,
} from '../src/outbox.js';
import { Schedule } from '../src/schedule.js';
import { Space } from '../src/space.js';
import { below, chance, drawText, oneOf } from './chance.js';
import { bytesOf, idNo, logNo, NOW_MS } from './outboxParts.js';
import { suite } from './vectorFiles.js';
import { recoverAnswer, stepAnswer } from './vectorOutbox.js';

const LETTER: Letter = {
  id: idNo(1),
  pcsId: 'a'.repeat(64),
  key: 'b'.repeat(64),
  kid: 'k1',
  tenant: 'acme',
  atMs: NOW_MS,
  body: bytesOf('{"a":"\\u0000 \u00e9 \u2028"}'),
  from: undefined,
};
const MAX_FRAME_BYTES = 2 ** 20;

function framed(text: string | Uint8Array): Uint8Array {
  const bytes = typeof text === 'string' ? bytesOf(text) : text;
  const data = new Uint8Array(8 + bytes.length);
  const head = new DataView(data.buffer);
  head.setUint32(0, bytes.length);
  head.setUint32(4, crc32(bytes));
  data.set(bytes, 8);
  return data;
}

const put = (number: number, changes: Partial<Letter> = {}): Uint8Array =>
  encodeFrame(putFrame({ ...LETTER, id: idNo(number), ...changes }));

const mark = (t: string, number: number): Uint8Array => encodeFrame({ t, id: idNo(number) });

function deadLetter(number: number): DeadLetter {
  const id = idNo(number);
  return { id, letter: { ...LETTER, id }, status: 409, code: 'c', reason: 'r', response: 'x' };
}

const dead = (number: number): Uint8Array => encodeFrame(deadFrame(deadLetter(number)));

const join = (...parts: Uint8Array[]): Uint8Array =>
  new Uint8Array(parts.flatMap((part) => [...part]));

function recovered(logs: Uint8Array[], deadLog?: Uint8Array): Recovered {
  const files = new Map(logs.map((data, index) => [logNo(index + 1), data]));
  if (deadLog) files.set(DEAD_LOG, deadLog);
  return recoverFiles([...files.keys()], (name) => files.get(name) as Uint8Array);
}

const live = ({ entries }: Recovered): number[] =>
  [...entries.keys()].map((id) => Number.parseInt(id, 16)).sort((a, b) => a - b);

// --- frames ------------------------------------------------------------------------------------

test('a frame is length, checksum and JSON', () => {
  assert.equal(crc32(bytesOf('123456789')), 0xcbf43926);
  assert.deepEqual(
    encodeFrame({ t: 'ack', id: idNo(1), status: '200' }),
    framed('{"t":"ack","id":"0000000000000001","status":"200"}'),
  );
  assert.deepEqual(
    put(1),
    framed(
      `{"t":"put","id":"${LETTER.id}","pcs_id":"${LETTER.pcsId}","key":"${LETTER.key}",` +
        '"kid":"k1","tenant":"acme","at":1767225600000,"body":"{\\"a\\":\\"\\\\u0000 \u00e9 \u2028\\"}"}',
    ),
  );
});

test('letters and dead letters come back whole', () => {
  const random = chance(11);
  const maybe = (text: string): string | undefined => oneOf(random, [text, undefined]);
  for (let count = 0; count < 500; count++) {
    const id = idOf(BigInt(below(random, 2 ** 32)) << 32n);
    const letter: Letter = {
      id,
      pcsId: drawText(random),
      key: drawText(random),
      kid: maybe(drawText(random)),
      tenant: maybe(drawText(random)),
      atMs: below(random, 2 ** 53),
      body: bytesOf(`\ufeff${drawText(random)}`),
      from: maybe(idNo(9)),
    };
    const { value } = readFrame(encodeFrame(putFrame(letter))) as Framed;
    assert.deepEqual(readLetter(value), letter);
    const status = oneOf(random, [409, undefined]);
    const [reason, response] = [drawText(random), drawText(random)];
    const ended: DeadLetter = { id, letter, status, code: 'c', reason, response };
    assert.deepEqual(
      readDeadLetter((readFrame(encodeFrame(deadFrame(ended))) as Framed).value),
      ended,
    );
  }
});

test('an unknown frame is damage', () => {
  const whole = new TextDecoder().decode(put(1).subarray(8));
  const id = '"id":"0000000000000001"';
  const texts = [
    ...['', '[]', '"put"', '{}', '{"t":"put"}', `{"t":"other",${id}}`, '{"t":"ack"}'],
    ...['{"t":"ack","id":"1"}', '{"t":"ack","id":"000000000000000G"}', '{"t":"ack","id":1}'],
    ...[`{${id},"t":"ack"}`, ` {"t":"ack",${id}}`, `{ "t":"ack",${id}}`],
    ...[`{"t":"ack",${id},"x":1,"x":2}`, `{"t":"ack",${id}`, `{"t":"ack",${id}}}`],
    ...[`{"t":"ack",${id},"x":"\\ud800"}`, `{"t":"ack","id":["0000000000000001"]}`],
    whole.replace('"body":"', '"body":1,"x":"'),
    whole.replace('"at":1767225600000', '"at":"1"'),
    whole.replace('"at":1767225600000', '"at":1.0'),
    whole.replace('"at":1767225600000', '"at":true'),
    whole.replace(',"at":1767225600000', ''),
    whole.replace('"kid":"k1"', '"kid":7'),
    whole.replace('"kid":"k1"', '"kid":null'),
    whole.replace('"key"', '"yek"'),
    `{"t":"ack",${id},"x":"${'y'.repeat(MAX_FRAME_BYTES)}"}`,
  ];
  for (const text of texts) assert.equal(readFrame(framed(text)), undefined, text.slice(0, 90));
  const bytes = join(bytesOf(`{"t":"ack",${id},"x":"`), new Uint8Array([255]), bytesOf('"}'));
  assert.equal(readFrame(framed(bytes)), undefined);
  assert.deepEqual(scanFrames(new Uint8Array(4096)), { frames: [], gaps: [[0, 4096]] });
});

test('a dead frame without its members is no dead letter', () => {
  const whole = new TextDecoder().decode(dead(1).subarray(8));
  for (const text of [
    `{"t":"dead","id":"${idNo(1)}"}`,
    `{"t":"dead","id":"${idNo(1)}","put":{"t":"ack","id":"${idNo(1)}"}}`,
    whole.replace('"put":{"t":"put"', '"put":{"t":"ack"'),
    whole.replace('"put":{"t":"put"', '"put":{"t":["put"]'),
    whole.replace('"code":"c"', '"code":1'),
    whole.replace('"status":"409"', '"status":"4x9"'),
    whole.replace('"status":"409"', '"status":"+49"'),
    whole.replace('"status":"409"', '"status":"0409"'),
    whole.replace('"status":"409"', '"status":409'),
  ]) {
    const found = recovered([], join(framed(text), dead(3)));
    assert.deepEqual([[...found.dead.keys()], found.unreadable], [[idNo(3)], 1], text);
  }
});

test('every byte of any data is in a frame or in a gap', () => {
  const random = chance(5);
  for (let count = 0; count < 300; count++) {
    const parts = Array.from({ length: below(random, 5) }, () => {
      const part = oneOf(random, [
        put(1),
        mark('ack', 2),
        dead(3),
        bytesOf('{"t":"'),
        new Uint8Array(9),
      ]);
      const end = random() < 0.3 ? below(random, part.length + 1) : part.length;
      return part.slice(0, end).map((byte) => (random() < 0.002 ? byte ^ 1 : byte));
    });
    const data = join(...parts);
    const { frames, gaps } = scanFrames(data);
    const covered = [
      ...frames.map(({ offset, length }) => [offset, offset + length]),
      ...gaps.map(([start, end]) => [start, end]),
    ].sort(([a = 0], [b = 0]) => a - b);
    assert.equal(
      covered.reduce((at, [start, end]) => (start === at ? (end as number) : Number.NaN), 0),
      data.length,
    );
  }
});

// --- recovery ----------------------------------------------------------------------------------

test('what was put is live until it is acknowledged, dead or released', () => {
  const puts = [1, 2, 3, 4, 5, 6, 7].map((number) => put(number));
  const marks = [
    mark('ack', 1),
    mark('dead', 2),
    mark('release', 3),
    mark('sent', 4),
    mark('hold', 5),
  ];
  const found = recovered([join(...puts, ...marks)]);
  assert.deepEqual(live(found), [4, 5, 6, 7]);
  assert.deepEqual([found.nextId, found.cuts.size, found.corrupt.size], [8n, 0, 0]);
  assert.deepEqual(live(recovered([join(put(1), put(2)), mark('ack', 1)])), [2]);
  const moved = recovered([put(1), join(put(2), put(1))]).entries.get(idNo(1));
  assert.deepEqual([moved?.file, moved?.offset], [logNo(2), put(2).length]);
});

test('a torn tail is cut at every byte of the last frame', () => {
  const whole = join(put(1), put(2));
  const last = put(3);
  for (let length = 0; length < last.length; length++) {
    const found = recovered([join(whole, last.subarray(0, length))]);
    assert.deepEqual([live(found), found.corrupt.size], [[1, 2], 0]);
    assert.deepEqual([...found.cuts], length ? [logNo(1)] : []);
    assert.equal(found.sizes.get(logNo(1)), whole.length);
  }
  const older = recovered([join(put(1), put(2).subarray(0, 40)), put(3)]);
  assert.deepEqual([live(older), [...older.corrupt], older.unreadable], [[1, 3], [logNo(1)], 1]);
});

test('one wrong byte costs at most the frame it is in', () => {
  const size = put(1).length;
  const data = join(put(1), put(2), put(3), put(4), put(5));
  for (let place = 0; place < data.length; place++) {
    const wrong = data.map((byte, index) => (index === place ? byte ^ (1 + (place % 255)) : byte));
    const hit = Math.floor(place / size) + 1;
    const found = recovered([wrong]);
    assert.deepEqual(
      live(found),
      [1, 2, 3, 4, 5].filter((number) => number !== hit),
    );
    // Damage in the last frame cannot be told from a tail that was never finished.
    assert.deepEqual([found.cuts.size, found.corrupt.size], hit === 5 ? [1, 0] : [0, 1]);
  }
});

test('a body that looks like frames hides none', () => {
  const inner = bytesOf(new TextDecoder().decode(put(77)));
  const data = join(put(1, { body: inner }), put(2));
  assert.deepEqual(live(recovered([data])), [1, 2]);
  assert.deepEqual(live(recovered([data.subarray(1)])), [2]);
});

test('the next id is above every name and every id', () => {
  const found = recoverFiles([logNo(40), DEAD_LOG], (name) =>
    name === DEAD_LOG ? new Uint8Array() : new Uint8Array(),
  );
  assert.equal(found.nextId, 40n);
  assert.equal(recovered([], dead(99)).nextId, 100n);
  assert.equal(recovered([encodeFrame({ t: 'ack', id: idOf(LAST_ID) })]).nextId, LAST_ID);
});

test('a dead letter outweighs the log, and a release removes it', () => {
  const found = recovered([join(put(1), put(2))], dead(1));
  assert.deepEqual([live(found), [...found.dead.keys()]], [[2], [idNo(1)]]);
  assert.equal(recovered([], join(dead(1), mark('release', 1))).dead.size, 0);
  assert.deepEqual(halfRequeued(recovered([put(2, { from: idNo(1) })], dead(1))), [idNo(1)]);
  assert.deepEqual(halfRequeued(recovered([put(2)], dead(1))), []);
  const other = recovered([], join(put(1), mark('dead', 2)));
  assert.deepEqual([[...other.corrupt], other.unreadable], [[DEAD_LOG], 2]);
});

// --- names, times, space -----------------------------------------------------------------------

test('log names order like their ids', () => {
  const ids = [0n, 9n, 10n, 2n ** 40n, LAST_ID];
  const names = ids.map(logName);
  assert.deepEqual(names, [...names].sort());
  assert.deepEqual(names.map(firstIdOf), ids);
  for (const name of [
    ...['outbox-1.log', `${logNo(1)}.corrupt`, 'outbox.lock', DEAD_LOG, `x${logNo(1)}`],
    ...['outbox-000000000000000A.log', `${logNo(1)}\n`],
  ]) {
    assert.equal(firstIdOf(name), undefined, name);
  }
});

test('sent_at is read to the millisecond', () => {
  for (const [text, ms] of [
    ['2026-01-01T00:00:00Z', NOW_MS],
    ['2026-01-01T00:00:00.123456789Z', NOW_MS + 123],
    ['2026-01-01T00:00:00.001Z', NOW_MS + 1],
    ['1970-01-01T00:00:01.5Z', 1500],
  ] as const) {
    assert.equal(sentAtMs(text), ms);
  }
});

test('a file goes when nothing in it or before it is live', () => {
  const space = new Space(1000);
  for (const name of 'abc') space.start(name, 100);
  const [old, young] = [
    { ...LETTER, file: 'a', offset: 0, length: 50 },
    { ...LETTER, file: 'b', offset: 0, length: 60 },
  ] as const;
  space.hold(old);
  space.hold(young);
  space.free(young);
  assert.deepEqual([space.removable(), space.liveBytes], [[], 50]);
  space.free(old);
  assert.deepEqual(space.removable(), ['a', 'b']);
  space.forget('a');
  assert.deepEqual(space.removable(), ['b']);
});

test('the oldest file is carried when garbage outweighs what lives', () => {
  const space = new Space(10_000);
  space.start('a', 0);
  space.grow('a', 10_000);
  space.hold({ ...LETTER, file: 'a', offset: 0, length: 1000 });
  assert.deepEqual([space.toCarry(), space.isFull('a')], [undefined, true]);
  space.start('b', 12_000);
  assert.equal(space.toCarry(), undefined);
  space.grow('b', 1);
  assert.equal(space.toCarry(), 'a');
});

// --- vectors -----------------------------------------------------------------------------------

test('recovery vectors', (t) => {
  const { cases } = suite('outbox/recover.json');
  for (const { id, args, expect } of cases) assert.deepEqual(recoverAnswer(args), expect, id);
  t.diagnostic(`${cases.length} cases`);
});

test('step vectors', (t) => {
  const { cases } = suite('outbox/step.json');
  for (const { id, args, expect } of cases) {
    const schedule = new Schedule(Number(args.width_max));
    assert.deepEqual(stepAnswer(schedule, args.events, args.durability), expect, id);
  }
  t.diagnostic(`${cases.length} cases`);
});

test('checksum vectors', () => {
  for (const { id, args, expect } of suite('outbox/crc32.json').cases) {
    const value = crc32(Buffer.from(args.bytes, 'hex')).toString(16).padStart(8, '0');
    assert.deepEqual({ value }, expect, id);
  }
});
