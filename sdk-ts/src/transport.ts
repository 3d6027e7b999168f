/**
 * Carry requests by the `fetch` of the runtime.
 *
 * What `fetch` decides by itself: it pools connections, so ages and idle times of connections are
 * not in our hands; it has no connect phase, so the bound of the attempt covers connecting; it
 * adds headers of its own (`Accept-Encoding`, in Node `Accept-Language` and `Sec-Fetch-Mode`); it
 * joins fields of one name, so that they count once; and after a 421 it asks a second time on a
 * connection of its own, unless the body is a stream, as it is here where that keeps its length.
 *
 * How it reports failures differs, and is read as far as it tells:
 *
 *     Node     TypeError with a `cause` that has `code`: ECONNREFUSED, CERT_HAS_EXPIRED, ...
 *     Bun      an error with `code`, of the same names
 *     Deno     a text: "client error (Connect): ..." before, "(SendRequest)" after connecting
 *     browsers "Failed to fetch" for everything
 *
 * What is not told apart is `connection_lost`, which is always safe: bytes may have been sent, and
 * the same bytes are sent again to the same endpoint. A connection that a server closed while it
 * was idle is such a case, and in a browser also a host that is not there.
 */

import { MAX_TIMER_MS } from './clock.js';
import { errorFor } from './codes.js';
import type { FractalLBAError } from './errors.js';
import type { RawResponse, Request } from './http.js';
import { MAX_RESPONSE_BYTES, MAX_RESPONSE_HEADERS } from './response.js';

/** How one attempt is bounded. */
export interface AttemptOptions {
  /** How long connecting may take, for a transport that knows. */
  readonly connectTimeoutMs: number;
  readonly attemptTimeoutMs: number;
  /** Aborts if the caller cancels or the client is closed. */
  readonly signal: AbortSignal;
}

/**
 * Carry one request to a server and give back what came.
 *
 * It throws errors of this package (`transportError`) with one of the codes `connect_failed`
 * `tls_failed` `connection_lost` `attempt_timeout` `response_too_large`, and `cancelled` once the
 * signal aborts. `connect_failed` says that no byte of the request was sent. It neither retries
 * nor follows redirects.
 */
export type Transport = (request: Request, options: AttemptOptions) => Promise<RawResponse>;

/** What `fetchTransport` can be told. */
export interface FetchOptions {
  /** A `fetch` of your own: with a proxy, an own CA, a client certificate. */
  readonly fetch?: typeof fetch | undefined;
  readonly maxResponseBytes?: number | undefined;
  readonly maxResponseHeaders?: number | undefined;
}

/** Build the error of a transport. */
export function transportError(
  code:
    | 'connect_failed'
    | 'tls_failed'
    | 'connection_lost'
    | 'attempt_timeout'
    | 'response_too_large'
    | 'cancelled',
  what: string,
  cause?: unknown,
): FractalLBAError {
  return errorFor(code, what, { cause });
}

/** Build the error of a call that was cancelled. */
export function cancelled(): FractalLBAError {
  return transportError('cancelled', 'the caller cancelled, or closed the client');
}

/** Give the transport over `fetch`. */
export function fetchTransport(options: FetchOptions = {}): Transport {
  const { maxResponseBytes = MAX_RESPONSE_BYTES, maxResponseHeaders = MAX_RESPONSE_HEADERS } =
    options;
  return async (request, { attemptTimeoutMs, signal }) => {
    if (signal.aborted) throw cancelled();
    const attempt = new AbortController();
    const stop = (): void => attempt.abort();
    const timer = setTimeout(stop, Math.min(attemptTimeoutMs, MAX_TIMER_MS));
    signal.addEventListener('abort', stop);
    try {
      const response = await (options.fetch ?? fetch)(request.url, {
        method: request.method,
        ...sent(request, options.fetch ? false : isUndici()),
        redirect: 'manual',
        signal: attempt.signal,
        // A page has cookies and a cache; elsewhere the options would only add headers.
        ...(isPage() && { credentials: 'omit', cache: 'no-store' }),
      });
      const headers = [...response.headers].flatMap(parted);
      const isTooMany = headers.length > maxResponseHeaders;
      const body = await read(response, isTooMany ? 0 : maxResponseBytes + 1);
      return { status: response.status, headers, body };
    } catch (error) {
      if (signal.aborted) throw cancelled();
      if (attempt.signal.aborted) {
        throw transportError('attempt_timeout', 'the attempt took too long');
      }
      throw failure(error);
    } finally {
      clearTimeout(timer);
      signal.removeEventListener('abort', stop);
    }
  };
}

/** Give headers and body as this runtime takes them. */
function sent({ headers, body }: Request, asStream: boolean): RequestInit & { duplex?: 'half' } {
  // A page may not choose its User-Agent; where it could, a preflight would refuse it.
  const fields = headers.filter(([name]) => !isPage() || name !== 'User-Agent');
  const given = fields.map(([name, value]): [string, string] => [name, value]);
  if (!body) return { headers: given };
  if (!asStream) return { headers: given, body: body as Uint8Array<ArrayBuffer> };
  // Only a stream has no second life: after a 421 `fetch` would send other bodies again.
  const stream = new ReadableStream({
    start(controller) {
      controller.enqueue(body);
      controller.close();
    },
  });
  given.push(['Content-Length', `${body.length}`]);
  return { headers: given, body: stream, duplex: 'half' };
}

/** Say whether this is a browser's page, or a worker of one. */
function isPage(): boolean {
  return 'document' in globalThis || 'importScripts' in globalThis;
}

/** Say whether `fetch` is that of Node, which sends a stream with the length that is given. */
function isUndici(): boolean {
  const { process } = globalThis as { process?: { versions?: { undici?: string } } };
  return !!process?.versions?.undici;
}

/** Part what `fetch` joined: of several Retry-After the largest counts (retry 26). */
function parted([name, value]: [string, string]): [string, string][] {
  if (name !== 'retry-after') return [[name, value]];
  return value.split(/, (?=[A-Z][a-z]+,? |[\d.-]+(?:,|$))/).map((each) => [name, each]);
}

/** Read at most so many bytes: what is over the limit is judged by the reader. */
async function read(response: Response, room: number): Promise<Uint8Array> {
  const chunks: Uint8Array[] = [];
  const reader = response.body?.getReader();
  let size = 0;
  while (reader && size < room) {
    const { done, value } = await reader.read();
    if (done) break;
    chunks.push(value);
    size += value.length;
  }
  // Not awaited: what it says about the rest of the body does not matter any more.
  if (size >= room) reader?.cancel().catch(() => {});
  const body = new Uint8Array(size);
  let at = 0;
  for (const chunk of chunks) {
    body.set(chunk, at);
    at += chunk.length;
  }
  return body.subarray(0, room);
}

interface Reported {
  readonly code?: unknown;
  readonly syscall?: string;
  readonly message?: string;
  readonly cause?: Reported;
  readonly errors?: readonly Reported[];
}

const TLS =
  /CERT|_CA$|_CRL|CHAIN|SIGNATURE|ISSUER|_PURPOSE|SSL|TLS|EPROTO|certificate|corrupt mess/;
const ADDRESS = /ECONNREFUSED|ENOTFOUND|EAI_|EHOST|ENET|EADDR|bad port|blocked/;
const CONNECTING = /CONNECT_TIME| connect$|before secure|\(Connect\)/;

/** Read a failure of `fetch`: the innermost code, or a text without its URL. */
function failure(error: unknown): FractalLBAError {
  let text = '';
  for (let each = error as Reported | undefined; each; each = each.cause ?? each.errors?.[0]) {
    const { code, syscall = '', message = '' } = each;
    text = typeof code === 'string' ? `${code} ${syscall}` : message.replace(/.*client error/, '');
    if (message.includes('before secure')) text = 'before secure';
  }
  if (/OVERFLOW|too large/.test(text)) {
    return transportError('response_too_large', 'the head of the response is too long');
  }
  // The text itself may hold a URL: it goes to the cause alone.
  if (TLS.test(text)) return transportError('tls_failed', 'no trusted connection', error);
  if (ADDRESS.test(text) || CONNECTING.test(text)) {
    return transportError('connect_failed', 'no connection', error);
  }
  return transportError('connection_lost', 'the connection broke', error);
}
