/**
 * The testee of the TypeScript SDK: reads requests, asks the SDK, writes answers.
 *
 * `signing`, `exchange` and `rings` hold one function per operation, `client` those with sockets,
 * `outbox` those with files; each takes `args` and gives `ok`. An error of the SDK is an answer,
 * anything else ends this program.
 */

import { arch, platform } from 'node:os';
import { createInterface } from 'node:readline';
import { isFractalLBAError } from './.build/errors.js';
import { VERSION } from './.build/http.js';
import * as client from './client.mjs';
import * as exchange from './exchange.mjs';
import * as outbox from './outbox.mjs';
import * as rings from './rings.mjs';
import * as signing from './signing.mjs';

const PROTOCOL = 1;
const NO_COMMON_PROTOCOL = 3;
const OPS = { ...signing.OPS, ...exchange.OPS, ...client.OPS, ...outbox.OPS, ...rings.OPS };

const greeting = {
  protocol: PROTOCOL,
  testee: {
    name: 'sdk-ts',
    version: VERSION,
    language: 'typescript',
    runtime: `node ${process.versions.node}`,
    os: `${platform()}/${arch()}`,
  },
  ops: Object.keys(OPS),
  levels: ['core', 'ed25519', 'client', 'outbox', 'ring'],
  policies: {
    'verify.off_grid': 'accept',
    'hmac.short_key': 'reject',
    'ed25519.small_order_key': 'reject',
    'ed25519.equation': 'cofactorless',
  },
  in_flight: 64,
};

const write = (message) => process.stdout.write(`${JSON.stringify(message)}\n`);

async function answer({ seq, op, args }) {
  if (!Object.hasOwn(OPS, op)) return { seq, skip: { reason: `${op} is not known here` } };
  try {
    return { seq, ok: await OPS[op](args) };
  } catch (error) {
    if (!isFractalLBAError(error)) throw error;
    return { seq, err: { code: error.code, message: error.message } };
  }
}

const open = new Set();
for await (const line of createInterface({ input: process.stdin })) {
  const message = JSON.parse(line);
  if (message.cmd === 'run') {
    const task = answer(message).then(write);
    open.add(task);
    task.finally(() => open.delete(task));
  } else if (message.cmd === 'hello' && message.protocol >= PROTOCOL) {
    write(greeting);
  } else {
    if (message.cmd === 'hello') process.exitCode = NO_COMMON_PROTOCOL;
    break;
  }
}
await Promise.all(open);
process.stdin.destroy();
