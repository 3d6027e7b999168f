// The public surface of the TypeScript SDK; `npm run api` writes it.

// @fractal-lba/client

class APIError extends FractalLBAError {
    name: string;
}

type Algorithm = keyof typeof SIGNATURE_BYTES;

type AnyRecord = (Omit<PcsRecord, 'pcs_id'> & {
    readonly pcs_id?: string;
}) | SignedRecord;

interface AttemptEvent {
    readonly type: 'attempt';
    readonly call: string;
    readonly method: string;
    readonly url: string;
    readonly attempt: number;
    readonly elapsedMs: number;
    readonly status?: number | undefined;
    readonly code?: string | undefined;
    readonly requestId?: string | undefined;
    readonly requestHeaders: Readonly<Record<string, string>>;
    readonly responseHeaders: Readonly<Record<string, string>>;
}

interface AttemptOptions {
    readonly connectTimeoutMs: number;
    readonly attemptTimeoutMs: number;
    readonly signal: AbortSignal;
}

class AuthError extends APIError {
    name: string;
}

interface CallOptions {
    readonly signal?: AbortSignal | undefined;
    readonly durability?: Level | undefined;
    readonly totalTimeoutMs?: number | undefined;
}

class CallableSigner implements Signer {
    readonly alg: Algorithm;
    readonly kid: string | undefined;
    readonly sign: Signer['sign'];
    constructor(alg: Algorithm, kid: string | undefined, sign: Signer['sign']);
}

class CancelledError extends FractalLBAError {
    name: string;
}

interface ClientOptions {
    readonly endpoints: string | Endpoint | readonly (string | Endpoint)[];
    readonly signer: Signer | null;
    readonly tenant?: string | undefined;
    readonly sigVersion?: 1 | 2 | undefined;
    readonly token?: Token | undefined;
    readonly retry?: 'default' | 'none' | Partial<RetryPolicy> | undefined;
    readonly connectTimeoutMs?: number | undefined;
    readonly attemptTimeoutMs?: number | undefined;
    readonly totalTimeoutMs?: number | undefined;
    readonly durability?: Level | undefined;
    readonly outbox?: ClientOutbox | undefined;
    readonly failover?: Partial<FailoverPolicy> | undefined;
    readonly concurrency?: number | undefined;
    readonly maxInFlight?: number | undefined;
    readonly connectionMaxAgeMs?: number | undefined;
    readonly connectionIdleMs?: number | undefined;
    readonly maxRecordBytes?: number | undefined;
    readonly maxResponseBytes?: number | undefined;
    readonly maxResponseHeaders?: number | undefined;
    readonly app?: string | undefined;
    readonly transport?: Transport | undefined;
    readonly clock?: Clock | undefined;
    readonly random?: Random | undefined;
    readonly logger?: Logger | undefined;
    readonly hooks?: Hooks | undefined;
}

interface ClientOutbox {
    courier(client: CourierClient): Courier;
}

interface Clock {
    nowMs(): number;
    monotonicMs(): number;
    wait(waitMs: number, signal?: AbortSignal): Promise<boolean>;
}

class ConfigError extends FractalLBAError {
    name: string;
}

class ConflictError extends APIError {
    name: string;
}

class ConnectionError extends FractalLBAError {
    name: string;
}

class Ed25519Signer extends CallableSigner {
    constructor(seed: Uint8Array | Secret | CryptoKey, { kid }?: SignerOptions);
}

interface Endpoint {
    readonly url: string;
    readonly region?: string | undefined;
}

interface EndpointHealth {
    readonly url: string;
    readonly region?: string | undefined;
    readonly ok: boolean;
    readonly status?: number | undefined;
    readonly error?: string | undefined;
}

interface ErrorFields {
    readonly pointer?: string | undefined;
    readonly status?: number | undefined;
    readonly requestId?: string | undefined;
    readonly retryAfterMs?: number | undefined;
    readonly attempts?: number | undefined;
    readonly headers?: Readonly<Record<string, string>> | undefined;
    readonly body?: Uint8Array | undefined;
    readonly fault?: Fault | undefined;
    readonly stop?: string | undefined;
    readonly queued?: boolean | undefined;
    readonly cause?: unknown;
}

interface FailoverEvent {
    readonly type: 'failover';
    readonly fromUrl: string;
    readonly toUrl: string;
}

interface FailoverPolicy {
    readonly downAfter: number;
    readonly upAfter: number;
    readonly probeIntervalMs: number;
    readonly probeTimeoutMs: number;
    readonly failbackAfterMs: number | null;
    readonly allowedRegions?: readonly string[] | undefined;
    readonly redirectHops: number;
}

type Fault = 'caller' | 'server' | 'network';

interface FetchOptions {
    readonly fetch?: typeof fetch | undefined;
    readonly maxResponseBytes?: number | undefined;
    readonly maxResponseHeaders?: number | undefined;
}

class FractalLBAClient {
    #private;
    [Symbol.asyncDispose]: () => Promise<void>;
    constructor(options: ClientOptions);
    submit(record: AnyRecord, options?: CallOptions): Promise<Submitted>;
    submitMany(records: Iterable<AnyRecord> | AsyncIterable<AnyRecord>, options?: ManyOptions): AsyncGenerator<Item, void, undefined>;
    get(pcsId: string, options?: Omit<CallOptions, 'durability'>): Promise<Outcome>;
    health(options?: Pick<CallOptions, 'signal'>): Promise<EndpointHealth[]>;
    submitPCS(record: AnyRecord, options?: CallOptions): Promise<Submitted>;
    healthCheck(options?: Pick<CallOptions, 'signal'>): Promise<EndpointHealth[]>;
    enqueue(record: AnyRecord): Promise<string>;
    flush(timeoutMs: number): Promise<OutboxStats>;
    resign(kid: string | undefined): Promise<number>;
    close(): Promise<void>;
}

class FractalLBAError extends Error {
    readonly code: string;
    name: string;
    readonly [BRAND] = true;
    readonly pointer?: string;
    readonly status?: number;
    readonly requestId?: string;
    readonly retryAfterMs?: number;
    stop?: string;
    readonly fault: Fault;
    readonly headers: Readonly<Record<string, string>>;
    readonly body: Uint8Array<ArrayBuffer>;
    attempts: number;
    queued: boolean;
    constructor(code: string, what: string, fields?: ErrorFields);
}

type Ft = {
    readonly outbox_seq: number;
    readonly degraded: boolean;
    readonly fallbacks: readonly string[];
    readonly clock_skew_ms: number;
};

type HeaderFields = readonly (readonly [name: string, value: string])[];

class HmacSigner extends CallableSigner {
    constructor(key: Uint8Array | Secret | CryptoKey, { kid, allowShortKey }?: SignerOptions);
}

interface Hooks {
    readonly onAttempt?: ((event: AttemptEvent) => unknown) | undefined;
    readonly onRetry?: ((event: RetryEvent) => unknown) | undefined;
    readonly onFailover?: ((event: FailoverEvent) => unknown) | undefined;
    readonly onOutbox?: ((event: OutboxEvent) => unknown) | undefined;
}

type Item = {
    readonly index: number;
    readonly result: Submitted;
    readonly error?: undefined;
} | {
    readonly index: number;
    readonly result?: undefined;
    readonly error: FractalLBAError;
};

type Level = (typeof LEVELS)[number];

interface Logger {
    debug(message: string): void;
    info(message: string): void;
    warn(message: string): void;
    error(message: string): void;
}

interface ManyOptions extends CallOptions {
    readonly concurrency?: number | undefined;
}

type Members = Record<string, unknown>;

class NotFoundError extends APIError {
    name: string;
}

class OutboxError extends FractalLBAError {
    name: string;
}

interface OutboxEvent {
    readonly type: 'outbox';
    readonly kind: 'queued' | 'acknowledged' | 'outbox_held' | 'postponed' | 'dead' | 'requeued' | 'purged' | 'outbox_blocked' | 'outbox_corrupt';
    readonly id?: string | undefined;
    readonly code?: string | undefined;
}

interface Outcome {
    readonly accepted: boolean;
    readonly escalated: boolean;
    readonly reason?: Reason;
    readonly firstSeen: {
        readonly region: string;
        readonly hlc: string;
    };
    readonly pcsId: string;
    readonly policyVersion: string;
    readonly recomputedDHat: number;
    readonly recomputedBudget: number;
}

type PcsInput = Omit<PcsRecord, Defaulted> & Partial<Pick<PcsRecord, Defaulted>>;

type PcsRecord = {
    readonly pcs_id: string;
    readonly schema: 'fractal-lba-kakeya';
    readonly version: '0.1';
    readonly shard_id: string;
    readonly epoch: number;
    readonly attempt: number;
    readonly sent_at: string;
    readonly seed: number;
    readonly scales: readonly number[];
    readonly N_j: Readonly<Record<string, number>>;
    readonly coh_star: number;
    readonly v_star: readonly number[];
    readonly D_hat: number;
    readonly r: number;
    readonly regime: Regime;
    readonly budget: number;
    readonly merkle_root: string;
    readonly ft: Ft;
    readonly sig?: string | undefined;
    readonly sig_v?: 2 | undefined;
    readonly alg?: Algorithm | undefined;
    readonly kid?: string | undefined;
    readonly tenant_id?: string | undefined;
};

interface Position {
    readonly region: string;
    readonly placement: string;
    readonly regionEpoch: number;
    readonly seq: number;
}

class ProofError extends FractalLBAError {
    name: string;
}

type Random = () => number;

class RateLimitError extends APIError {
    name: string;
}

interface Raw {
    readonly status: number;
    readonly headers: Readonly<Record<string, string>>;
    readonly body: Uint8Array;
    readonly requestId?: string | undefined;
    readonly attempts: number;
}

interface RawResponse {
    readonly status: number;
    readonly headers: HeaderFields;
    readonly body: Uint8Array;
}

type Reason = (typeof REFUSING_REASONS)[number] | (typeof ACCEPTING_REASONS)[number];

type Regime = 'sticky' | 'mixed' | 'non_sticky';

interface Request {
    readonly method: 'GET' | 'POST';
    readonly url: string;
    readonly headers: HeaderFields;
    readonly body?: Uint8Array;
}

interface RetryEvent {
    readonly type: 'retry';
    readonly call: string;
    readonly attempt: number;
    readonly waitMs: number;
    readonly code: string;
}

interface RetryPolicy {
    readonly maxAttempts: number;
    readonly waitBaseMs: number;
    readonly waitMaxMs: number;
    readonly retryAfterMaxMs: number;
}

class Secret {
    #private;
    constructor(value: Uint8Array | string);
    reveal(): Uint8Array;
    toString(): string;
    toJSON(): string;
}

interface SignOptions {
    readonly sigVersion?: 1 | 2 | undefined;
    readonly tenant?: string | undefined;
}

class SignatureError extends FractalLBAError {
    name: string;
}

class SignedRecord {
    #private;
    constructor(body: Uint8Array, record: Readonly<Members>, canonical: Canonical);
    get body(): Uint8Array;
    get record(): Readonly<Members>;
    get pcsId(): string;
    get content(): string;
}

interface Signer {
    readonly alg: Algorithm;
    readonly kid?: string | undefined;
    sign(digest: Uint8Array): Uint8Array | Promise<Uint8Array>;
}

interface SignerOptions {
    readonly kid?: string | undefined;
    readonly allowShortKey?: boolean | undefined;
}

type StopReason = 'success' | 'cancelled' | 'server_refused' | 'not_retryable' | 'attempts_exhausted' | 'retry_after_too_long' | 'deadline_exceeded' | 'quota_exhausted';

interface Submitted {
    readonly outcome: Outcome;
    readonly replayed: boolean;
    readonly level: Level;
    readonly position?: Position | undefined;
    readonly replicated?: Position | undefined;
    readonly receipt?: Uint8Array | undefined;
    readonly raw: Raw;
}

class TimeoutError extends FractalLBAError {
    name: string;
}

type Token = Secret | string | (() => Secret | string | Promise<Secret | string>);

type Transport = (request: Request, options: AttemptOptions) => Promise<RawResponse>;

class UnavailableError extends APIError {
    name: string;
}

class ValidationError extends FractalLBAError {
    name: string;
}

function checkRecord(record: unknown, signed?: boolean): asserts record is Members;

function contentDigest(record: Members): string;

function derivePcsId(merkleRoot: string, epoch: number, shardId: string): string;

function fetchTransport(options?: FetchOptions): Transport;

function hmacSignerFromEnv(environ: Readonly<Record<string, string | undefined>>): HmacSigner;

const idempotencyKey: typeof contentDigest;

function isFractalLBAError(value: unknown): value is FractalLBAError;

function jcs(value: unknown): Uint8Array<ArrayBuffer>;

function parse(data: Uint8Array): Members;

function pcsRecord(given: PcsInput): PcsRecord;

function pcsRecordFromJson(data: Uint8Array): PcsRecord;

function sign(record: Members, signer: Signer, { sigVersion, tenant }?: SignOptions): Promise<SignedRecord>;

function signedRecord(body: Uint8Array): SignedRecord;

const systemClock: Clock;

function transportError(code: 'connect_failed' | 'tls_failed' | 'connection_lost' | 'attempt_timeout' | 'response_too_large' | 'cancelled', what: string, cause?: unknown): FractalLBAError;

// @fractal-lba/client/sign

// Algorithm, as above

// CallableSigner, as above

// Ed25519Signer, as above

// FractalLBAError, as above

// HmacSigner, as above

// PcsInput, as above

// PcsRecord, as above

// Secret, as above

// SignOptions, as above

// SignedRecord, as above

// Signer, as above

// SignerOptions, as above

// isFractalLBAError, as above

// sign, as above

// @fractal-lba/client/verify

// Algorithm, as above

// AuthError, as above

class Canonical {
    #private;
    readonly values: SignedValues;
    readonly digest: Uint8Array;
    constructor(members: Members, 
    values: SignedValues, sigV: 1 | 2);
    get payload(): Uint8Array;
    get body(): string;
    get content(): string;
    signed(sig: string): Members;
}

// ConfigError, as above

// FractalLBAError, as above

class Key {
    readonly kid: string;
    readonly alg: Algorithm;
    readonly key: Secret;
    readonly tenant: string | undefined;
    constructor(kid: string, alg: Algorithm, key: Uint8Array | Secret, { tenant, allowShortKey }?: KeyOptions);
}

interface KeyOptions extends Pick<SignerOptions, 'allowShortKey'> {
    readonly tenant?: string | undefined;
}

type Keyring = ReadonlyMap<string, Key>;

// Members, as above

// Secret, as above

// SignatureError, as above

// ValidationError, as above

interface Verified {
    readonly record: Readonly<Members>;
    readonly key: Key;
    readonly sigV: 1 | 2;
    readonly values: SignedValues;
    readonly content: string;
}

interface VerifyOptions {
    readonly strict?: boolean | undefined;
    readonly v1DefaultKid?: string | undefined;
    readonly minVersion?: 1 | 2 | undefined;
}

function canonicalize(record: Members, sigV: 1 | 2): Canonical;

// derivePcsId, as above

function ed25519PublicKey(seed: Uint8Array): Promise<Uint8Array>;

// isFractalLBAError, as above

function keyring(keys: Iterable<Key>): Promise<Keyring>;

// parse, as above

function payload(record: Members, sigV?: 1 | 2): Uint8Array;

function verify(recordJson: Uint8Array, keyring: Keyring, { strict, v1DefaultKid, minVersion }?: VerifyOptions): Promise<Verified>;

// @fractal-lba/client/ring

interface Arc extends Range {
    readonly owner: string;
}

interface Moved extends Range {
    readonly from: string;
    readonly to: string;
}

interface Movement {
    readonly share: number;
    readonly ranges: readonly Moved[];
}

interface Range {
    readonly lo: number;
    readonly hi: number;
}

class Ring {
    #private;
    constructor(shards: Iterable<Shard>, { vnodes }?: RingOptions);
    get pointCount(): number;
    pick(key: Uint8Array | string): string;
    pickN(key: Uint8Array | string, n: number): string[];
    shares(): Map<string, number>;
    ranges(name: string): Range[];
    arcs(): Arc[];
}

interface RingOptions {
    readonly vnodes?: number | undefined;
}

interface Shard {
    readonly name: string;
    readonly weight?: number | undefined;
}

const VNODES = 150;

function hashPoint(key: Uint8Array | string): number;

function movement(old: Ring, next: Ring): Movement;

function ringKey(tenant: string, pcsId: string): string;

// @fractal-lba/client/outbox-node

interface DeadLetter {
    readonly id: string;
    readonly letter: Letter;
    readonly status?: number | undefined;
    readonly code: string;
    readonly reason: string;
    readonly response: string;
}

interface Group {
    readonly group: 'kid' | 'tenant';
    readonly name?: string | undefined;
}

interface Letter {
    readonly id: string;
    readonly pcsId: string;
    readonly key: string;
    readonly kid?: string | undefined;
    readonly tenant?: string | undefined;
    readonly atMs: number;
    readonly body: Uint8Array;
    readonly from?: string | undefined;
}

class Outbox implements Mailbox {
    #private;
    readonly background: boolean;
    constructor(files: Files, owner: Owner, options: OutboxOptions, fileBytes: number);
    stats(): OutboxStats;
    dead(): Promise<DeadLetter[]>;
    requeue(id: string): Promise<string>;
    purge(id: string): Promise<void>;
    resend(region: string): Promise<number>;
    close(): Promise<void>;
    courier(client: CourierClient): Courier;
    listen(tell: (event: OutboxEvent) => void, wake: () => void): void;
    put(letter: Letter, nowMs: number, inFlight: boolean): Promise<Letter>;
    take(nowMs: number, limit: number, bytesMax: number): Promise<Due>;
    settle(id: string, given: Verdict, nowMs: number, u: number): Promise<void>;
    hear(news: Position | RegionStatus): Promise<void>;
    heldRegions(): ReadonlySet<string>;
    hurry(): void;
    lettersOf(kid: string | undefined): Promise<Letter[]>;
    release(id: string, reason: string): Promise<void>;
    open(ticksOf: TicksOf): Promise<void>;
}

interface OutboxOptions {
    readonly maxEntries?: number | undefined;
    readonly maxBytes?: number | undefined;
    readonly maxAgeMs?: number | undefined;
    readonly background?: boolean | undefined;
}

interface OutboxStats {
    readonly entries: number;
    readonly inFlight: number;
    readonly held: number;
    readonly dead: number;
    readonly bytes: number;
    readonly oldestSentAtMs?: number | undefined;
    readonly blocked: readonly Group[];
    readonly corruptFiles: readonly string[];
    readonly unreadableFrames: number;
}

function directoryFiles(directory: string): Files;

function openOutbox(directory: string, options?: OutboxOptions): Promise<Outbox>;

function startTicksOf(pid: number, proc?: string): number | undefined;

function thisProcess(): Owner;

// @fractal-lba/client/otel

interface OpenTelemetryApi {
    readonly trace: {
        getTracer(name: string, version?: string): {
            startSpan(name: string, options: object, context: unknown): unknown;
        };
        setSpan(context: unknown, span: unknown): unknown;
    };
    readonly metrics: {
        getMeter(name: string, version?: string): unknown;
    };
    readonly context: {
        active(): unknown;
        with<T>(context: unknown, run: () => T): T;
    };
    readonly propagation: {
        inject(context: unknown, carrier: Record<string, string>): void;
    };
}

interface Telemetry {
    readonly hooks: Hooks;
    transport(inner: Transport): Transport;
    traced(client: FractalLBAClient): FractalLBAClient;
    observeOutbox(outbox: {
        stats(): OutboxStats;
    }): () => void;
}

function telemetry(api: OpenTelemetryApi): Telemetry;

// @fractal-lba/client/testing

class FakeClock implements Clock {
    #private;
    readonly waitsMs: number[];
    constructor(nowMs?: number);
    nowMs(): number;
    monotonicMs(): number;
    advance(stepMs: number): void;
    wait(waitMs: number, signal?: AbortSignal): Promise<boolean>;
}

interface Fault {
    readonly code: Parameters<typeof transportError>[0];
    readonly delayMs?: number;
}

interface Reply {
    readonly status: number;
    readonly headers?: HeaderFields;
    readonly body?: Uint8Array;
    readonly delayMs?: number;
}

const START_MS = 1767225600000;

class ScriptedTransport {
    #private;
    readonly requests: Request[];
    constructor(script: Iterable<Step>, clock?: FakeClock);
    readonly send: Transport;
}

type Step = Reply | Fault | ((request: Request) => Reply | Fault);

function outcomeBody(pcsId: string, changes?: Readonly<Record<string, unknown>>): Uint8Array<ArrayBuffer>;

function seededRandom(seed?: number | bigint): Random;

// named above, exported by no entry

const ACCEPTING_REASONS: readonly ['regime_mismatch', 'budget_deviation'];

interface Acknowledge {
    readonly what: 'acknowledge';
    readonly status: number;
}

type Answer = RawResponse | Letter | Due | FractalLBAError | undefined;

interface Ask {
    readonly do: 'ask';
    readonly ids: readonly string[];
    readonly timeoutMs: number;
}

const BRAND: unique symbol;

interface Bounds {
    readonly retry: RetryPolicy;
    readonly connectTimeoutMs: number;
    readonly attemptTimeoutMs: number;
    readonly maxResponseBytes: number;
    readonly maxResponseHeaders: number;
}

interface Bury {
    readonly what: 'bury';
    readonly status?: number | undefined;
    readonly code: string;
    readonly reason: string;
    readonly response: string;
}

type Call<T> = Generator<Effect, T, Turn>;

type ClientEvent = AttemptEvent | RetryEvent | FailoverEvent | OutboxEvent | StopEvent;

class Courier {
    #private;
    constructor(client: CourierClient, outbox: Mailbox);
    submit(signed: SignedRecord, attempt: () => Call<Submitted>): Call<Submitted>;
    enqueue(signed: SignedRecord): Call<string>;
    start(): void;
    flush(deadlineMs: number): Promise<OutboxStats>;
    resign(kid: string | undefined): Promise<number>;
    perform(effect: OutboxEffect, run: Run): Promise<Answer>;
    abandon(run: Run): Promise<void>;
    wake(): void;
    close(): void;
}

interface CourierClient {
    readonly settings: Settings;
    readonly state: State;
    tell(event: ClientEvent): void;
    sign(members: Members): Promise<SignedRecord>;
    exchange<T>(spec: Spec<T>, deadlineMs: number): Call<T>;
    single(frozen: Frozen, tenant: string | undefined, deadlineMs: number, level: Level): Call<Submitted>;
    drive<T>(call: Call<T>, signal?: AbortSignal): Promise<T>;
    spawn(work: Promise<unknown>): void;
    readonly closing: AbortSignal;
}

type Defaulted = 'pcs_id' | 'schema' | 'version' | 'attempt' | 'seed' | 'ft';

interface Deliver {
    readonly do: 'deliver';
    readonly calls: readonly Call<unknown>[];
    readonly ids: readonly string[];
}

interface Doze {
    readonly do: 'doze';
    readonly waitMs?: number | undefined;
}

interface Due {
    readonly letters: readonly Letter[];
    readonly nextDueMs?: number | undefined;
    readonly inFlight: number;
    readonly held: number;
}

type Effect = Send | Sleep | Probe | Tell | Enter | OutboxEffect;

interface EndpointState {
    readonly failures: number;
    readonly goodProbes: number;
    readonly down: boolean;
    readonly failedAtMs: number;
    readonly boundUntilMs: number;
    readonly probeAtMs?: number | undefined;
}

interface Enter {
    readonly do: 'enter';
    readonly deadlineMs: number;
}

interface Files {
    names(): string[];
    read(name: string): Uint8Array;
    readAt(name: string, offset: number, length: number): Uint8Array;
    ageMs(name: string): number;
    create(name: string): number;
    open(name: string): number;
    pwrite(handle: number, data: Uint8Array, offset: number): void;
    truncate(handle: number, size: number): void;
    fsync(handle: number): Promise<void>;
    close(handle: number): void;
    fsyncDir(): Promise<void>;
    rename(old: string, name: string): void;
    unlink(name: string): void;
}

interface Fleet {
    readonly endpoints: readonly Endpoint[];
    readonly policy: FailoverPolicy;
    readonly states: readonly EndpointState[];
    readonly eligible: readonly number[];
    readonly current: number;
    readonly failbackAtMs?: number | undefined;
    readonly hintEpoch: number;
}

type Frozen = Pick<SignedRecord, 'body' | 'pcsId' | 'content'>;

interface Hear {
    readonly do: 'hear';
    readonly news: Position | RegionStatus;
}

interface Hold {
    readonly what: 'hold';
    readonly status: number;
    readonly position: Position;
}

interface Keep {
    readonly do: 'keep';
    readonly letter: Letter;
    readonly inFlight: boolean;
}

const LEVELS: readonly ['durable', 'replicated', 'witnessed'];

interface Later {
    readonly what: 'later';
    readonly retryAfterMs?: number | undefined;
    readonly endpointDown: boolean;
}

interface Mailbox {
    readonly background: boolean;
    listen(tell: (event: OutboxEvent) => void, wake: () => void): void;
    put(letter: Letter, nowMs: number, inFlight: boolean): Promise<Letter>;
    take(nowMs: number, limit: number, bytesMax: number): Promise<Due>;
    settle(id: string, verdict: Verdict, nowMs: number, u: number): Promise<void>;
    hear(news: Position | RegionStatus): Promise<void>;
    heldRegions(): ReadonlySet<string>;
    lettersOf(kid: string | undefined): Promise<Letter[]>;
    release(id: string, reason: string): Promise<void>;
    hurry(): void;
    stats(): OutboxStats;
}

type OutboxEffect = Keep | Settle | Hear | Ask | Take | Deliver | Doze;

interface Owner {
    readonly pid: number;
    readonly boot_id: string;
    readonly start_ticks: number;
    readonly host: string;
}

interface Pause {
    readonly what: 'pause';
    readonly group: 'kid' | 'tenant';
    readonly code: string;
}

interface Probe {
    readonly do: 'probe';
    readonly endpoint: number;
    readonly request: Request;
    readonly timeoutMs: number;
}

const REFUSING_REASONS: readonly ['d_hat_out_of_tolerance', 'coh_star_out_of_range', 'n_j_implausible'];

interface RegionStatus {
    readonly streams: readonly StreamStatus[];
}

interface Response {
    readonly status: number;
    readonly headers: Readonly<Record<string, string>>;
    readonly body: Uint8Array;
    readonly requestId?: string | undefined;
}

interface Run {
    readonly signal: AbortSignal;
    hasPlace: boolean;
    unsettled: readonly string[];
    change?: AbortSignal;
}

const SIGNATURE_BYTES: {
    readonly HMAC: 32;
    readonly Ed25519: 64;
};

const SIGNED_FLOATS: {
    readonly D_hat: 3.5;
    readonly budget: 1;
    readonly coh_star: 1.05;
    readonly r: 1;
};

interface Send {
    readonly do: 'send';
    readonly request: Request;
    readonly connectTimeoutMs: number;
    readonly attemptTimeoutMs: number;
}

interface Settings {
    readonly fleet: Fleet;
    readonly signer: Signer | null;
    readonly tenant: string | undefined;
    readonly sigVersion: 1 | 2;
    readonly token: Token | undefined;
    readonly bounds: Bounds;
    readonly totalTimeoutMs: number;
    readonly durability: Level;
    readonly outbox: ClientOutbox | undefined;
    readonly concurrency: number;
    readonly maxInFlight: number;
    readonly maxRecordBytes: number;
    readonly agent: string;
    readonly transport: Transport;
    readonly clock: Clock;
    readonly random: Random;
    readonly logger: Logger | undefined;
    readonly hooks: Hooks;
}

interface Settle {
    readonly do: 'settle';
    readonly id: string;
    readonly verdict: Verdict;
}

type SignedFloat = keyof typeof SIGNED_FLOATS;

type SignedValues = Readonly<Record<SignedFloat, number>>;

interface Sleep {
    readonly do: 'sleep';
    readonly waitMs: number;
}

interface Spec<T> {
    readonly name: string;
    build(endpoint: string, attempt: number): Request;
    read(response: Response, attempts: number, nowMs: number): T;
}

interface State {
    fleet: Fleet;
    quota: number;
    readonly probing: Set<number>;
    takesBatches: boolean;
}

interface StopEvent {
    readonly type: 'stop';
    readonly call: string;
    readonly error: FractalLBAError;
}

interface StreamStatus {
    readonly watermark: Position;
    readonly closed: readonly {
        readonly regionEpoch: number;
        readonly seq: number;
    }[];
}

interface Take {
    readonly do: 'take';
    readonly limit: number;
    readonly bytesMax: number;
}

interface Tell {
    readonly do: 'tell';
    readonly event: ClientEvent;
}

type TicksOf = (pid: number) => number | undefined;

interface Turn {
    readonly nowMs: number;
    readonly monotonicMs: number;
    readonly u: number;
    readonly answer?: Answer;
}

type Verdict = Acknowledge | Hold | Bury | Pause | Later;
