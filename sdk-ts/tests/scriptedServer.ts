/**
 * A real HTTP server on loopback that plays a script: one step for each request it reads.
 *
 * Steps answer with any status, headers and body, wait for the test, cut the response anywhere,
 * reset the connection, trickle, or record the request and lose the reply. Everything that the
 * server saw is kept. It speaks raw sockets on purpose: what it sends may be no HTTP at all.
 */

import { once } from 'node:events';
import { type AddressInfo, createServer, type Server, type Socket } from 'node:net';
import { createServer as createTlsServer, type TlsOptions } from 'node:tls';
import { jcs } from '../src/jcs.js';
import { outcomeBody } from '../src/testing.js';

/** One request as it arrived. */
export interface Seen {
  readonly method: string;
  readonly path: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string;
  readonly connection: number;
}

/** What to do with a request. */
export interface Step {
  readonly status?: number;
  readonly headers?: readonly (readonly [string, string])[];
  readonly body?: Uint8Array | ((seen: Seen) => Uint8Array);
  /** Send only so many bytes of the response, and close. */
  readonly cut?: number;
  /** Close by a reset. */
  readonly reset?: boolean;
  /** Send one byte at a time. */
  readonly trickle?: boolean;
  /** Wait for this before anything is sent. */
  readonly hold?: Promise<unknown>;
  /** The bytes to send in place of a response. */
  readonly raw?: string;
  /** Use the step for every further request. */
  readonly repeat?: boolean;
}

const TRICKLE_MS = 1;

/** A promise that a test opens. */
export class Gate {
  readonly opened: Promise<void>;
  open: () => void = () => {};

  constructor() {
    this.opened = new Promise((resolve) => {
      this.open = resolve;
    });
  }
}

/** Answer a submit as the server does that recorded it. */
export function recorded(status = 200, step: Step & { readonly replayed?: boolean } = {}): Step {
  const verdict =
    status === 200 ? {} : { accepted: false, escalated: true, reason: 'n_j_implausible' };
  return {
    status,
    headers: [
      ['Idempotency-Replayed', `${!!step.replayed}`],
      ['PCS-Position', 'fra/open/1/7'],
      ['PCS-Level', 'durable'],
      ['X-Request-Id', 'req-1'],
    ],
    body: (seen) => outcomeBody(JSON.parse(seen.body).pcs_id, verdict),
    ...step,
  };
}

/** Answer with a problem document. */
export function refused(status: number, code: string, step: Step = {}): Step {
  return {
    status,
    body: jcs({ type: 'about:blank', title: code, status, code }),
    ...step,
    headers: [
      ['Content-Type', 'application/problem+json'],
      ['X-Request-Id', 'req-2'],
      ...(step.headers ?? []),
    ],
  };
}

/** Listen on a port of loopback and play the script. */
export class ScriptedServer {
  readonly seen: Seen[] = [];
  connections = 0;
  inFlight = 0;
  inFlightMax = 0;
  readonly faults: unknown[] = [];
  readonly #server: Server;
  readonly #scheme: string;
  readonly #sockets = new Set<Socket>();
  #script: Iterator<Step>;
  #last: Step | undefined;
  #arrivals: { count: number; done: () => void }[] = [];

  constructor(script: Iterable<Step>, tls?: TlsOptions) {
    this.#script = script[Symbol.iterator]();
    const serve = (socket: Socket): void => {
      this.#serve(socket, ++this.connections).catch((fault) => this.faults.push(fault));
    };
    this.#scheme = tls ? 'https' : 'http';
    this.#server = tls ? createTlsServer(tls, serve) : createServer(serve);
    this.#server.on('tlsClientError', () => {});
  }

  static async start(script: Iterable<Step> = [], tls?: TlsOptions): Promise<ScriptedServer> {
    const server = new ScriptedServer(script, tls);
    server.#server.listen(0, '127.0.0.1');
    await once(server.#server, 'listening');
    return server;
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port;
  }

  get url(): string {
    return `${this.#scheme}://127.0.0.1:${this.port}`;
  }

  /** Wait until so many requests have arrived in all. */
  async arrived(count = 1): Promise<void> {
    if (this.seen.length >= count) return;
    await new Promise<void>((done) => this.#arrivals.push({ count, done }));
  }

  /** Stop listening and end every connection; what went wrong here fails the test. */
  async stop(): Promise<void> {
    this.#server.close();
    for (const socket of this.#sockets) socket.destroy();
    if (this.faults.length) throw this.faults[0];
  }

  async #serve(socket: Socket, connection: number): Promise<void> {
    this.#sockets.add(socket);
    socket.on('close', () => this.#sockets.delete(socket));
    socket.on('error', () => {});
    let received = Buffer.alloc(0);
    let wake = (): void => {};
    socket.on('data', (chunk) => {
      received = Buffer.concat([received, chunk]);
      wake();
    });
    for (let isOpen = true; isOpen; ) {
      const request = readRequest(received);
      if (!request) {
        await new Promise<void>((resolve) => {
          wake = resolve;
          socket.once('close', resolve);
        });
        isOpen = !socket.destroyed;
        continue;
      }
      received = received.subarray(request.length);
      isOpen = await this.#play(socket, { ...request.seen, connection });
    }
  }

  /** Answer one request; say whether the connection goes on. */
  async #play(socket: Socket, seen: Seen): Promise<boolean> {
    this.seen.push(seen);
    this.inFlightMax = Math.max(this.inFlightMax, ++this.inFlight);
    if (!this.#last?.repeat) this.#last = this.#script.next().value;
    const step = this.#last;
    for (const { count, done } of this.#arrivals) if (this.seen.length >= count) done();
    if (!step) throw new RangeError(`the script ended before ${seen.method} ${seen.path}`);
    await step.hold;
    this.inFlight--;
    return answer(socket, step, seen);
  }
}

function readRequest(
  received: Buffer,
): { seen: Omit<Seen, 'connection'>; length: number } | undefined {
  const end = received.indexOf('\r\n\r\n');
  if (end < 0) return undefined;
  const [first = '', ...lines] = received.subarray(0, end).toString('latin1').split('\r\n');
  const fields = lines.map((line) => {
    const at = line.indexOf(': ');
    return [line.slice(0, at).toLowerCase(), line.slice(at + 2)] as const;
  });
  const headers: Record<string, string> = Object.fromEntries(fields);
  const length = end + 4 + Number(headers['content-length'] ?? 0);
  if (received.length < length) return undefined;
  const body = received.subarray(end + 4, length).toString();
  const [method = '', path = ''] = first.split(' ');
  return { seen: { method, path, headers, body }, length };
}

async function answer(socket: Socket, step: Step, seen: Seen): Promise<boolean> {
  const data = step.raw === undefined ? response(step, seen) : Buffer.from(step.raw, 'latin1');
  const part = data.subarray(0, step.cut);
  if (step.trickle) {
    for (const byte of part) {
      if (socket.destroyed) return false;
      socket.write(Uint8Array.of(byte));
      await new Promise((resolve) => setTimeout(resolve, TRICKLE_MS));
    }
  } else if (part.length) {
    await new Promise((resolve) => socket.write(part, resolve));
  }
  if (step.reset) socket.resetAndDestroy();
  else if (step.cut === undefined && step.raw === undefined) return !socket.destroyed;
  else socket.end();
  return false;
}

function response(step: Step, seen: Seen): Buffer {
  const { status = 200, headers = [] } = step;
  const body = typeof step.body === 'function' ? step.body(seen) : (step.body ?? new Uint8Array());
  const fields = [['Content-Length', `${body.length}`], ...headers];
  const lines = fields.map(([name, value]) => `${name}: ${value}\r\n`).join('');
  return Buffer.concat([
    Buffer.from(`HTTP/1.1 ${status} Scripted\r\n${lines}\r\n`, 'latin1'),
    body,
  ]);
}
