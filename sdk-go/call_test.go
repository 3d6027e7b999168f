package fractal

// The core of a call, stepped by hand: no goroutine, no socket, no clock.

import (
	"fmt"
	"reflect"
	"strings"
	"testing"
)

const (
	callNowMs = 1_767_225_600_000
	endpointA = "https://a.example"
	endpointB = "https://b.example"
)

func callRecord(epoch uint64) Record {
	return Record{
		MerkleRoot: strings.Repeat("c3", 32), Epoch: epoch, ShardID: "shard-001",
		SentAt: "2026-01-15T12:00:00Z", Scales: []int64{2, 4, 8, 16},
		NJ:   map[string]int64{"2": 4, "4": 16, "8": 64, "16": 256},
		DHat: 2, CohStar: 0.5, VStar: []float64{0.6, 0.8}, R: 0.5, Regime: Mixed, Budget: 0.35,
	}
}

func callSigned(t testing.TB) *SignedRecord {
	t.Helper()
	signer, err := NewHMACSigner([]byte(strings.Repeat("k", 32)), "k1")
	if err != nil {
		t.Fatal(err)
	}
	signed, err := Sign(callRecord(7), signer, "acme")
	if err != nil {
		t.Fatal(err)
	}
	return signed
}

// outcomeText is an outcome as a server stores it.
func outcomeText(pcsID string, accepted bool) []byte {
	reason := ""
	if !accepted {
		reason = `"reason":"n_j_implausible",`
	}
	return fmt.Appendf(
		nil,
		`{"accepted":%t,"escalated":%t,"first_seen":{"hlc":"019b76da35b10000",`+
			`"region":"fra"},"pcs_id":"%s","policy_version":"0123456789abcdef",%s`+
			`"recomputed_D_hat":2,"recomputed_budget":0.35}`,
		accepted,
		!accepted,
		pcsID,
		reason,
	)
}

func okAnswer(signed *SignedRecord, status int, headers ...[2]string) *RawResponse {
	return &RawResponse{status, headers, outcomeText(signed.PcsID, status == 200)}
}

func noAnswer(status int, headers ...[2]string) *RawResponse {
	return &RawResponse{Status: status, Headers: headers}
}

func lostAnswer(code string) *Error { return newError(code, "scripted") }

// callPlay steps a machine: answers to sends come from the script, time passes in waits alone.
type callPlay struct {
	script      []any // *RawResponse, *Error, or func() any
	u           float64
	nowMs       int64
	monotonicMs int64
	attemptMs   int64 // how long each attempt takes
	overMs      int64 // how much longer than asked each sleep takes
	enter       *Error
	sleep       *Error

	effects []effect
}

func newPlay(script ...any) *callPlay {
	return &callPlay{script: script, u: 0.5, nowMs: callNowMs, monotonicMs: 1_000}
}

func (p *callPlay) run(call machine) {
	var now turn
	for effects := call.step(now); len(effects) > 0; effects = call.step(now) {
		for _, each := range effects {
			p.effects = append(p.effects, each)
			now = turn{answer: p.answer(each)}
			now.nowMs, now.monotonicMs, now.u = p.nowMs, p.monotonicMs, p.u
		}
	}
}

func (p *callPlay) answer(e effect) any {
	switch e := e.(type) {
	case sendEffect:
		p.pass(p.attemptMs)
		next := p.script[0]
		p.script = p.script[1:]
		if act, isFunction := next.(func() any); isFunction {
			return act()
		}
		if fault, isFault := next.(*Error); isFault {
			again := *fault
			return &again
		}
		return next
	case sleepEffect:
		p.pass(e.waitMs + p.overMs)
		return orNil(p.sleep)
	case enterEffect:
		return orNil(p.enter)
	}
	return nil
}

func orNil(fault *Error) any {
	if fault == nil {
		return nil
	}
	again := *fault
	return &again
}

func (p *callPlay) pass(stepMs int64) {
	p.nowMs += stepMs
	p.monotonicMs += stepMs
}

func effectsOf[T any](p *callPlay) []T {
	var found []T
	for _, each := range p.effects {
		if one, is := each.(T); is {
			found = append(found, one)
		}
	}
	return found
}

func told[T any](p *callPlay) []T {
	var found []T
	for _, each := range effectsOf[tellEffect](p) {
		if one, is := each.event.(T); is {
			found = append(found, one)
		}
	}
	return found
}

func (p *callPlay) urls() []string {
	var urls []string
	for _, each := range effectsOf[sendEffect](p) {
		urls = append(urls, strings.TrimSuffix(each.request.URL, "/v1/pcs/submit"))
	}
	return urls
}

func (p *callPlay) waitsMs() []int64 {
	var waits []int64
	for _, each := range effectsOf[sleepEffect](p) {
		waits = append(waits, each.waitMs)
	}
	return waits
}

// calls makes submits of one client.
type calls struct {
	t       testing.TB
	signed  *SignedRecord
	state   *callState
	bounds  callBounds
	totalMs int64
}

func newCalls(t testing.TB, change func(*FailoverPolicy), urls ...string) *calls {
	t.Helper()
	policy := DefaultFailover()
	if change != nil {
		change(&policy)
	}
	if len(urls) == 0 {
		urls = []string{endpointA}
	}
	var endpoints []Endpoint
	for _, url := range urls {
		endpoints = append(endpoints, Endpoint{URL: url})
	}
	fleet, err := NewFleet(endpoints, policy)
	if err != nil {
		t.Fatal(err)
	}
	return &calls{
		t: t, signed: callSigned(t), state: newCallState(fleet), totalMs: 60_000,
		bounds: callBounds{DefaultRetry(), 5_000, 10_000, DefaultResponseLimits()},
	}
}

func (c *calls) submit() *exchange[*Submitted] {
	spec := submitSpec(c.signed, RequestFacts{Agent: "agent", Tenant: "acme"})
	return newExchange(spec, c.state, c.bounds, 1_000+c.totalMs, "agent")
}

func (c *calls) run(p *callPlay) *Submitted {
	c.t.Helper()
	call := c.submit()
	p.run(call)
	if call.err != nil {
		c.t.Fatalf("expected a result, got %v (%s)", call.err, call.err.Stop)
	}
	return call.value
}

func (c *calls) fails(p *callPlay) *Error {
	c.t.Helper()
	call := c.submit()
	p.run(call)
	if call.err == nil {
		c.t.Fatal("expected an error, got a result")
	}
	return call.err
}

func equal[T any](t testing.TB, what string, got, want T) {
	t.Helper()
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%s: got %v, want %v", what, got, want)
	}
}

// --- one attempt ----------------------------------------------------------------------------

func TestARecordedSubmitIsAResult(t *testing.T) {
	for _, status := range []int{200, 202} {
		c := newCalls(t, nil)
		p := newPlay(okAnswer(c.signed, status,
			[2]string{"Idempotency-Replayed", "true"}, [2]string{"X-Request-Id", "r1"}))
		submitted := c.run(p)
		equal(t, "accepted", submitted.Outcome.Accepted, status == 200)
		equal(t, "replayed", submitted.Replayed, true)
		equal(t, "status", submitted.Raw.Status, status)
		equal(t, "attempts", submitted.Raw.Attempts, 1)
		equal(t, "waits", len(p.waitsMs()), 0)
	}
}

func TestEveryResultEndsAsTheTableSays(t *testing.T) {
	for _, one := range []struct {
		answer   any
		code     string
		stop     string
		attempts int
	}{
		{noAnswer(400), "bad_request", StopNotRetryable, 1},
		{noAnswer(401), "unauthorized", StopNotRetryable, 1},
		{noAnswer(403), "forbidden", StopNotRetryable, 1},
		{noAnswer(404), "not_found", StopNotRetryable, 1},
		{noAnswer(405), "method_not_allowed", StopNotRetryable, 1},
		{noAnswer(408), "request_timeout", StopAttemptsExhausted, 3},
		{noAnswer(409), "pcs_id_conflict", StopNotRetryable, 1},
		{noAnswer(413), "payload_too_large", StopNotRetryable, 1},
		{noAnswer(415), "unsupported_media_type", StopNotRetryable, 1},
		{noAnswer(421), "wrong_region", StopNotRetryable, 1},
		{noAnswer(422), "unprocessable", StopNotRetryable, 1},
		{noAnswer(423), "frozen", StopNotRetryable, 1},
		{noAnswer(425), "too_early", StopAttemptsExhausted, 3},
		{noAnswer(429), "rate_limited", StopAttemptsExhausted, 3},
		{noAnswer(431), "header_too_large", StopNotRetryable, 1},
		{noAnswer(500), "internal", StopAttemptsExhausted, 3},
		{noAnswer(502), "bad_gateway", StopAttemptsExhausted, 3},
		{noAnswer(503), "unavailable", StopAttemptsExhausted, 3},
		{noAnswer(504), "gateway_timeout", StopAttemptsExhausted, 3},
		{noAnswer(302), "response_malformed", StopNotRetryable, 1},
		{noAnswer(204), "response_malformed", StopNotRetryable, 1},
		{lostAnswer("connect_failed"), "connect_failed", StopAttemptsExhausted, 3},
		{lostAnswer("connection_lost"), "connection_lost", StopAttemptsExhausted, 3},
		{lostAnswer("attempt_timeout"), "attempt_timeout", StopAttemptsExhausted, 3},
		{lostAnswer("tls_failed"), "tls_failed", StopNotRetryable, 1},
		{lostAnswer("response_too_large"), "response_too_large", StopNotRetryable, 1},
		{&RawResponse{Status: 200, Body: []byte("{")}, "response_malformed", StopNotRetryable, 1},
	} {
		t.Run(one.code, func(t *testing.T) {
			p := newPlay(one.answer, one.answer, one.answer)
			fault := newCalls(t, nil).fails(p)
			equal(t, "code", fault.Code, one.code)
			equal(t, "stop", fault.Stop, one.stop)
			equal(t, "attempts", fault.Attempts, one.attempts)
			equal(t, "sends", len(effectsOf[sendEffect](p)), one.attempts)
			equal(t, "stops told", told[stopEvent](p), []stopEvent{{"submit", fault}})
		})
	}
}

func TestLimitsOnTheResponseAreThoseOfTheClient(t *testing.T) {
	c := newCalls(t, nil)
	c.bounds.limits.Bytes = 10
	equal(t, "bytes", c.fails(newPlay(okAnswer(c.signed, 200))).Code, "response_too_large")
	c.bounds.limits = ResponseLimits{1 << 20, 1}
	many := okAnswer(c.signed, 200, [2]string{"A", "1"}, [2]string{"B", "2"})
	equal(t, "headers", c.fails(newPlay(many)).Code, "response_too_large")
}

// --- retries ----------------------------------------------------------------------------------

func sentHeaders(request Request) map[string]string {
	found := map[string]string{}
	for _, header := range request.Headers {
		found[header[0]] = header[1]
	}
	return found
}

func TestEveryAttemptSendsTheSameBytesUnderTheSameKey(t *testing.T) {
	c := newCalls(t, nil)
	p := newPlay(noAnswer(500), lostAnswer("connection_lost"), okAnswer(c.signed, 200))
	equal(t, "attempts", c.run(p).Raw.Attempts, 3)
	for number, sent := range effectsOf[sendEffect](p) {
		headers := sentHeaders(sent.request)
		equal(t, "body", string(sent.request.Body), string(c.signed.Body))
		equal(t, "key", headers["Idempotency-Key"], c.signed.Content)
		equal(t, "attempt", headers["X-Retry-Attempt"], []string{"", "1", "2"}[number])
	}
}

func TestWaitsHaveFullJitterAndDouble(t *testing.T) {
	c := newCalls(t, nil)
	p := newPlay(noAnswer(500), noAnswer(500), okAnswer(c.signed, 200))
	c.run(p)
	equal(t, "waits", p.waitsMs(), []int64{250, 500})
	equal(t, "retries told", told[RetryEvent](p), []RetryEvent{
		{"submit", 1, 250, "internal"}, {"submit", 2, 500, "internal"},
	})
}

func TestRetryAfterIsAFloorOfTheCall(t *testing.T) {
	c := newCalls(t, nil)
	p := newPlay(noAnswer(429, [2]string{"Retry-After", "7"}), okAnswer(c.signed, 200))
	c.run(p)
	equal(t, "waits", p.waitsMs(), []int64{7_250})
}

func TestAWaitThatDoesNotFitIsNotBegun(t *testing.T) {
	c := newCalls(t, nil)
	c.totalMs = 7_000
	p := newPlay(noAnswer(503, [2]string{"Retry-After", "7"}))
	fault := c.fails(p)
	equal(t, "stop", fault.Stop, StopDeadlineExceeded)
	equal(t, "code", fault.Code, "unavailable")
	equal(t, "retry after", fault.RetryAfterMs, int64(7_000))
	equal(t, "waits", len(p.waitsMs()), 0)
}

func TestAnAttemptGetsNoMoreTimeThanTheCallHasLeft(t *testing.T) {
	c := newCalls(t, nil)
	c.totalMs = 2_000
	p := newPlay(noAnswer(500), noAnswer(500), okAnswer(c.signed, 200))
	p.attemptMs, p.u = 900, 0
	c.run(p)
	var bounds [][2]int64
	for _, sent := range effectsOf[sendEffect](p) {
		bounds = append(bounds, [2]int64{sent.connectTimeoutMs, sent.attemptTimeoutMs})
	}
	equal(t, "bounds", bounds, [][2]int64{{2_000, 2_000}, {1_100, 1_100}, {200, 200}})
}

func TestASleepThatRanLateEndsTheCallWithTheLastError(t *testing.T) {
	p := newPlay(noAnswer(500))
	p.overMs = 100_000
	fault := newCalls(t, nil).fails(p)
	equal(t, "code", fault.Code, "internal")
	equal(t, "stop", fault.Stop, StopDeadlineExceeded)
	equal(t, "attempts", fault.Attempts, 1)
}

func TestACallThatWaitedTooLongForItsPlaceSendsNothing(t *testing.T) {
	p := newPlay()
	p.monotonicMs = 61_000
	fault := newCalls(t, nil).fails(p)
	equal(t, "code", fault.Code, "deadline_exceeded")
	equal(t, "stop", fault.Stop, StopDeadlineExceeded)
	equal(t, "attempts", fault.Attempts, 0)
}

func TestACallThatIsCutShortEndsWithTheReason(t *testing.T) {
	for _, code := range []string{"cancelled", "deadline_exceeded"} {
		entering := newPlay()
		entering.enter = lostAnswer(code)
		fault := newCalls(t, nil).fails(entering)
		equal(t, "entering", []any{fault.Code, fault.Stop, fault.Attempts}, []any{code, code, 0})

		sleeping := newPlay(noAnswer(500))
		sleeping.sleep = lostAnswer(code)
		fault = newCalls(t, nil).fails(sleeping)
		equal(t, "sleeping", []any{fault.Code, fault.Stop, fault.Attempts}, []any{code, code, 1})
	}
	c := newCalls(t, nil)
	fault := c.fails(newPlay(lostAnswer("cancelled")))
	equal(t, "sending", []any{fault.Stop, fault.Attempts}, []any{StopCancelled, 1})
	equal(t, "a cancel says nothing about the endpoint", c.state.fleet.State(0), "up")
}

func TestTheQuotaIsSharedByTheCallsOfAClient(t *testing.T) {
	c := newCalls(t, func(p *FailoverPolicy) { p.DownAfter = 10_000 })
	c.state.quota = 14
	fault := c.fails(newPlay(noAnswer(500), noAnswer(500)))
	equal(t, "stop", fault.Stop, StopQuotaExhausted)
	equal(t, "attempts", fault.Attempts, 2)
	equal(t, "quota", c.state.quota, 0)
	c.run(newPlay(okAnswer(c.signed, 200)))
	equal(t, "quota after a success", c.state.quota, 1)
}

func TestWhatARetryTookIsGivenBackWhenItSucceeds(t *testing.T) {
	c := newCalls(t, nil)
	c.run(newPlay(noAnswer(500), noAnswer(429), okAnswer(c.signed, 200)))
	equal(t, "quota", c.state.quota, 500-14-5+5)
}

func TestOneAttemptMeansOne(t *testing.T) {
	c := newCalls(t, nil)
	c.bounds.retry = NoRetry()
	equal(t, "stop", c.fails(newPlay(noAnswer(503))).Stop, StopAttemptsExhausted)
}
