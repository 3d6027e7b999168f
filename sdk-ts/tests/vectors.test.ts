/**
 * Run every published vector of the pure core through every public entry that can reach it.
 *
 * Operations of a client and of an outbox are played by tests of their own, those of a server by
 * a server's. An operation that is none of these fails, and so does a suite without cases.
 */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isFractalLBAError } from '../src/errors.js';
import { ENTRIES as EXCHANGE } from './vectorExchange.js';
import { type Case, type Entry, type Suite, suites } from './vectorFiles.js';
import { ENTRIES as RING } from './vectorRing.js';
import { ENTRIES as SIGNING } from './vectorSigning.js';

const ENTRIES: Readonly<Record<string, readonly Entry[]>> = { ...SIGNING, ...EXCHANGE, ...RING };
const ELSEWHERE = /^(client\.|log\.|outbox\.|http\.(submit|batch)$|checksum\.)/;

/** What this SDK chose where the specification leaves a choice. */
const POLICIES: Readonly<Record<string, string>> = {
  'verify.off_grid': 'accept',
  'hmac.short_key': 'reject',
  'ed25519.small_order_key': 'reject',
  'ed25519.equation': 'cofactorless',
};

function expected({ result, expect, flags }: Case, suite: Suite): unknown {
  if (result !== 'acceptable') return expect;
  const [axis] = flags.flatMap((flag) => suite.flags[flag]?.axis ?? []);
  return expect[POLICIES[`${axis}`] as string];
}

async function answer(entry: Entry, { args }: Case): Promise<unknown> {
  try {
    return await entry(args);
  } catch (error) {
    if (isFractalLBAError(error)) return { code: error.code };
    throw error;
  }
}

for (const suite of suites()) {
  if (ELSEWHERE.test(suite.op)) continue;
  test(`${suite.name} gives what it says through every entry`, async () => {
    const entries = ENTRIES[suite.op];
    assert(entries, `no entry for the operation ${suite.op}`);
    assert(suite.cases.length > 0);
    for (const entry of entries) {
      for (const one of suite.cases) {
        assert.deepEqual(await answer(entry, one), expected(one, suite), one.id);
      }
    }
  });
}
