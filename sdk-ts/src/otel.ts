/**
 * Give traces and metrics to OpenTelemetry: the entry `./otel`.
 *
 *     import * as api from '@opentelemetry/api';
 *     import { fetchTransport, FractalLBAClient } from '@fractal-lba/client';
 *     import { telemetry } from '@fractal-lba/client/otel';
 *
 *     const { transport, hooks, traced } = telemetry(api);
 *     const options = { endpoints, signer, tenant, hooks, transport: transport(fetchTransport()) };
 *     const client = traced(new FractalLBAClient(options));
 *
 * A call is one INTERNAL span `fractal_lba.submit`, each attempt a CLIENT span below it, whose
 * `traceparent` the request carries. No metric has a `pcs_id` or a tenant as an attribute. The
 * package of OpenTelemetry is handed in, and used by its shape alone: this one depends on nothing.
 */

import type { FractalLBAClient } from './client.js';
import { isFractalLBAError } from './errors.js';
import type { Hooks } from './hooks.js';
import { VERSION } from './http.js';
import type { OutboxStats } from './outbox.js';
import type { Transport } from './transport.js';

type Attributes = Record<string, string | number>;

interface SpanShape {
  setAttributes(attributes: Attributes): unknown;
  setStatus(status: { code: number }): unknown;
  end(): void;
}

interface MeterShape {
  createHistogram(name: string, options: object): { record(x: number, on: Attributes): void };
  createCounter(name: string, options: object): { add(count: number, on: Attributes): void };
  createObservableGauge(name: string, options: object): GaugeShape;
}

interface GaugeShape {
  addCallback(callback: (result: { observe(x: number): void }) => void): void;
  removeCallback(callback: (result: { observe(x: number): void }) => void): void;
}

/** What is used of `@opentelemetry/api` 1.x. */
export interface OpenTelemetryApi {
  readonly trace: {
    getTracer(
      name: string,
      version?: string,
    ): { startSpan(name: string, options: object, context: unknown): unknown };
    setSpan(context: unknown, span: unknown): unknown;
  };
  readonly metrics: { getMeter(name: string, version?: string): unknown };
  readonly context: {
    active(): unknown;
    with<T>(context: unknown, run: () => T): T;
  };
  readonly propagation: { inject(context: unknown, carrier: Record<string, string>): void };
}

/** What `telemetry` gives; it serves any number of clients. */
export interface Telemetry {
  /** The hooks that count: an option of the client. */
  readonly hooks: Hooks;
  /** Put a CLIENT span around each attempt, and its `traceparent` into the request. */
  transport(inner: Transport): Transport;
  /** Give a client whose calls are spans; every other method is the client's own. */
  traced(client: FractalLBAClient): FractalLBAClient;
  /** Report entries, held ones, bytes and age of an outbox; give a function that ends that. */
  observeOutbox(outbox: { stats(): OutboxStats }): () => void;
}

/** The bounds, in seconds, that the semantic conventions advise. */
const DURATION_BOUNDS = [0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10];

const CLIENT_KIND = 2;
const ERROR_STATUS = 2;

/** Make spans and metrics of the global providers of OpenTelemetry. */
export function telemetry(api: OpenTelemetryApi): Telemetry {
  const scope = '@fractal-lba/client';
  const meter = api.metrics.getMeter(scope, VERSION) as MeterShape;
  const within = spans(api, api.trace.getTracer(scope, VERSION));
  return {
    hooks: counting(meter),
    transport: (inner) => traceTransport(api, within, inner),
    traced: (client) => traceClient(within, client),
    observeOutbox: (outbox) => observe(meter, outbox),
  };
}

/** Run work in a span; its own error marks the span, by the code alone. */
type Within = <T>(
  name: string,
  options: object,
  work: (span: SpanShape, context: unknown) => Promise<T>,
) => Promise<T>;

function spans(
  { context, trace }: OpenTelemetryApi,
  tracer: ReturnType<OpenTelemetryApi['trace']['getTracer']>,
): Within {
  return async (name, options, work) => {
    const parent = context.active();
    const span = tracer.startSpan(name, options, parent) as SpanShape;
    const inner = trace.setSpan(parent, span);
    try {
      return await context.with(inner, () => work(span, inner));
    } catch (error) {
      fail(span, isFractalLBAError(error) ? error.code : '_OTHER');
      throw error;
    } finally {
      span.end();
    }
  };
}

function counting(meter: MeterShape): Hooks {
  const durations = meter.createHistogram('http.client.request.duration', {
    unit: 's',
    advice: { explicitBucketBoundaries: DURATION_BOUNDS },
  });
  const retries = meter.createCounter('fractal_lba.client.retries', { unit: '{retry}' });
  const failovers = meter.createCounter('fractal_lba.client.failovers', { unit: '{failover}' });
  return {
    onAttempt: ({ url, method, status, code, elapsedMs }) => {
      const on: Attributes = { ...serverOf(url), 'http.request.method': method };
      if (status) on['http.response.status_code'] = status;
      if (code) on['error.type'] = code;
      durations.record(elapsedMs / 1000, on);
    },
    onRetry: ({ code }) => retries.add(1, { 'error.type': code }),
    onFailover: ({ toUrl }) => failovers.add(1, serverOf(toUrl)),
  };
}

function traceTransport(api: OpenTelemetryApi, within: Within, inner: Transport): Transport {
  return (request, bounds) => {
    const { method, url, headers } = request;
    const attributes: Attributes = { ...serverOf(url), 'http.request.method': method };
    const resends = headers.find(([name]) => name === 'X-Retry-Attempt');
    if (resends) attributes['http.request.resend_count'] = +resends[1];
    return within(method, { kind: CLIENT_KIND, attributes }, async (span, context) => {
      const carrier: Record<string, string> = {};
      api.propagation.inject(context, carrier);
      // Baggage and the state of the trace are the caller's matter and stay here.
      const { traceparent } = carrier;
      const parent = traceparent ? [['traceparent', traceparent] as const] : [];
      const raw = await inner({ ...request, headers: [...headers, ...parent] }, bounds);
      span.setAttributes({ 'http.response.status_code': raw.status });
      if (raw.status >= 400) fail(span, `${raw.status}`);
      return raw;
    });
  };
}

function traceClient(within: Within, client: FractalLBAClient): FractalLBAClient {
  return new Proxy(client, {
    get(target, name) {
      const method = target[name as keyof FractalLBAClient] as unknown;
      if (typeof method !== 'function') return method;
      const call = method.bind(target);
      if (name !== 'submit' && name !== 'get') return call;
      return (...args: unknown[]) => within(`fractal_lba.${name}`, {}, () => call(...args));
    },
  });
}

function observe(meter: MeterShape, outbox: { stats(): OutboxStats }): () => void {
  const gauge = (name: string, unit: string, read: (stats: OutboxStats) => number) => {
    const made = meter.createObservableGauge(`fractal_lba.outbox.${name}`, { unit });
    const callback: Parameters<GaugeShape['addCallback']>[0] = (result) =>
      result.observe(read(outbox.stats()));
    made.addCallback(callback);
    return () => made.removeCallback(callback);
  };
  const ageMs = ({ oldestSentAtMs = Date.now() }: OutboxStats): number =>
    Math.max(0, Date.now() - oldestSentAtMs);
  const ends = [
    gauge('entries', '{entry}', ({ entries }) => entries),
    gauge('held', '{entry}', ({ held }) => held),
    gauge('bytes', 'By', ({ bytes }) => bytes),
    gauge('age', 's', (stats) => ageMs(stats) / 1000),
  ];
  return () => {
    for (const end of ends) end();
  };
}

/** Mark a span with a code; the text of an error may come from a server. */
function fail(span: SpanShape, code: string): void {
  span.setAttributes({ 'error.type': code });
  span.setStatus({ code: ERROR_STATUS });
}

/** Name host and port of a URL; its path may hold an id. */
function serverOf(address: string): Attributes {
  const { hostname, port } = new URL(address);
  return { 'server.address': hostname, ...(port && { 'server.port': +port }) };
}
