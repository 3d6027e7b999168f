package fractaltest_test

// The tools for tests are themselves tested: they are public API.

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	fractal "fractal-lba.example/sdk-go"
	"fractal-lba.example/sdk-go/fractaltest"
)

var request = fractal.Request{Method: "GET", URL: "https://a.example/health"}

func send(ctx context.Context, transport fractal.Transport) (fractal.RawResponse, string) {
	raw, err := transport.Send(ctx, request,
		fractal.SendBounds{Connect: time.Second, Attempt: 2 * time.Second})
	var fault *fractal.Error
	if errors.As(err, &fault) {
		return raw, fault.Code
	}
	return raw, ""
}

func TestAFakeClockMovesOnlyWhenTold(t *testing.T) {
	clock := fractaltest.NewFakeClock(fractaltest.StartMs)
	var _ fractal.Clock = clock
	clock.Advance(5)
	clock.Advance(-5)
	ctx, cancel := context.WithCancel(t.Context())
	for _, waitMs := range []int64{7, 8, -1} {
		if err := clock.Wait(ctx, waitMs); err != nil {
			t.Fatal(err)
		}
	}
	cancel()
	if err := clock.Wait(ctx, 9); !errors.Is(err, context.Canceled) {
		t.Errorf("a wait that was cancelled: got %v", err)
	}
	if clock.NowMs() != fractaltest.StartMs+20 || clock.MonotonicMs() != clock.NowMs() {
		t.Errorf("got %d", clock.NowMs())
	}
	if waits := clock.WaitsMs(); !slices.Equal(waits, []int64{7, 8, -1}) {
		t.Errorf("got %v", waits)
	}
}

func TestSeededNumbersAreThoseOfEveryLanguage(t *testing.T) {
	var drawn fractal.Random = fractaltest.NewSeededRandom(0)
	for _, want := range []float64{0.8833108082136426, 0.43152799704850997} {
		if got := drawn.Float64(); got != want {
			t.Errorf("got %v, want %v", got, want)
		}
	}
	sum := 0.0
	for range 2000 {
		u := drawn.Float64()
		if u < 0 || u >= 1 {
			t.Fatalf("got %v", u)
		}
		sum += u
	}
	if mean := sum / 2000; mean < 0.47 || mean > 0.53 {
		t.Errorf("mean %v", mean)
	}
}

func TestAScriptIsPlayedInOrderAndItsEndIsTold(t *testing.T) {
	clock := fractaltest.NewFakeClock(0)
	transport := fractaltest.NewScriptedTransport(clock,
		fractaltest.Reply{Status: 503, Headers: [][2]string{{"Retry-After", "1"}}, DelayMs: 30},
		fractaltest.StepFunc(func(r fractal.Request) fractaltest.Step {
			return fractaltest.Reply{Status: 200, Body: []byte(r.URL)}
		}),
		fractaltest.Fault{Code: "connection_lost", DelayMs: 9},
		fractaltest.Reply{Status: 200, DelayMs: 2_001},
		fractaltest.StepFunc(func(fractal.Request) fractaltest.Step { return nil }),
	)
	for _, want := range []string{
		"503 ", "200 https://a.example/health", "connection_lost", "attempt_timeout",
		"config_invalid", "config_invalid",
	} {
		raw, got := send(t.Context(), transport)
		if got == "" {
			got = fmt.Sprintf("%d %s", raw.Status, raw.Body)
		}
		if got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
	if clock.NowMs() != 30+9+2_000 || len(transport.Requests()) != 6 {
		t.Errorf("got %d ms, %d requests", clock.NowMs(), len(transport.Requests()))
	}
}

func TestARequestOfAnEndedContextIsNotSent(t *testing.T) {
	transport := fractaltest.NewScriptedTransport(
		fractaltest.NewFakeClock(0),
		fractaltest.Reply{Status: 204},
	)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, code := send(ctx, transport); code != "cancelled" || len(transport.Requests()) != 0 {
		t.Errorf("got %q", code)
	}
	if raw, _ := send(t.Context(), transport); raw.Status != 204 {
		t.Errorf("got %d", raw.Status)
	}
}

func TestAnOutcomeBodyIsAnOutcome(t *testing.T) {
	accepted := fractaltest.Accepted(strings.Repeat("a", 64))
	refused := accepted
	refused.Accepted, refused.Escalated, refused.Reason = false, true, fractal.ReasonCounts
	for _, want := range []fractal.Outcome{accepted, refused} {
		body := fractaltest.OutcomeBody(want)
		got, err := fractal.ParseOutcome(body, fractal.MaxResponseBytes)
		if err != nil || *got != want {
			t.Errorf("got %v, %v", got, err)
		}
		document, err := fractal.Parse(body)
		if err != nil {
			t.Fatal(err)
		}
		if canonical, err := fractal.JCS(document); err != nil ||
			string(canonical) != string(body) {
			t.Errorf("got %s, want %s (%v)", body, canonical, err)
		}
	}
}

func TestRecordedAnswersWithTheIDThatWasSentAndRefusesWhatIsNoRecord(t *testing.T) {
	transport := fractaltest.NewScriptedTransport(
		fractaltest.NewFakeClock(0),
		fractaltest.Recorded(),
	)
	if raw, _ := send(t.Context(), transport); raw.Status != 422 {
		t.Errorf("got %d", raw.Status)
	}
}
