/**
 * A page that signs with keys it cannot read, submits, and shows what came of it.
 *
 * `test_page.py` bundles it, serves it, and reads what it shows.
 */

import {
  Ed25519Signer,
  FractalLBAClient,
  HmacSigner,
  isFractalLBAError,
  pcsRecord,
} from '@fractal-lba/client';

const bytes = (digits) => Uint8Array.from(digits.match(/../g), (byte) => Number.parseInt(byte, 16));

function makeRecord(epoch) {
  return pcsRecord({
    shard_id: 'page',
    epoch,
    sent_at: `${new Date().toISOString().slice(0, 19)}Z`,
    merkle_root: '3f'.repeat(32),
    scales: [2, 4, 8],
    N_j: { 2: 2, 4: 4, 8: 8 },
    D_hat: 1,
    coh_star: 0.5,
    v_star: [1],
    r: 0.5,
    regime: 'mixed',
    budget: 0.35,
  });
}

/** Import both keys so that no script of the page can read them again. */
async function signers({ hmac, seed }) {
  const { subtle } = crypto;
  const mac = { name: 'HMAC', hash: 'SHA-256' };
  const prefix = bytes('302e020100300506032b657004220420');
  const keys = {
    hmac: await subtle.importKey('raw', bytes(hmac), mac, false, ['sign']),
    ed25519: await subtle.importKey(
      'pkcs8',
      Uint8Array.of(...prefix, ...bytes(seed)),
      'Ed25519',
      false,
      ['sign'],
    ),
  };
  return {
    keys,
    signers: {
      hmac: new HmacSigner(keys.hmac, { kid: 'page-hmac' }),
      ed25519: new Ed25519Signer(keys.ed25519, { kid: 'page-ed25519' }),
    },
  };
}

async function submit(config, signer, epoch) {
  const { endpoint: endpoints, tenant } = config;
  const client = new FractalLBAClient({ endpoints, signer, tenant });
  const record = makeRecord(epoch);
  const first = await client.submit(record);
  const again = await client.submit(record);
  const [health] = await client.health();
  await client.close();
  return {
    pcsId: first.outcome.pcsId,
    accepted: first.outcome.accepted,
    replayed: [first.replayed, again.replayed],
    same: `${again.raw.body}` === `${first.raw.body}`,
    position: first.position,
    level: first.level,
    hasRequestId: first.raw.requestId !== undefined,
    healthy: health.ok,
  };
}

/** Submit where this origin is not allowed: a page is told of a lost connection, and no more. */
async function refused(config, signer) {
  const { stranger: endpoints, tenant } = config;
  const client = new FractalLBAClient({ endpoints, signer, tenant, retry: 'none' });
  try {
    await client.submit(makeRecord(99));
    return 'submitted';
  } catch (error) {
    return isFractalLBAError(error) ? error.code : `${error}`;
  } finally {
    await client.close();
  }
}

async function run() {
  const config = await (await fetch('/config.json')).json();
  const made = await signers(config);
  const outcome = {
    secure: globalThis.isSecureContext,
    extractable: Object.values(made.keys).map((key) => key.extractable),
    hmac: await submit(config, made.signers.hmac, 1),
    ed25519: await submit(config, made.signers.ed25519, 2),
    stranger: await refused(config, made.signers.hmac),
  };
  return JSON.stringify(outcome, null, 1);
}

const place = document.getElementById('outcome');
place.textContent = await run().catch((error) => `failed: ${error}`);
await fetch('/shown', { method: 'POST', body: document.documentElement.outerHTML });
