/** Which endpoint comes next, where vectors do not reach. */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  attempted,
  begun,
  type Fleet,
  fleetOf,
  hinted,
  nextFor,
  nextProbeMs,
  normalUrl,
  probed,
  probesDue,
  stateName,
} from '../src/endpoints.js';
import type { Result } from '../src/retry.js';
import { below, chance, oneOf } from './chance.js';

const [A, B, C] = ['https://a.example', 'https://b.example', 'https://c.example'] as const;
const CONFIG = { code: 'config_invalid', name: 'ConfigError' };

test('a URL has one form', () => {
  const forms: readonly (readonly [string, string])[] = [
    ['https://a.example', A],
    ['https://a.example/', A],
    ['HTTPS://A.Example:443//', A],
    ['https://a.example:0443', A],
    ['https://a.example:', A],
    ['https://a.example:8443/x/y/', 'https://a.example:8443/x/y'],
    ['http://localhost:80', 'http://localhost'],
    ['http://127.0.0.1:8080', 'http://127.0.0.1:8080'],
    ['http://[::1]:8080', 'http://[::1]:8080'],
    ['https://[2001:DB8::1]', 'https://[2001:db8::1]'],
  ];
  for (const [given, form] of forms) assert.equal(normalUrl(given), form);
});

test('a URL that a record must not go to is refused, and a password in it not shown', () => {
  // biome-ignore format: a table
  const bad = [
    '', 'a.example', 'ftp://a.example', 'http://a.example', 'http://127.1', 'http://localhost.example',
    'https://', 'https://:80', 'https://u:hidden@a.example', 'https://a.example?x=1',
    'https://a.example#x', 'https://a.example\\@b', 'https://a.example:65536',
    'https://a.example:x',
    'https://a example', 'https://é.example', ' https://a.example', 'https://a.example\n',
    'https://[::1',
    'https://a.example/?', 'https://a.example/#',
    'https://eu^example',
    'https://[1:2]',
    'https://127.0.0.256',
  ];
  for (const url of bad) {
    assert.throws(
      () => normalUrl(url),
      (error: Error & { code: string }) => {
        assert.equal(error.code, 'config_invalid', url);
        return !error.message.includes('hidden');
      },
    );
  }
});

test('options that no fleet has are refused', () => {
  assert.throws(() => fleetOf([]), CONFIG);
  assert.throws(() => fleetOf([A, `${A}/`]), CONFIG);
  assert.throws(() => fleetOf({ url: A, region: 'EU' }), CONFIG);
  assert.throws(() => fleetOf([A, B], { allowedRegions: ['eu1'] }), CONFIG);
  const text = { allowedRegions: 'eu1' as unknown as string[] };
  assert.throws(() => fleetOf([{ url: A, region: 'eu' }], text), CONFIG);
  const undefinedOption = { downAfter: undefined } as unknown as { downAfter: number };
  assert.equal(fleetOf(A, undefinedOption).policy.downAfter, 3);
  for (const bad of [
    { downAfter: 0 },
    { upAfter: 0 },
    { probeIntervalMs: 0 },
    { redirectHops: -1 },
  ]) {
    assert.throws(() => fleetOf(A, bad), CONFIG);
  }
  assert.throws(() => fleetOf(A, { failbackAfterMs: -1 }), CONFIG);
  assert.equal(fleetOf(A, { failbackAfterMs: null }).policy.failbackAfterMs, null);
  assert.equal(fleetOf(A, { failbackAfterMs: 0, redirectHops: 0 }).current, 0);
  assert.equal(
    fleetOf(
      [
        { url: A, region: 'us1' },
        { url: B, region: 'eu1' },
      ],
      { allowedRegions: ['eu1'] },
    ).current,
    1,
  );
});

test('an event leaves the fleet before it as it was', () => {
  const before = fleetOf([A, B]);
  const kept = JSON.stringify(before);
  attempted(before, 0, { code: 'connect_failed' }, 0, 0.5);
  probed(before, 1, false, 0, 0.5);
  hinted(before, B, 1, 0, 0, 0.5);
  assert.equal(JSON.stringify(before), kept);
});

test('whatever happens, the current endpoint is one that may be used', () => {
  const random = chance(11);
  // biome-ignore format: a table
  const results: readonly Result[] = [
    { status: 200 }, { status: 429, retryAfterMs: 4000 }, { status: 503 }, { status: 500 },
    { status: 503, retryAfterMs: 9000 }, { code: 'connect_failed' }, { code: 'tls_failed' },
    { code: 'connection_lost' }, { code: 'attempt_timeout', sent: false }, { code: 'cancelled' },
    { status: 404 },
  ];
  for (let round = 0; round < 200; round++) {
    const regions = ['eu1', 'us1', 'eu1'];
    const endpoints = [A, B, C].map((url, index) => ({ url, region: regions[index] }));
    let fleet: Fleet = fleetOf(endpoints, { allowedRegions: [oneOf(random, ['eu1', 'us1'])] });
    let nowMs = 0;
    for (let step = 0; step < 60; step++) {
      nowMs += below(random, 20_000);
      const kind = random();
      const index = oneOf(random, fleet.eligible);
      if (kind < 0.3) fleet = begun(fleet, nowMs, random());
      else if (kind < 0.7) {
        const result = oneOf(random, results);
        fleet = attempted(fleet, fleet.current, result, nowMs, random());
        assert(fleet.eligible.includes(nextFor(fleet, index, result)));
      } else if (kind < 0.9) fleet = probed(fleet, index, random() < 0.5, nowMs, random());
      else fleet = hinted(fleet, oneOf(random, [A, B, C]), step, 0, nowMs, random()) ?? fleet;
      assert(fleet.eligible.includes(fleet.current));
      const due = nextProbeMs(fleet);
      assert.equal(probesDue(fleet, nowMs).length > 0, due !== undefined && due <= nowMs);
      for (const { down, probeAtMs } of fleet.states) assert(!down || probeAtMs !== undefined);
    }
  }
});

test('an ambiguous result does not follow another call elsewhere', () => {
  const moved = attempted(fleetOf([A, B]), 0, { status: 503 }, 0, 0.5);
  assert.equal(moved.current, 1);
  assert.equal(nextFor(moved, 0, { status: 500 }), 0);
  assert.equal(nextFor(moved, 0, { status: 503 }), 1);
});

test('a hint leads only to an endpoint that the caller named', () => {
  const fleet = fleetOf([A, B]);
  assert.equal(hinted(fleet, B, 1, 0, 0, 0.5)?.current, 1);
  for (const url of [C, 'not a url', 'https://b.example.example', 'http://b.example']) {
    assert.equal(hinted(fleet, url, 1, 0, 0, 0.5), undefined, url);
  }
  assert.equal(hinted(fleet, B, 1, 3, 0, 0.5), undefined);
  const later = hinted(fleet, B, 5, 0, 0, 0.5) ?? assert.fail();
  assert.equal(hinted(later, A, 4, 0, 0, 0.5), undefined);
  assert.equal(stateName(later.states[0] ?? assert.fail()), 'up');
});
