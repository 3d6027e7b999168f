/** Servers for tests of the client. */

import type { FractalLBAClient } from '../src/index.js';
import type { ClientOptions } from '../src/options.js';
import type { FakeClock } from '../src/testing.js';
import { withClient } from './clientParts.js';
import { ScriptedServer, type Step } from './scriptedServer.js';

/** Run a test with a server that plays the script, and a client of it. */
export async function against(
  script: Iterable<Step>,
  changes: Partial<ClientOptions>,
  body: (client: FractalLBAClient, server: ScriptedServer, clock: FakeClock) => Promise<void>,
): Promise<ScriptedServer> {
  const server = await ScriptedServer.start(script);
  try {
    await withClient(server.url, changes, (client, clock) => body(client, server, clock));
  } finally {
    await server.stop();
  }
  return server;
}

/** Give the URL of a port at which nobody listens. */
export async function closedUrl(): Promise<string> {
  const server = await ScriptedServer.start();
  const { url } = server;
  await server.stop();
  return url;
}
