package fractal

import (
	"bytes"
	"context"
	"encoding/gob"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"strings"
	"testing"
	"time"
)

func TestErrorsAreOfTheClassOfTheirCode(t *testing.T) {
	targets := map[string]error{
		"ConfigError": ErrConfig, "ValidationError": ErrValidation, "SignatureError": ErrSignature,
		"ProofError": ErrProof, "OutboxError": ErrOutbox, "CancelledError": ErrCancelled,
		"ConnectionError": ErrConnection, "TimeoutError": ErrTimeout, "APIError": ErrAPI,
		"AuthError": ErrAuth, "NotFoundError": ErrNotFound, "ConflictError": ErrConflict,
		"RateLimitError": ErrRateLimit, "UnavailableError": ErrUnavailable,
	}
	belowAPI := []string{
		"AuthError", "NotFoundError", "ConflictError", "RateLimitError", "UnavailableError",
	}
	for code, info := range codes {
		err := fmt.Errorf("wrapped: %w", newError(code, "x"))
		for name, target := range targets {
			want := name == info.Class
			for _, child := range belowAPI {
				want = want || name == "APIError" && info.Class == child
			}
			if errors.Is(err, target) != want {
				t.Errorf("%s is %s: expected %t", code, name, want)
			}
		}
	}
	for name, target := range targets {
		if target.Error() != "fractal: "+name {
			t.Error(target)
		}
	}
	unknown := newError("code_of_next_year", "x")
	if unknown.Class() != "" || errors.Is(unknown, ErrAPI) || errors.Is(unknown, context.Canceled) {
		t.Error("an unknown code has no class")
	}
}

func TestTheTextOfAnErrorNamesTheRequest(t *testing.T) {
	err := newError("rate_limited", "slow down, %s", "please")
	if err.Error() != "rate_limited: slow down, please" {
		t.Error(err)
	}
	err.RequestID = "r-1"
	if err.Error() != "rate_limited: slow down, please (request r-1)" {
		t.Error(err)
	}
	err.Err = context.Canceled
	if !errors.Is(err, context.Canceled) {
		t.Error("the cause is lost")
	}
}

func TestTheFaultFollowsTheCodeElseTheStatus(t *testing.T) {
	for _, c := range []struct {
		code   string
		status int
		fault  string
	}{
		{"internal", 500, "server"}, {"connect_failed", 0, "network"}, {"bad_request", 503, "caller"},
		{"unknown", 503, "server"}, {"unknown", 404, "caller"}, {"unknown", 0, "caller"},
	} {
		err := newError(c.code, "x")
		err.Status = c.status
		if err.Fault() != c.fault {
			t.Errorf("%+v: %s", c, err.Fault())
		}
	}
}

func TestRetryAfterIsADuration(t *testing.T) {
	err := newError("rate_limited", "x")
	if wait, ok := err.RetryAfter(); wait != 0 || ok {
		t.Error(wait, ok)
	}
	err.RetryAfterMs, err.HasRetryAfter = 1500, true
	if wait, ok := err.RetryAfter(); wait != 1500*time.Millisecond || !ok {
		t.Error(wait, ok)
	}
	err.RetryAfterMs = maxSafeInteger
	if wait, ok := err.RetryAfter(); wait != math.MaxInt64 || !ok {
		t.Error(wait, ok)
	}
}

func TestLookupCodeKnowsTheClosedList(t *testing.T) {
	if info, known := LookupCode("frozen"); !known || info.Status != 423 ||
		info.Class != "APIError" {
		t.Error(info, known)
	}
	if _, known := LookupCode("code_of_next_year"); known {
		t.Error("an unknown code is known")
	}
}

func TestNoTextShowsASecret(t *testing.T) {
	secret := NewSecret([]byte("s3cret-s3cret"))
	inner := struct {
		Public  Secret
		private Secret
		pointer *Secret
	}{secret, secret, &secret}
	var log bytes.Buffer
	slog.New(slog.NewTextHandler(&log, nil)).Info("x", "secret", secret, "inner", inner)
	slog.New(slog.NewJSONHandler(&log, nil)).Info("x", "secret", secret, "inner", inner)
	texts := []string{log.String(), secret.String(), secret.GoString()}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		texts = append(
			texts,
			fmt.Sprintf(verb, secret),
			fmt.Sprintf(verb, &secret),
			fmt.Sprintf(verb, inner),
		)
	}
	written, err := json.Marshal(map[string]any{"a": secret, "b": inner})
	if err != nil {
		t.Fatal(err)
	}
	asText, err := secret.MarshalText()
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range append(texts, string(written), string(asText)) {
		if strings.Contains(text, "s3cret") || strings.Contains(text, "733363726574") ||
			strings.Contains(text, "115 51 99") {
			t.Error(text)
		}
	}
	if err := gob.NewEncoder(&log).Encode(secret); err == nil {
		t.Error("a secret travels")
	}
}

func TestASecretIsACopyOfItsBytes(t *testing.T) {
	given := []byte("abc")
	secret := NewSecret(given)
	given[0] = 'x'
	if string(secret.Reveal()) != "abc" || (Secret{}).Reveal() != nil {
		t.Error("another secret")
	}
	if !secret.Equal(NewSecret([]byte("abc"))) || secret.Equal(NewSecret([]byte("abd"))) ||
		secret.Equal(Secret{}) {
		t.Error("secrets compare by their bytes")
	}
}

func TestNoTextOfAnErrorShowsWhatAServerSent(t *testing.T) {
	fault := newError("forbidden", "no")
	fault.Headers, fault.Body = map[string]string{"x-echo": "sent-header"}, []byte("sent-body")
	written, err := json.Marshal(fault)
	if err != nil || !strings.Contains(string(written), `"forbidden"`) {
		t.Fatalf("%s (%v)", written, err)
	}
	shown := fmt.Sprintf("%v %+v %#v %s %q", fault, fault, fault, fault, fault) + string(written)
	for _, sent := range []string{
		"sent-header", "sent-body", fmt.Sprintf("%#v", fault.Body), "c2VudC1ib2R5",
	} {
		if strings.Contains(shown, sent) {
			t.Errorf("%s shows %s", shown, sent)
		}
	}
}
