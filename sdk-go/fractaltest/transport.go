// Package fractaltest tests programs that use package fractal: a clock that waits in no time, a
// random source that repeats itself, a transport that plays a script.
//
//	clock := fractaltest.NewFakeClock(fractaltest.StartMs)
//	script := fractaltest.NewScriptedTransport(clock,
//		fractaltest.Reply{Status: 503},
//		fractaltest.Recorded())
//	client, err := fractal.New("https://eu.example", signer, fractal.WithTenant("acme"),
//		fractal.WithClock(clock), fractal.WithTransport(script),
//		fractal.WithRandom(fractaltest.NewSeededRandom(1)))
package fractaltest

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"time"

	fractal "fractal-lba.example/sdk-go"
)

// Step is one answer of a script: a Reply, a Fault, or a StepFunc.
type Step interface{ of(fractal.Request) Step }

// Reply answers a request, after DelayMs of the clock.
type Reply struct {
	Status  int
	Headers [][2]string
	Body    []byte
	DelayMs int64
}

// Fault fails a request with one of the codes that a transport may give, after DelayMs of the
// clock.
type Fault struct {
	Code    string
	DelayMs int64
}

// StepFunc chooses the step by the request; it must give a Reply or a Fault.
type StepFunc func(fractal.Request) Step

func (r Reply) of(fractal.Request) Step            { return r }
func (f Fault) of(fractal.Request) Step            { return f }
func (s StepFunc) of(request fractal.Request) Step { return s(request) }

// ScriptedTransport answers requests from a script, one step each. It is a fractal.Transport, safe
// for concurrent use. A script that has run out is config_invalid, which no call repeats: the
// program sent more than the test expects.
type ScriptedTransport struct {
	clock    *FakeClock
	mu       sync.Mutex
	script   []Step
	requests []fractal.Request
}

// NewScriptedTransport makes a transport whose delays pass on the clock.
func NewScriptedTransport(clock *FakeClock, script ...Step) *ScriptedTransport {
	return &ScriptedTransport{clock: clock, script: script}
}

// Requests gives what was sent, in order.
func (t *ScriptedTransport) Requests() []fractal.Request {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.Clone(t.requests)
}

// Send plays the next step. A delay past the bound of the attempt is an attempt_timeout.
func (t *ScriptedTransport) Send(
	ctx context.Context, request fractal.Request, bounds fractal.SendBounds,
) (fractal.RawResponse, error) {
	if ctx.Err() != nil {
		return fractal.RawResponse{}, fractal.CallError(ctx)
	}
	step, err := t.next(request)
	if err != nil {
		return fractal.RawResponse{}, err
	}
	limitMs := int64(bounds.Attempt / time.Millisecond)
	fault, isFault := step.(Fault)
	reply, isReply := step.(Reply)
	delayMs := fault.DelayMs + reply.DelayMs
	t.clock.Advance(min(delayMs, limitMs))
	switch {
	case delayMs > limitMs:
		return fractal.RawResponse{}, failed("attempt_timeout", request)
	case isFault:
		return fractal.RawResponse{}, failed(fault.Code, request)
	case !isReply:
		return fractal.RawResponse{}, broken("expected a Reply or a Fault, got %T", step)
	}
	return fractal.RawResponse{
		Status: reply.Status, Headers: slices.Clone(reply.Headers), Body: slices.Clone(reply.Body),
	}, nil
}

func (t *ScriptedTransport) next(request fractal.Request) (Step, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.requests = append(t.requests, request)
	if len(t.script) == 0 {
		return nil, broken("the script ended before request %d", len(t.requests))
	}
	step := t.script[0]
	t.script = t.script[1:]
	return step.of(request), nil
}

func failed(code string, request fractal.Request) error {
	return &fractal.Error{
		Code: code, Message: fmt.Sprintf("scripted for %s %s", request.Method, request.URL),
	}
}

func broken(format string, args ...any) error {
	return &fractal.Error{Code: "config_invalid", Message: fmt.Sprintf(format, args...)}
}

// --- what a server says ---------------------------------------------------------------------

// Accepted is an outcome as a server stores it that found no fault.
func Accepted(pcsID string) fractal.Outcome {
	return fractal.Outcome{
		Accepted:         true,
		FirstSeen:        fractal.FirstSeen{Region: "fra", HLC: "019b76da35b10000"},
		PcsID:            pcsID,
		PolicyVersion:    "0123456789abcdef",
		RecomputedDHat:   2,
		RecomputedBudget: 0.35,
	}
}

// OutcomeBody writes an outcome as the body of an answer.
func OutcomeBody(outcome fractal.Outcome) []byte {
	members := map[string]any{
		"accepted": outcome.Accepted, "escalated": outcome.Escalated,
		"first_seen": map[string]string{
			"hlc": outcome.FirstSeen.HLC, "region": outcome.FirstSeen.Region,
		},
		"pcs_id": outcome.PcsID, "policy_version": outcome.PolicyVersion,
		"recomputed_D_hat":  outcome.RecomputedDHat,
		"recomputed_budget": outcome.RecomputedBudget,
	}
	if outcome.Reason != "" {
		members["reason"] = outcome.Reason
	}
	body, err := json.Marshal(members) // in the order of RFC 8785: the names are ASCII
	if err != nil {                    // a number that is none; no outcome has one
		return nil
	}
	return body
}

// Recorded answers a submit as a server does that recorded and accepted the record.
func Recorded() Step {
	return StepFunc(func(request fractal.Request) Step {
		signed, err := fractal.ParseSigned(request.Body)
		if err != nil {
			return Reply{Status: 422}
		}
		return Reply{Status: 200, Body: OutcomeBody(Accepted(signed.PcsID))}
	})
}
