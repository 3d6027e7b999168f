package fractal

// This file owns the options of a client: what they are, their defaults, and the checks of New.

import (
	"fmt"
	"log/slog"
	"math"
	"net/http"
	"slices"
	"strings"
	"time"
)

const (
	// defaultConcurrency is how many records one SubmitMany has in flight.
	defaultConcurrency = 16

	// defaultMaxInFlight is how many calls of one client are in flight; more callers queue.
	defaultMaxInFlight = 64

	defaultConnectTimeout = 5 * time.Second
	defaultAttemptTimeout = 10 * time.Second

	// defaultTotalTimeout covers all attempts of a call and the waits between them.
	defaultTotalTimeout = 60 * time.Second

	// defaultHealthTimeout is how long Health waits for an endpoint.
	defaultHealthTimeout = 2 * time.Second
)

// Option is an option of New.
type Option interface{ applyToClient(*settings) }

// CallOption is an option of one call.
type CallOption interface{ applyToCall(*callSettings) }

// SharedOption is an option of New, where it sets the default, and of one call.
type SharedOption interface {
	Option
	CallOption
}

// settings are the options of a client, complete and checked.
type settings struct {
	endpoints  []Endpoint
	signer     Signer
	tenant     string
	sigVersion int
	token      func() (Secret, error) // nil: none
	retry      RetryPolicy
	failover   FailoverPolicy

	connectTimeout   time.Duration
	attemptTimeout   time.Duration
	healthTimeout    time.Duration
	connectionMaxAge time.Duration
	connectionIdle   time.Duration

	call callSettings

	maxInFlight    int
	maxRecordBytes int
	limits         ResponseLimits
	agent          string
	app            string

	outbox    *Outbox
	transport Transport // nil: an own one
	client    *http.Client
	clock     Clock
	random    Random
	log       *slog.Logger
	hooks     []Hooks

	faults []*Error // of options that say nothing
}

// callSettings are the options that one call may change.
type callSettings struct {
	durability   string
	totalTimeout time.Duration
	concurrency  int
}

type clientOption func(*settings)

func (o clientOption) applyToClient(s *settings) { o(s) }

type sharedOption func(*callSettings)

func (o sharedOption) applyToClient(s *settings)   { o(&s.call) }
func (o sharedOption) applyToCall(c *callSettings) { o(c) }

// needed makes an option of a value that must not be nil.
func needed(name string, isNil bool, set func(*settings)) Option {
	return clientOption(func(s *settings) {
		if isNil {
			s.faults = append(
				s.faults,
				newError("config_invalid", "%s: expected one, got nil", name),
			)
			return
		}
		set(s)
	})
}

// --- where ----------------------------------------------------------------------------------

// WithEndpoints adds endpoints behind the one that New is given, in order of preference.
func WithEndpoints(endpoints ...Endpoint) Option {
	return clientOption(func(s *settings) { s.endpoints = append(s.endpoints, endpoints...) })
}

// WithRegion names the region of the endpoint that New is given.
func WithRegion(region string) Option {
	return clientOption(func(s *settings) { s.endpoints[0].Region = region })
}

// WithFailover says when an endpoint is down and when to go back; the default is
// DefaultFailover().
func WithFailover(policy FailoverPolicy) Option {
	policy.AllowedRegions = slices.Clone(policy.AllowedRegions)
	return clientOption(func(s *settings) { s.failover = policy })
}

// --- who ------------------------------------------------------------------------------------

// WithTenant names the tenant, which X-Tenant-Id carries; signatures of version 2 need it. The
// default is none.
func WithTenant(tenant string) Option {
	return clientOption(func(s *settings) {
		if tenant == "" {
			s.faults = append(s.faults, newError("config_invalid", "tenant: expected a name"))
		}
		s.tenant = tenant
	})
}

// WithSigVersion chooses the signature: 2, the default, covers the whole record, 1 eight members
// of it.
func WithSigVersion(version int) Option {
	return clientOption(func(s *settings) { s.sigVersion = version })
}

// WithToken gives the tenant's read token, for Get. The default is none.
func WithToken(token Secret) Option {
	return WithTokenSource(func() (Secret, error) { return token, nil })
}

// WithTokenSource gives a function that is asked for the read token at each Get. Its error is the
// error of the call.
func WithTokenSource(source func() (Secret, error)) Option {
	return needed("token", source == nil, func(s *settings) { s.token = source })
}

// WithApp appends up to 24 characters to User-Agent. The default is none.
func WithApp(app string) Option {
	return clientOption(func(s *settings) { s.app = app })
}

// --- how long and how much --------------------------------------------------------------------

// WithRetry says how often and how long to try; the default is DefaultRetry().
func WithRetry(policy RetryPolicy) Option {
	return clientOption(func(s *settings) { s.retry = policy })
}

// WithConnectTimeout bounds connecting, within the attempt; the default is 5 s.
func WithConnectTimeout(timeout time.Duration) Option {
	return clientOption(func(s *settings) { s.connectTimeout = timeout })
}

// WithAttemptTimeout bounds one attempt; the default is 10 s.
func WithAttemptTimeout(timeout time.Duration) Option {
	return clientOption(func(s *settings) { s.attemptTimeout = timeout })
}

// WithTotalTimeout bounds one call, retries and waits included; the default is 60 s. The deadline
// of the caller's context counts too.
func WithTotalTimeout(timeout time.Duration) SharedOption {
	return sharedOption(func(c *callSettings) { c.totalTimeout = timeout })
}

// WithDurability names the level to reach: Durable, which is the default, Replicated or Witnessed.
// Without an outbox a call waits for it. With one, which has Durable or Replicated for all calls of
// a client, an entry is released when it is reached: a call returns before that.
func WithDurability(level string) SharedOption {
	return sharedOption(func(c *callSettings) { c.durability = level })
}

// WithConcurrency says how many records of one SubmitMany are in flight; the default is 16.
func WithConcurrency(records int) SharedOption {
	return sharedOption(func(c *callSettings) { c.concurrency = records })
}

// WithMaxInFlight says how many calls of the client are in flight, the others queue; the default
// is 64.
func WithMaxInFlight(calls int) Option {
	return clientOption(func(s *settings) { s.maxInFlight = calls })
}

// WithMaxRecordBytes limits signed records; the default and the most is MaxRecordBytes.
func WithMaxRecordBytes(limit int) Option {
	return clientOption(func(s *settings) { s.maxRecordBytes = limit })
}

// WithMaxResponseBytes limits the bodies of responses; the default is MaxResponseBytes.
func WithMaxResponseBytes(limit int) Option {
	return clientOption(func(s *settings) { s.limits.Bytes = limit })
}

// WithMaxResponseHeaders limits the header fields of responses; the default and the most is
// MaxResponseHeaders.
func WithMaxResponseHeaders(limit int) Option {
	return clientOption(func(s *settings) { s.limits.Headers = limit })
}

// WithConnectionMaxAge bounds how long a connection is used, so that a change of DNS is seen; the
// default is 60 s. It is for the client's own transport, as is the next.
func WithConnectionMaxAge(age time.Duration) Option {
	return clientOption(func(s *settings) { s.connectionMaxAge = age })
}

// WithConnectionIdle bounds how long a connection is kept unused; the default is 30 s.
func WithConnectionIdle(idle time.Duration) Option {
	return clientOption(func(s *settings) { s.connectionIdle = idle })
}

// --- by which means -----------------------------------------------------------------------------

// WithOutbox keeps records on disk before they are sent; nil, the default, is none. One client
// uses an outbox at a time, and closes before it.
func WithOutbox(outbox *Outbox) Option {
	return clientOption(func(s *settings) { s.outbox = outbox })
}

// WithTransport sends requests in another way than over the client's own connections. It stays
// open when the client closes.
func WithTransport(transport Transport) Option {
	return needed("transport", transport == nil, func(s *settings) { s.transport = transport })
}

// WithHTTPClient sends requests through the Transport of an *http.Client: its connections, proxy
// and certificates. Its redirects, cookies and timeout are not used: a record goes to no host
// that the caller did not name, and the bounds are those of this package.
func WithHTTPClient(client *http.Client) Option {
	return needed("http client", client == nil, func(s *settings) { s.client = client })
}

// WithClock takes another clock for waits and deadlines; the default is the system's.
func WithClock(clock Clock) Option {
	return needed("clock", clock == nil, func(s *settings) { s.clock = clock })
}

// WithRandom takes another source of jitter; the default is math/rand/v2.
func WithRandom(random Random) Option {
	return needed("random", random == nil, func(s *settings) { s.random = random })
}

// WithLogger logs: each attempt at debug, each call that stopped without a result as a warning.
// The default is silence.
func WithLogger(logger *slog.Logger) Option {
	return needed("logger", logger == nil, func(s *settings) { s.log = logger })
}

// WithHooks adds hooks to those that are there.
func WithHooks(hooks Hooks) Option {
	return clientOption(func(s *settings) { s.hooks = append(s.hooks, hooks) })
}

// --- checks -------------------------------------------------------------------------------------

// settingsOf completes and checks the options of a client. It does no I/O.
func settingsOf(endpoint string, signer Signer, options []Option) (*settings, error) {
	s := &settings{
		endpoints: []Endpoint{{URL: endpoint}}, signer: signer, sigVersion: 2,
		retry: DefaultRetry(), failover: DefaultFailover(),
		connectTimeout: defaultConnectTimeout, attemptTimeout: defaultAttemptTimeout,
		healthTimeout:    defaultHealthTimeout,
		connectionMaxAge: defaultConnectionMaxAge, connectionIdle: defaultConnectionIdle,
		call: callSettings{
			durability: Durable, totalTimeout: defaultTotalTimeout, concurrency: defaultConcurrency,
		},
		maxInFlight: defaultMaxInFlight, maxRecordBytes: MaxRecordBytes,
		limits: DefaultResponseLimits(),
		clock:  newSystemClock(), random: systemRandom{}, log: slog.New(slog.DiscardHandler),
	}
	for _, option := range options {
		if option == nil {
			return nil, newError("config_invalid", "options: expected an option, got nil")
		}
		option.applyToClient(s)
	}
	if err := s.check(); err != nil {
		return nil, err
	}
	agent, err := UserAgent(s.app)
	s.agent = agent
	return s, err
}

func (s *settings) check() error {
	if len(s.faults) > 0 {
		return s.faults[0]
	}
	if err := checkTenant(s.tenant); err != nil {
		return err
	}
	if s.sigVersion != 1 && s.sigVersion != 2 {
		return invalid("sig_version", "1 or 2", s.sigVersion)
	}
	if s.signer != nil && s.sigVersion == 2 {
		if err := checkVersion2(s.signer, s.tenant); err != nil {
			return err
		}
	}
	if err := s.retry.check(); err != nil {
		return err
	}
	if s.transport != nil && s.client != nil {
		return newError("config_invalid", "expected a transport or an http client, got both")
	}
	for _, bound := range []struct {
		name  string
		value time.Duration
	}{
		{"connect_timeout", s.connectTimeout}, {"attempt_timeout", s.attemptTimeout},
		{"connection_max_age", s.connectionMaxAge}, {"connection_idle", s.connectionIdle},
	} {
		if bound.value <= 0 {
			return invalid(bound.name, "a duration above 0", bound.value)
		}
	}
	for _, limit := range []struct {
		name        string
		value, high int
	}{
		{"max_in_flight", s.maxInFlight, math.MaxInt},
		{"max_record_bytes", s.maxRecordBytes, MaxRecordBytes},
		{"max_response_bytes", s.limits.Bytes, math.MaxInt - 1},
		{"max_response_headers", s.limits.Headers, MaxResponseHeaders},
	} {
		if limit.value < 1 || limit.value > limit.high {
			return invalid(limit.name, fmt.Sprintf("1 to %d", limit.high), limit.value)
		}
	}
	return s.call.check(s.outbox)
}

func (c *callSettings) check(outbox *Outbox) error {
	switch {
	case c.totalTimeout <= 0:
		return invalid("total_timeout", "a duration above 0", c.totalTimeout)
	case c.concurrency < 1:
		return invalid("concurrency", "an integer >= 1", c.concurrency)
	case !slices.Contains(levels, c.durability):
		return invalid("durability", "one of "+strings.Join(levels, ", "), c.durability)
	case outbox != nil && c.durability == Witnessed:
		return invalid("durability", Durable+" or "+Replicated+" with an outbox", c.durability)
	}
	return nil
}

// callWith gives the options of one call.
func (s *settings) callWith(options []CallOption) (callSettings, error) {
	call := s.call
	for _, option := range options {
		if option == nil {
			return call, newError("config_invalid", "options: expected an option, got nil")
		}
		option.applyToCall(&call)
	}
	if err := call.check(s.outbox); err != nil {
		return call, err
	}
	if s.outbox != nil && call.durability != s.call.durability {
		// An entry outlives its call, and its frame names no level.
		return call, invalid("durability", s.call.durability+", as of the client", call.durability)
	}
	return call, nil
}

// maxShownCharacters is how much of a wrong value an error shows.
const maxShownCharacters = 80

func invalid(name, expected string, given any) *Error {
	return newError("config_invalid", "%s: expected %s, got %.*s",
		name, expected, maxShownCharacters, fmt.Sprint(given))
}

// milliseconds gives a duration above 0 in whole milliseconds, at least one.
func milliseconds(duration time.Duration) int64 { return max(1, duration.Milliseconds()) }
