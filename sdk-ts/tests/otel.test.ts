/** Spans and metrics, over the shape of `@opentelemetry/api` that is used. */

import assert from 'node:assert/strict';
import { AsyncLocalStorage } from 'node:async_hooks';
import { test } from 'node:test';
import { FractalLBAClient } from '../src/index.js';
import { type OpenTelemetryApi, telemetry } from '../src/otel.js';
import { FakeClock, outcomeBody, ScriptedTransport, type Step } from '../src/testing.js';
import { fails, options, record } from './clientParts.js';

interface Span {
  readonly name: string;
  readonly kind: number | undefined;
  readonly parent: Span | undefined;
  readonly attributes: Record<string, unknown>;
  status?: number;
  isEnded: boolean;
}

/** Keep spans and measurements, with the context of the asynchronous flow. */
class Kept implements OpenTelemetryApi {
  readonly spans: Span[] = [];
  readonly measured: [name: string, value: number, attributes: object | undefined][] = [];
  readonly #flow = new AsyncLocalStorage<Span | undefined>();
  readonly #gauges = new Map<string, (result: { observe(x: number): void }) => void>();

  readonly trace = {
    getTracer: () => ({
      startSpan: (name: string, given: object, parent: unknown) => {
        const { kind, attributes } = given as { kind?: number; attributes?: object };
        const span: Span = {
          name,
          kind,
          parent: parent as Span | undefined,
          attributes: { ...attributes },
          isEnded: false,
        };
        this.spans.push(span);
        return Object.assign(span, {
          setAttributes: (more: object) => Object.assign(span.attributes, more),
          setStatus: ({ code }: { code: number }) => {
            span.status = code;
          },
          end: () => {
            span.isEnded = true;
          },
        });
      },
    }),
    setSpan: (_: unknown, span: unknown) => span,
  };

  readonly context = {
    active: () => this.#flow.getStore(),
    with: <T>(context: unknown, run: () => T): T => this.#flow.run(context as Span, run),
  };

  readonly propagation = {
    inject: (context: unknown, carrier: Record<string, string>) => {
      carrier.traceparent = `00-${this.spans.indexOf(context as Span)}`;
      carrier.baggage = 'not=ours';
    },
  };

  readonly metrics = {
    getMeter: () => {
      const note = (name: string) => (value: number, on?: object) =>
        this.measured.push([name, value, on]);
      return {
        createHistogram: (name: string) => ({ record: note(name) }),
        createCounter: (name: string) => ({ add: note(name) }),
        createObservableGauge: (name: string) => ({
          addCallback: (callback: (result: { observe(x: number): void }) => void) =>
            this.#gauges.set(name, callback),
          removeCallback: () => this.#gauges.delete(name),
        }),
      };
    },
  };

  collect(): [string, number][] {
    const found: [string, number][] = [];
    for (const [name, callback] of this.#gauges) {
      callback({ observe: (value) => found.push([name, value]) });
    }
    return found;
  }
}

/** Run a test with a traced client that plays the script. */
async function traced(
  script: readonly Step[],
  body: (client: FractalLBAClient, api: Kept, played: ScriptedTransport) => Promise<void>,
): Promise<void> {
  const api = new Kept();
  const clock = new FakeClock();
  const played = new ScriptedTransport(script, clock);
  const { hooks, transport, traced: trace } = telemetry(api);
  const endpoints = ['https://a.example:8443', 'https://b.example'];
  const changes = { clock, hooks, transport: transport(played.send) };
  const client = trace(new FractalLBAClient(options(endpoints, changes)));
  await body(client, api, played);
  await client.close();
  assert.ok(api.spans.every(({ isEnded }) => isEnded));
}

const OK: Step = { status: 200, body: outcomeBody(record().pcs_id) };

test('a call is a span, and each attempt a CLIENT span below it', () =>
  traced([{ status: 503, delayMs: 30 }, OK], async (client, { spans }, { requests }) => {
    await client.submit(record());
    const [call, first, second] = spans;
    assert.deepEqual(
      [call?.name, call?.kind, call?.parent],
      ['fractal_lba.submit', undefined, undefined],
    );
    assert.deepEqual([first?.parent, second?.parent], [call, call]);
    assert.deepEqual(
      [first, second].map((span) => [span?.name, span?.kind, span?.status, span?.attributes]),
      [
        [
          'POST',
          2,
          2,
          {
            'server.address': 'a.example',
            'server.port': 8443,
            'http.request.method': 'POST',
            'http.response.status_code': 503,
            'error.type': '503',
          },
        ],
        [
          'POST',
          2,
          undefined,
          {
            'server.address': 'b.example',
            'http.request.method': 'POST',
            'http.request.resend_count': 1,
            'http.response.status_code': 200,
          },
        ],
      ],
    );
    const headers = requests.map((request) => new Map(request.headers));
    assert.deepEqual(
      headers.map((each) => [each.get('traceparent'), each.get('baggage')]),
      [
        ['00-1', undefined],
        ['00-2', undefined],
      ],
    );
  }));

test('a call that fails is marked with its code alone', () =>
  traced([{ code: 'tls_failed' }, { status: 404 }], async (client, { spans }) => {
    await fails(client.submit(record()));
    await fails(client.get(record().pcs_id));
    assert.deepEqual(
      spans.map(({ name, attributes, status }) => [name, attributes['error.type'], status]),
      [
        ['fractal_lba.submit', 'tls_failed', 2],
        ['POST', 'tls_failed', 2],
        ['fractal_lba.get', 'not_found', 2],
        ['GET', '404', 2],
      ],
    );
  }));

test('what is foreign is named _OTHER', () =>
  traced([], async (client, { spans }) => {
    await assert.rejects(client.submit(record()), RangeError);
    assert.deepEqual(
      spans.map(({ attributes }) => attributes['error.type']),
      ['_OTHER', '_OTHER'],
    );
  }));

test('metrics name neither an id nor a tenant', () =>
  traced([{ status: 503, delayMs: 30 }, OK], async (client, { measured }) => {
    await client.submit(record());
    const server = { 'server.address': 'b.example' };
    assert.deepEqual(measured, [
      [
        'http.client.request.duration',
        0.03,
        {
          'server.address': 'a.example',
          'server.port': 8443,
          'http.request.method': 'POST',
          'http.response.status_code': 503,
          'error.type': 'unavailable',
        },
      ],
      ['fractal_lba.client.retries', 1, { 'error.type': 'unavailable' }],
      ['fractal_lba.client.failovers', 1, server],
      [
        'http.client.request.duration',
        0,
        { ...server, 'http.request.method': 'POST', 'http.response.status_code': 200 },
      ],
    ]);
  }));

test('the other methods of a traced client are its own', () =>
  traced([{ status: 200 }, { status: 200 }, OK], async (client) => {
    assert.ok(client instanceof FractalLBAClient);
    assert.deepEqual(
      (await client.health()).map(({ ok }) => ok),
      [true, true],
    );
    for await (const { error } of client.submitMany([record()])) assert.equal(error, undefined);
  }));

test('an outbox is observed until that is ended', () => {
  const api = new Kept();
  const stats = { entries: 3, bytes: 10, oldestSentAtMs: Date.now() + 60_000 } as const;
  const rest = {
    inFlight: 0,
    held: 2,
    dead: 0,
    blocked: [],
    corruptFiles: [],
    unreadableFrames: 0,
  };
  const end = telemetry(api).observeOutbox({ stats: () => ({ ...stats, ...rest }) });
  assert.deepEqual(api.collect(), [
    ['fractal_lba.outbox.entries', 3],
    ['fractal_lba.outbox.held', 2],
    ['fractal_lba.outbox.bytes', 10],
    ['fractal_lba.outbox.age', 0],
  ]);
  end();
  assert.deepEqual(api.collect(), []);
});
