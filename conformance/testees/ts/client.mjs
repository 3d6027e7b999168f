/** Operations with real sockets and a fake clock. */

import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { inspect } from 'node:util';
import { FractalLBAClient } from './.build/client.js';
import { isFractalLBAError } from './.build/errors.js';
import { openOutbox } from './.build/outboxNode.js';
import { parse } from './.build/scanner.js';
import { Secret } from './.build/secret.js';
import { sign } from './.build/sign.js';
import { HmacSigner } from './.build/signers.js';
import { FakeClock } from './.build/testing.js';
import { optionsOf, outcomeAnswer, submittedAnswer } from './exchange.mjs';
import { bytes, double, hex } from './signing.mjs';

const FAILOVER = [
  'down_after',
  'up_after',
  'probe_interval_ms',
  'failback_after_ms',
  'allowed_regions',
  'redirect_hops',
];

/** Cancel as a wait begins, where a call asks for it. */
class CancellingClock extends FakeClock {
  cancel;

  wait(waitMs, signal) {
    this.cancel?.abort();
    return super.wait(waitMs, signal);
  }
}

function clientOptions({ max_attempts, durability, token, app, ...numbers }) {
  const failover = {};
  for (const name of FAILOVER) {
    if (name in numbers) failover[name] = numbers[name];
    delete numbers[name];
  }
  const retry = max_attempts === undefined ? {} : { maxAttempts: Number(max_attempts) };
  return { ...optionsOf(numbers), failover: optionsOf(failover), retry, durability, token, app };
}

/** One client, its clock and its signer; with an outbox its folder as well. */
async function made(args, more = {}) {
  const { endpoints, tenant, kid, key, sig_v, u, now_ms, options = {} } = args;
  const clock = new CancellingClock(Number(now_ms));
  const signer = new HmacSigner(bytes(key), { kid });
  const random = () => double(u);
  const shared = { endpoints, signer, tenant, sigVersion: Number(sig_v), clock, random };
  const { outbox: hasOutbox, ...others } = options;
  const all = { ...shared, ...clientOptions(others), ...more };
  const folder = hasOutbox === 'true' ? mkdtempSync(join(tmpdir(), 'flk-testee-')) : undefined;
  const caller = { clock, signer, folder, all };
  try {
    await opened(caller);
  } catch (error) {
    await ended(caller);
    throw error;
  }
  return caller;
}

/** Open the client of a caller, with its outbox if it has one. */
async function opened(caller) {
  const { folder, all } = caller;
  caller.box = folder && (await openOutbox(join(folder, 'outbox'), { background: false }));
  caller.client = new FractalLBAClient({ ...all, outbox: caller.box });
}

async function closed(caller) {
  await caller.client?.close();
  await caller.box?.close();
  caller.client = undefined;
}

async function ended(caller) {
  await closed(caller);
  if (caller.folder) rmSync(caller.folder, { recursive: true });
}

/** Flush the outbox, or close and open it again; count what it holds. */
async function kept(caller, call) {
  let stats;
  if (call.call === 'flush') stats = await caller.client.flush(Number(call.ms));
  else {
    await closed(caller);
    await opened(caller);
    stats = caller.box.stats();
  }
  const { entries, held, inFlight, dead } = stats;
  const counts = Object.entries({ entries, held, in_flight: inFlight, dead });
  return { stats: Object.fromEntries(counts.map(([name, count]) => [name, `${count}`])) };
}

const submitted = (result) => ({ ...submittedAnswer(result), attempts: `${result.raw.attempts}` });

function factsOf({ code, attempts, stop, status, retryAfterMs, requestId }) {
  const facts = { stop, status, retry_after_ms: retryAfterMs, request_id: requestId };
  const known = Object.entries(facts).filter(([, value]) => value !== undefined);
  const texts = known.map(([name, value]) => [name, `${value}`]);
  return { code, attempts: `${attempts}`, ...Object.fromEntries(texts) };
}

/** Make a call about one record. */
async function one({ client, clock }, call) {
  if (call.call === 'get') return { outcome: outcomeAnswer(await client.get(call.pcs_id)) };
  if (call.call === 'cancel') clock.cancel = new AbortController();
  const signal = clock.cancel?.signal;
  try {
    return submitted(await client.submit(parse(bytes(call.json)), { signal }));
  } finally {
    clock.cancel = undefined;
  }
}

async function many(client, { json, concurrency }) {
  const records = json.map((digits) => parse(bytes(digits)));
  const items = [];
  for await (const item of client.submitMany(records, { concurrency: Number(concurrency) })) {
    const index = `${item.index}`;
    if (item.error) items.push({ index, err: { code: item.error.code } });
    else {
      const { outcome, replayed, level } = submitted(item.result);
      items.push({ index, ok: { outcome, replayed, level } });
    }
  }
  return items;
}

async function answer(caller, call) {
  const { client, clock } = caller;
  if (call.call === 'advance') {
    clock.advance(Number(call.ms));
    return {};
  }
  if (call.call === 'submit_many') return { items: await many(client, call) };
  if (call.call === 'flush' || call.call === 'reopen') return kept(caller, call);
  const before = clock.waitsMs.length;
  const waited = () => `${clock.waitsMs.slice(before).reduce((sum, ms) => sum + ms, 0)}`;
  try {
    return { ok: await one(caller, call), waited_ms: waited() };
  } catch (error) {
    if (!isFractalLBAError(error)) throw error;
    return { err: factsOf(error), waited_ms: waited() };
  }
}

async function called(args) {
  const caller = await made(args);
  const calls = [];
  for (const call of args.calls) calls.push(await answer(caller, call));
  await ended(caller);
  return { calls };
}

/** Do what the scenario says; give what came back, or the error. */
async function met({ scenario, json, pcs_id, tenant, sig_v }, { client, signer }) {
  try {
    if (scenario === 'get') return await client.get(pcs_id);
    const record = parse(bytes(json));
    if (scenario === 'submit') return await client.submit(record);
    return await sign(record, signer, { tenant, sigVersion: Number(sig_v) });
  } catch (error) {
    if (!isFractalLBAError(error)) throw error;
    return error;
  }
}

async function captured(args) {
  const lines = [];
  const log = (line) => lines.push(line);
  const logger = { debug: log, info: log, warn: log, error: log };
  const caller = await made(args, { logger, token: args.token });
  const { client } = caller;
  const thing = await met(args, caller);
  await ended(caller);
  const things = [client, caller.signer, new Secret(bytes(args.key)), thing];
  const shown = things.flatMap((each) => [
    `${each}`,
    JSON.stringify(each),
    inspect(each, { depth: 9, maxStringLength: Number.POSITIVE_INFINITY }),
  ]);
  return { log: hex([...lines, ...shown].join('\n')) };
}

const CALLS = ['submit', 'submit_many', 'get', 'cancel', 'failover'];

export const OPS = {
  ...Object.fromEntries(CALLS.map((name) => [`client.${name}`, called])),
  'log.capture': captured,
};
