/** Several endpoints: where a call goes when one refuses, and when it returns. */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { jcs } from '../src/jcs.js';
import { outcomeBody } from '../src/testing.js';
import { record, withClient } from './clientParts.js';
import { recorded, refused, ScriptedServer, type Step } from './scriptedServer.js';
import { closedUrl } from './served.js';

test('a refusal moves to the next endpoint, which keeps the calls', async () => {
  const second = await ScriptedServer.start([recorded(200, { repeat: true })]);
  const first = await ScriptedServer.start([refused(503, 'unavailable')]);
  await withClient([first.url, second.url], {}, async (client) => {
    assert.equal((await client.submit(record(1))).raw.attempts, 2);
    assert.equal((await client.submit(record(2))).raw.attempts, 1);
  });
  assert.deepEqual([first.seen.length, second.seen.length], [1, 2]);
  assert.equal(first.seen[0]?.body, second.seen[0]?.body);
  await Promise.all([first.stop(), second.stop()]);
});

test('nobody at the first endpoint', async () => {
  const server = await ScriptedServer.start([recorded()]);
  await withClient([await closedUrl(), server.url], {}, async (client) => {
    assert.equal((await client.submit(record())).raw.attempts, 2);
  });
  await server.stop();
});

test('an endpoint that is up again is found by probes and gone back to', async () => {
  const healthy: Step = {
    body: (seen) => (seen.path === '/health' ? jcs({}) : outcomeBody(JSON.parse(seen.body).pcs_id)),
    repeat: true,
  };
  const first = await ScriptedServer.start([refused(503, 'unavailable'), healthy]);
  const second = await ScriptedServer.start([recorded(200, { repeat: true })]);
  const failover = { downAfter: 1, failbackAfterMs: 60_000 };
  await withClient([first.url, second.url], { failover }, async (client, clock) => {
    await client.submit(record(1));
    for (let number = 2; number < 20; number++) {
      clock.advance(15_000);
      const probes = first.seen.length;
      await client.submit(record(number));
      if (number <= 4) await first.arrived(probes + 1);
    }
  });
  assert.ok(first.seen.filter(({ path }) => path === '/health').length >= 2);
  assert.ok(first.seen.slice(1).some(({ path }) => path === '/v1/pcs/submit'));
  await Promise.all([first.stop(), second.stop()]);
});
