package fractal

// The core of a call: endpoints, probes, and calls other than a submit.

import (
	"errors"
	"fmt"
	"maps"
	"strings"
	"testing"
)

func TestARefusalFailsOverAtOnceAndSuccessIsSticky(t *testing.T) {
	for _, first := range []any{noAnswer(503), lostAnswer("connect_failed")} {
		c := newCalls(t, nil, endpointA, endpointB)
		p := newPlay(first, okAnswer(c.signed, 200))
		c.run(p)
		equal(t, "endpoints", p.urls(), []string{endpointA, endpointB})
		equal(t, "told", told[FailoverEvent](p), []FailoverEvent{{endpointA, endpointB}})
		again := newPlay(okAnswer(c.signed, 200))
		c.run(again)
		equal(t, "the next call", again.urls(), []string{endpointB})
	}
}

func TestRetryAfterDoesNotBindAnotherEndpoint(t *testing.T) {
	c := newCalls(t, nil, endpointA, endpointB)
	p := newPlay(noAnswer(503, [2]string{"Retry-After", "90"}), okAnswer(c.signed, 200))
	c.run(p)
	equal(t, "endpoints", p.urls(), []string{endpointA, endpointB})
	equal(t, "waits", p.waitsMs(), []int64{250})
}

func TestAfterAnAmbiguousResultTheSameEndpointIsAskedUntilItIsDown(t *testing.T) {
	for _, fault := range []any{
		lostAnswer("connection_lost"), lostAnswer("attempt_timeout"), noAnswer(500),
	} {
		c := newCalls(t, nil, endpointA, endpointB)
		c.bounds.retry.MaxAttempts = 4
		p := newPlay(fault, fault, fault, okAnswer(c.signed, 200))
		c.run(p)
		equal(t, "endpoints", p.urls(), []string{endpointA, endpointA, endpointA, endpointB})
	}
}

func TestAnAmbiguousCallStaysAlthoughAnotherCallHasMovedOn(t *testing.T) {
	c := newCalls(t, nil, endpointA, endpointB)
	othersMove := func() any {
		c.run(newPlay(noAnswer(503), okAnswer(c.signed, 200)))
		return noAnswer(500)
	}
	p := newPlay(othersMove, okAnswer(c.signed, 200))
	c.run(p)
	equal(t, "current", c.state.fleet.Current(), 1)
	equal(t, "endpoints", p.urls(), []string{endpointA, endpointA})
}

func TestAQuotaIsTheTenantsEverywhere(t *testing.T) {
	c := newCalls(t, nil, endpointA, endpointB)
	p := newPlay(noAnswer(429), okAnswer(c.signed, 200))
	c.run(p)
	equal(t, "endpoints", p.urls(), []string{endpointA, endpointA})
}

func hintTo(url, shouldRetry string) *RawResponse {
	body := fmt.Appendf(nil, `{"code":"not_leader","status":421,`+
		`"leader_hint":{"endpoint":%q,"region_epoch":1}}`, url)
	return &RawResponse{421, [][2]string{{"X-Should-Retry", shouldRetry}}, body}
}

func TestAHintLeadsToAConfiguredEndpointOnly(t *testing.T) {
	c := newCalls(t, nil, endpointA, endpointB)
	p := newPlay(hintTo(endpointB, "true"), okAnswer(c.signed, 200))
	c.run(p)
	equal(t, "endpoints", p.urls(), []string{endpointA, endpointB})
	c = newCalls(t, nil, endpointA, endpointB)
	p = newPlay(hintTo("https://c.example", "true"), okAnswer(c.signed, 200))
	c.run(p)
	equal(t, "a stranger", p.urls(), []string{endpointA, endpointA})
	c = newCalls(t, nil, endpointA, endpointB)
	fault := c.fails(newPlay(hintTo(endpointB, "false")))
	equal(
		t,
		"without leave",
		[]string{fault.Code, fault.Stop},
		[]string{"not_leader", StopServerRefused},
	)
}

func TestHintsAreFollowedABoundedNumberOfTimes(t *testing.T) {
	c := newCalls(t, nil, endpointA, endpointB)
	c.bounds.retry.MaxAttempts = 5
	a, b := hintTo(endpointA, "true"), hintTo(endpointB, "true")
	p := newPlay(b, a, b, a, okAnswer(c.signed, 200))
	c.run(p)
	equal(t, "endpoints", p.urls(),
		[]string{endpointA, endpointB, endpointA, endpointB, endpointB})
}

// --- probes -----------------------------------------------------------------------------------

func leftA(t *testing.T) *calls {
	t.Helper()
	c := newCalls(t, func(p *FailoverPolicy) { p.DownAfter = 1 }, endpointA, endpointB)
	c.run(newPlay(noAnswer(503), okAnswer(c.signed, 200)))
	return c
}

func TestADownEndpointIsProbedBesideTheCallsThatFollow(t *testing.T) {
	c := leftA(t)
	for _, one := range []struct{ afterMs, probes int64 }{{5_000, 0}, {20_000, 1}, {30_000, 0}} {
		p := newPlay(okAnswer(c.signed, 200))
		p.nowMs += one.afterMs
		c.run(p)
		probes := effectsOf[probeEffect](p)
		equal(t, fmt.Sprintf("probes after %d ms, one at a time", one.afterMs),
			int64(len(probes)), one.probes)
		for _, probe := range probes {
			equal(t, "url", probe.request.URL, endpointA+"/health")
			equal(t, "timeout", probe.timeoutMs, int64(2_000))
		}
	}
}

func TestGoodProbesBringAnEndpointUpAndBadOnesDoNot(t *testing.T) {
	c := leftA(t)
	good := &RawResponse{Status: 200}
	var states []string
	for number, answer := range []any{
		good, noAnswer(503), lostAnswer("connect_failed"), good, lostAnswer("cancelled"), good,
	} {
		c.state.probing[0] = true
		c.state.probed(0, turn{callNowMs + 20_000*int64(number), 0, 0.5, answer})
		states = append(states, c.state.fleet.State(0))
	}
	equal(t, "states", states, []string{"down", "down", "down", "down", "down", "up"})
	equal(t, "probing", c.state.probing, map[int]bool{})
}

// --- other calls ------------------------------------------------------------------------------

func TestGetReadsTheOutcomeAndKnowsMissingFromUnavailable(t *testing.T) {
	c := newCalls(t, nil)
	get := func(answers ...any) (*Outcome, *Error) {
		spec := getSpec(c.signed.PcsID, RequestFacts{Agent: "agent"})
		call := newExchange(spec, c.state, c.bounds, 61_000, "agent")
		newPlay(answers...).run(call)
		return call.value, call.err
	}
	outcome, _ := get(okAnswer(c.signed, 200))
	equal(t, "id", outcome.PcsID, c.signed.PcsID)
	_, missing := get(noAnswer(404))
	equal(t, "missing", errors.Is(missing, ErrNotFound), true)
	_, away := get(noAnswer(503), noAnswer(503), noAnswer(503))
	equal(t, "away", errors.Is(away, ErrUnavailable), true)
}

func TestARequestThatCannotBeBuiltIsNotSent(t *testing.T) {
	c := newCalls(t, nil)
	spec := submitSpec(c.signed, RequestFacts{Agent: "line\nend"})
	call := newExchange(spec, c.state, c.bounds, 61_000, "agent")
	p := newPlay()
	p.run(call)
	equal(t, "code", call.err.Code, "config_invalid")
	equal(t, "sends", len(effectsOf[sendEffect](p)), 0)

	away := leftA(t)
	spec = submitSpec(away.signed, RequestFacts{Agent: "agent"})
	call = newExchange(spec, away.state, away.bounds, 61_000, "line\nend")
	p = newPlay()
	p.nowMs += 60_000 // a probe is due
	p.run(call)
	equal(t, "code of a probe", call.err.Code, "config_invalid")
	equal(t, "probing", away.state.probing, map[int]bool{})
}

func TestHealthReadsAnyAnswer(t *testing.T) {
	for _, one := range []struct {
		answer *RawResponse
		fault  *Error
		want   EndpointHealth
	}{
		{&RawResponse{Status: 200}, nil, EndpointHealth{endpointA, "eu", true, 200, ""}},
		{noAnswer(503), nil, EndpointHealth{endpointA, "eu", false, 503, "unavailable"}},
		{noAnswer(302), nil, EndpointHealth{endpointA, "eu", false, 302, "response_malformed"}},
		{noAnswer(204), nil, EndpointHealth{endpointA, "eu", false, 204, ""}},
		{nil, lostAnswer("tls_failed"), EndpointHealth{endpointA, "eu", false, 0, "tls_failed"}},
	} {
		got := readHealth(Endpoint{endpointA, "eu"}, one.answer, one.fault, callNowMs)
		equal(t, "health", got, one.want)
	}
}

func TestAttemptsAreToldWithoutWhatMayNotBeLogged(t *testing.T) {
	c := newCalls(t, nil)
	p := newPlay(okAnswer(c.signed, 200, [2]string{"X-Request-Id", "r1"},
		[2]string{"Set-Cookie", "s"}, [2]string{"Retry-After", "0"}))
	p.attemptMs = 12
	c.run(p)
	equal(t, "event", told[AttemptEvent](p), []AttemptEvent{{
		Call: "submit", Method: "POST", URL: endpointA + "/v1/pcs/submit", Attempt: 1,
		ElapsedMs: 12, Status: 200, RequestID: "r1",
		RequestHeaders: map[string]string{
			"content-type": "application/json", "idempotency-key": c.signed.Content,
		},
		ResponseHeaders: map[string]string{"x-request-id": "r1", "retry-after": "0"},
	}})
}

func TestAnErrorThatIsNoneOfOursIsALostConnection(t *testing.T) {
	foreign := errors.New("foreign text")
	fault := asError(foreign)
	equal(t, "code", fault.Code, "connection_lost")
	equal(t, "cause", errors.Is(fault, foreign), true)
	equal(t, "text", strings.Contains(fault.Error(), "foreign text"), false)
}

func TestDrawsAreMadeAfterTheSameEffectsAsInTheOtherSDKs(t *testing.T) {
	drawn := map[string]bool{}
	for _, each := range []effect{
		sendEffect{}, enterEffect{}, probeEffect{}, sleepEffect{}, tellEffect{},
	} {
		if isDrawing(each) {
			drawn[fmt.Sprintf("%T", each)] = true
		}
	}
	want := map[string]bool{
		"fractal.sendEffect": true, "fractal.enterEffect": true, "fractal.probeEffect": true,
	}
	equal(t, "drawing", maps.Equal(drawn, want), true)
}
