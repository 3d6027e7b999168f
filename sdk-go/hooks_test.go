package fractal_test

// What is told: events to hooks, lines to the log; and what never is.

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	fractal "fractal-lba.example/sdk-go"
	"fractal-lba.example/sdk-go/fractaltest"
)

func logger(to *bytes.Buffer) *slog.Logger {
	return slog.New(slog.NewTextHandler(to, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

func TestHooksHearEveryAttemptRetryAndFailover(t *testing.T) {
	first, second := serve(t, refused(503, "unavailable")), serve(t, recorded(200))
	var heard []string
	hooks := fractal.Hooks{
		OnAttempt: func(e fractal.AttemptEvent) {
			heard = append(heard, fmt.Sprint("attempt ", e.Attempt, e.Status))
		},
		OnRetry: func(e fractal.RetryEvent) { heard = append(heard, "retry after "+e.Code) },
		OnFailover: func(e fractal.FailoverEvent) {
			heard = append(heard, "from "+e.FromURL+" to "+e.ToURL)
		},
	}
	c, _ := client(t, first.url(), fractal.WithHooks(hooks), fractal.WithHooks(fractal.Hooks{}),
		fractal.WithEndpoints(fractal.Endpoint{URL: second.url()}))
	submits(t, c, record(1))
	same(t, "heard", strings.Join(heard, ", "), "attempt 1 503, retry after unavailable, from "+
		first.url()+" to "+second.url()+", attempt 2 200")
}

func TestAHookThatPanicsIsLoggedOnceWithoutItsTextAndFailsNoCall(t *testing.T) {
	server := serve(t, recorded(200).always())
	var log bytes.Buffer
	others := 0
	broken := fractal.Hooks{OnAttempt: func(e fractal.AttemptEvent) {
		e.RequestHeaders["x"] = "changed"
		panic("s3cret")
	}}
	c, _ := client(t, server.url(), fractal.WithLogger(logger(&log)), fractal.WithHooks(broken),
		fractal.WithHooks(fractal.Hooks{OnAttempt: func(e fractal.AttemptEvent) {
			others++
			same(t, "an event is the hook's own", e.RequestHeaders["x"], "")
		}}), fractal.WithHooks(broken))
	for range 3 {
		submits(t, c, record(1))
	}
	same(t, "other hooks", others, 3)
	same(t, "lines, one for each hook", strings.Count(log.String(), "a hook panicked"), 2)
	same(t, "type", strings.Contains(log.String(), "type=string"), true)
	same(t, "text", strings.Contains(log.String(), "s3cret"), false)
}

func TestEachEventIsOneLine(t *testing.T) {
	first := serve(t, refused(503, "unavailable", "Retry-After", "0"))
	second := serve(t, recorded(200), refused(409, "pcs_id_conflict"))
	var log bytes.Buffer
	c, _ := client(t, first.url(), fractal.WithLogger(logger(&log)),
		fractal.WithEndpoints(fractal.Endpoint{URL: second.url()}))
	submits(t, c, record(1))
	fails(t, c, record(2))
	lines := strings.Split(strings.TrimSpace(log.String()), "\n")
	for index, want := range [][]string{
		{"level=DEBUG", "msg=attempt", "call=submit", "attempt=1", "method=POST",
			"url=" + first.url() + "/v1/pcs/submit", "status=503", "code=unavailable",
			"retry-after:0"},
		{"level=DEBUG", "msg=retry", "call=submit", "code=unavailable", "wait_ms="},
		{"level=DEBUG", "msg=failover", "from=" + first.url(), "to=" + second.url()},
		{"level=DEBUG", "msg=attempt", "attempt=2", "status=200", "x-retry-attempt:1",
			"pcs-level:durable"},
		{"level=DEBUG", "msg=attempt", "status=409", "code=pcs_id_conflict"},
		{"level=WARN", "msg=stopped", "call=submit", "code=pcs_id_conflict", "attempts=1",
			"stop=not_retryable", "status=409", "request_id=req-2"},
	} {
		if index >= len(lines) {
			t.Fatalf("got %d lines", len(lines))
		}
		for _, part := range want {
			same(t, lines[index]+" has "+part, strings.Contains(lines[index], part), true)
		}
	}
	same(t, "lines", len(lines), 6)
}

func TestWhatSomebodyShouldLookAtInAnOutboxIsAWarning(t *testing.T) {
	var log bytes.Buffer
	c, _ := client(t, serve(t, refused(409, "pcs_id_conflict")).url(),
		fractal.WithLogger(logger(&log)), fractal.WithOutbox(openBox(t, boxPath(t))))
	fails(t, c, record(1))
	for _, part := range []string{
		"level=DEBUG msg=outbox kind=queued id=0000000000000001",
		"level=WARN msg=outbox kind=dead id=0000000000000001 code=pcs_id_conflict",
	} {
		same(t, part, strings.Contains(log.String(), part), true)
	}
}

func TestTheLibrarySaysNothingUnlessItIsAsked(t *testing.T) {
	var log bytes.Buffer
	before := slog.Default()
	slog.SetDefault(logger(&log))
	defer slog.SetDefault(before)
	c, _ := client(t, serve(t, refused(409, "pcs_id_conflict")).url())
	fails(t, c, record(1))
	same(t, "log", log.String(), "")
}

func TestNothingSecretIsEverLoggedToldOrPrinted(t *testing.T) {
	const token = "tokentokentoken"
	id := pcsIDOf(record(1))
	server := serve(t,
		refused(401, "signature_invalid", "Set-Cookie", "session=cookiecookie"),
		step{body: bytes.Repeat([]byte{0xff}, 20)},
		refused(503, "unavailable"), lost(), recorded(200),
		step{body: fractaltest.OutcomeBody(fractaltest.Accepted(id))})
	var told bytes.Buffer
	hear := fractal.Hooks{
		OnAttempt: func(e fractal.AttemptEvent) { fmt.Fprintf(&told, "%v %#v", e, e) },
		OnRetry:   func(e fractal.RetryEvent) { fmt.Fprintf(&told, "%v %#v", e, e) },
	}
	secret := fractal.NewSecret([]byte(token))
	c, _ := client(t, server.url(), fractal.WithToken(secret), fractal.WithHooks(hear),
		fractal.WithLogger(logger(&told)))
	things := []any{
		secret,
		&secret,
		c,
		*signerOf(t, testKey, "k1").(*fractal.HMACSigner),
		fails(t, c, record(1)),
		fails(t, c, record(1)),
		submits(t, c, record(1)).Outcome,
	}
	outcome, err := c.Get(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	for _, thing := range append(things, outcome) {
		fmt.Fprintf(&told, "%v %+v %s %q\n", thing, thing, thing, thing)
		text, _ := json.Marshal(thing)
		told.Write(text)
	}
	fmt.Fprintf(&told, "%#v %#v", c, secret)
	signatures := map[string]bool{}
	for _, request := range server.seen() {
		if signed, err := fractal.ParseSigned(request.body); err == nil {
			signatures[signed.Sig] = true
		}
	}
	same(t, "signatures", len(signatures), 1)
	needles := []string{
		hex.EncodeToString(testKey), base64.StdEncoding.EncodeToString(testKey), string(testKey),
		token, hex.EncodeToString([]byte(token)), "Bearer", "merkle_root",
	}
	for signature := range signatures {
		needles = append(needles, signature)
	}
	for _, needle := range needles {
		same(t, "secret "+needle, strings.Contains(told.String(), needle), false)
	}
	log := told.String()
	same(t, "attempts are logged", strings.Contains(log, "msg=attempt"), true)
}
