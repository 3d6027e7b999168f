package fractal_test

// Whole calls over real sockets: waits, failover, reads and health.

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	fractal "fractal-lba.example/sdk-go"
	"fractal-lba.example/sdk-go/fractaltest"
)

// --- waits, time, cancellation ------------------------------------------------------------------

func TestRetryAfterOfAServerIsAFloor(t *testing.T) {
	server := serve(t, refused(429, "rate_limited", "Retry-After", "7.5"), recorded(200))
	c, clock := client(t, server.url())
	submits(t, c, record(1))
	waits := clock.WaitsMs()
	if len(waits) != 1 || waits[0] < 7_500 || waits[0] >= 8_000 {
		t.Errorf("got waits of %v ms", waits)
	}
	server = serve(t, refused(503, "unavailable", "Retry-After", "61"))
	c, clock = client(t, server.url())
	fault := fails(t, c, record(1))
	same(t, "stop", fault.Stop, fractal.StopRetryAfterTooLong)
	asked, has := fault.RetryAfter()
	same(t, "asked", asked, 61*time.Second)
	same(t, "has", has, true)
	same(t, "waits", len(clock.WaitsMs()), 0)
}

func TestABrokenAnswerIsAskedForAgain(t *testing.T) {
	for name, broken := range map[string]step{
		"cut": {isCut: true, cut: 17}, "reset": {isCut: true, reset: true},
		"nonsense": {raw: "nonsense\r\n"}, "silence": silent(),
	} {
		t.Run(name, func(t *testing.T) {
			server := serve(t, broken, recorded(200))
			c, _ := client(t, server.url(), fractal.WithAttemptTimeout(shortTime))
			same(t, "attempts", submits(t, c, record(1)).Raw.Attempts, 2)
		})
	}
}

func TestTheTotalBoundCountsWaits(t *testing.T) {
	server := serve(
		t,
		refused(503, "unavailable", "Retry-After", "5"),
		refused(503, "unavailable", "Retry-After", "5"),
	)
	c, _ := client(t, server.url())
	fault := fails(t, c, record(1), fractal.WithTotalTimeout(5*time.Second))
	same(t, "stop", fault.Stop, fractal.StopDeadlineExceeded)
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	_, err := c.Submit(ctx, record(1))
	same(t, "the caller's deadline is one too", errors.As(err, &fault), true)
	same(t, "stop", fault.Stop, fractal.StopDeadlineExceeded)
	same(t, "code", fault.Code, "unavailable")
	same(t, "attempts", fault.Attempts, 1)
}

func TestASuccessThatCannotBeReadIsNotSentAgain(t *testing.T) {
	server := serve(t, step{body: []byte(`{"accepted":`)})
	c, _ := client(t, server.url())
	fault := fails(t, c, record(1))
	same(t, "code", fault.Code, "response_malformed")
	same(t, "stop", fault.Stop, fractal.StopNotRetryable)
	same(t, "requests", len(server.seen()), 1)
}

func TestOneQuotaServesAllCallsOfAClient(t *testing.T) {
	server := serve(t, refused(500, "internal").always())
	policy := fractal.DefaultFailover()
	policy.DownAfter = 1_000_000
	c, _ := client(t, server.url(), fractal.WithFailover(policy))
	var stop string
	for range 20 {
		stop = fails(t, c, record(1)).Stop
	}
	same(t, "stop", stop, fractal.StopQuotaExhausted)
	same(t, "requests", len(server.seen()), 20+500/14)
}

// --- failover -----------------------------------------------------------------------------------

func TestARefusalMovesToTheNextEndpointAndStays(t *testing.T) {
	first, second := serve(t, refused(503, "unavailable")), serve(t, recorded(200).always())
	c, _ := client(t, first.url(), fractal.WithEndpoints(fractal.Endpoint{URL: second.url()}))
	same(t, "attempts", submits(t, c, record(1)).Raw.Attempts, 2)
	same(t, "attempts of the next", submits(t, c, record(2)).Raw.Attempts, 1)
	same(t, "first", len(first.seen()), 1)
	same(t, "body", string(first.seen()[0].body), string(second.seen()[0].body))
	nobody, _ := client(t, gone(t), fractal.WithEndpoints(fractal.Endpoint{URL: second.url()}))
	same(t, "nobody at the first", submits(t, nobody, record(1)).Raw.Attempts, 2)
}

func TestAnAmbiguousResultStaysAtTheEndpoint(t *testing.T) {
	for name, ambiguous := range map[string]step{
		"lost": lost(), "cut": {isCut: true, cut: 20}, "internal": refused(500, "internal"),
	} {
		t.Run(name, func(t *testing.T) {
			first, second := serve(t, ambiguous, recorded(200)), serve(t)
			c, _ := client(
				t,
				first.url(),
				fractal.WithEndpoints(fractal.Endpoint{URL: second.url()}),
			)
			submits(t, c, record(1))
			same(t, "first", len(first.seen()), 2)
			same(t, "second", len(second.seen()), 0)
		})
	}
}

func TestAnEndpointOutsideTheRegionsIsNeverUsed(t *testing.T) {
	first, second := serve(t, refused(503, "unavailable").always()), serve(t)
	policy := fractal.DefaultFailover()
	policy.AllowedRegions = []string{"eu1"}
	c, _ := client(t, first.url(), fractal.WithRegion("eu1"), fractal.WithFailover(policy),
		fractal.WithEndpoints(fractal.Endpoint{URL: second.url(), Region: "us1"}))
	policy.AllowedRegions[0] = "us1" // what was given does not change afterwards
	same(t, "attempts", fails(t, c, record(1)).Attempts, 3)
	same(t, "second", len(second.seen()), 0)
}

func TestAnEndpointThatIsUpAgainIsFoundByProbesAndGoneBackTo(t *testing.T) {
	healthy := step{answer: func(request seen) step {
		if request.path == "/health" {
			return step{body: []byte("{}")}
		}
		return recorded(200).answer(request)
	}}
	first := serve(t, refused(503, "unavailable"), healthy.always())
	second := serve(t, recorded(200).always())
	policy := fractal.DefaultFailover()
	policy.DownAfter, policy.FailbackAfterMs = 1, 60_000
	c, clock := client(t, first.url(), fractal.WithFailover(policy),
		fractal.WithEndpoints(fractal.Endpoint{URL: second.url()}))
	submits(t, c, record(1))
	same(t, "current", c.CurrentForTest(), 1)
	for number := range uint64(18) {
		clock.Advance(15_000)
		submits(t, c, record(number+2))
		c.SettleForTest()
	}
	same(t, "current", c.CurrentForTest(), 0)
	paths := map[string]int{}
	for _, request := range first.seen()[1:] {
		paths[request.path]++
	}
	if paths["/health"] < 2 || paths["/v1/pcs/submit"] < 1 {
		t.Errorf("got %v", paths)
	}
}

// --- get and health -----------------------------------------------------------------------------

func TestGetReadsWithTheToken(t *testing.T) {
	id := pcsIDOf(record(1))
	server := serve(t, step{body: fractaltest.OutcomeBody(fractaltest.Accepted(id))}.always())
	secret := fractal.NewSecret([]byte("t0ken"))
	for _, option := range []fractal.Option{
		fractal.WithToken(secret),
		fractal.WithTokenSource(func() (fractal.Secret, error) { return secret, nil }),
	} {
		c, _ := client(t, server.url(), option)
		outcome, err := c.Get(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		same(t, "id", outcome.PcsID, id)
	}
	for _, request := range server.seen() {
		same(t, "request", request.method+" "+request.path, "GET /v1/pcs/"+id)
		same(t, "token", request.headers["authorization"], "Bearer t0ken")
		same(t, "key", request.headers["idempotency-key"], "")
	}
	away := errors.New("the vault is away")
	c, _ := client(t, server.url(), fractal.WithTokenSource(func() (fractal.Secret, error) {
		return fractal.Secret{}, away
	}))
	_, err := c.Get(t.Context(), id)
	same(t, "no token, no request", errors.Is(err, away), true)
	same(t, "requests", len(server.seen()), 2)
}

func TestMissingIsNotUnavailable(t *testing.T) {
	server := serve(t, refused(404, "not_found"), refused(503, "unavailable").always())
	c, _ := client(t, server.url())
	id := strings.Repeat("a", 64)
	outcome, err := c.Get(t.Context(), id)
	same(t, "missing", errors.Is(err, fractal.ErrNotFound), true)
	same(t, "outcome", outcome == nil, true)
	_, err = c.Get(t.Context(), id)
	same(t, "unavailable", errors.Is(err, fractal.ErrUnavailable), true)
	_, err = c.Get(t.Context(), "not an id")
	same(t, "no id", errors.Is(err, fractal.ErrValidation), true)
	same(t, "requests", len(server.seen()), 4)
}

func TestHealthAsksAllEndpointsAndNeverFails(t *testing.T) {
	well := serve(t, step{body: []byte("{}")})
	sick, mute, dead := serve(t, refused(503, "not_primary")), serve(t, silent()), gone(t)
	c, _ := client(
		t,
		well.url(),
		fractal.WithRegion("eu1"),
		fractal.WithHealthTimeoutForTest(shortTime),
		fractal.WithEndpoints(fractal.Endpoint{URL: sick.url()}, fractal.Endpoint{URL: dead},
			fractal.Endpoint{URL: mute.url()}),
	)
	want := []fractal.EndpointHealth{
		{URL: well.url(), Region: "eu1", OK: true, Status: 200},
		{URL: sick.url(), Status: 503, Code: "not_primary"},
		{URL: dead, Code: "connect_failed"},
		{URL: mute.url(), Code: "attempt_timeout"},
	}
	if got := c.Health(t.Context()); !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	same(t, "path", well.seen()[0].path, "/health")
	same(t, "tenant", well.seen()[0].headers["x-tenant-id"], "")
}

func TestTheNamesOfTheSeedsAreAliases(t *testing.T) {
	c, _ := client(t, serve(t, recorded(200), step{body: []byte("{}")}).url())
	submitted, err := c.SubmitPCS(t.Context(), record(1))
	if err != nil || !submitted.Outcome.Accepted {
		t.Error(err)
	}
	same(t, "health", c.HealthCheck(t.Context())[0].OK, true)
}
