package fractal_test

// Options: what the constructor refuses, and what a call may change.

import (
	"crypto/tls"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	fractal "fractal-lba.example/sdk-go"
	"fractal-lba.example/sdk-go/fractaltest"
)

func TestAnInvalidOptionFailsInTheConstructor(t *testing.T) {
	retry, failover := fractal.DefaultRetry(), fractal.DefaultFailover()
	retry.MaxAttempts, failover.DownAfter = 0, 0
	nowhere := fractal.DefaultFailover()
	nowhere.AllowedRegions = []string{}
	for name, option := range map[string]fractal.Option{
		"nil": nil, "sig version": fractal.WithSigVersion(3), "no tenant": fractal.WithTenant(""),
		"tenant": fractal.WithTenant("no spaces"), "retry": fractal.WithRetry(retry),
		"failover": fractal.WithFailover(failover), "regions": fractal.WithFailover(nowhere),
		"connect": fractal.WithConnectTimeout(0), "attempt": fractal.WithAttemptTimeout(-1),
		"total": fractal.WithTotalTimeout(0), "durability": fractal.WithDurability("local"),
		"concurrency": fractal.WithConcurrency(0), "in flight": fractal.WithMaxInFlight(0),
		"max age": fractal.WithConnectionMaxAge(0), "idle": fractal.WithConnectionIdle(0),
		"record": fractal.WithMaxRecordBytes(65_537), "no record": fractal.WithMaxRecordBytes(0),
		"response": fractal.WithMaxResponseBytes(0), "headers": fractal.WithMaxResponseHeaders(101),
		"no headers": fractal.WithMaxResponseHeaders(0),
		"app":        fractal.WithApp(strings.Repeat("x", 25)),
		"app text":   fractal.WithApp("line\nend"), "clock": fractal.WithClock(nil),
		"random": fractal.WithRandom(nil), "logger": fractal.WithLogger(nil),
		"transport": fractal.WithTransport(nil), "http": fractal.WithHTTPClient(nil),
		"token": fractal.WithTokenSource(nil), "region": fractal.WithRegion("no region"),
		"twice": fractal.WithEndpoints(fractal.Endpoint{URL: "https://a.example/"}),
	} {
		_, err := fractal.New(
			"https://a.example",
			signerOf(t, testKey, "k1"),
			fractal.WithTenant("acme"),
			option,
		)
		if !errors.Is(err, fractal.ErrConfig) {
			t.Errorf("%s: expected config_invalid, got %v", name, err)
		}
	}
	script := fractaltest.NewScriptedTransport(fractaltest.NewFakeClock(0))
	_, err := fractal.New(
		"https://a.example",
		nil,
		fractal.WithTransport(script),
		fractal.WithHTTPClient(&http.Client{}),
	)
	same(t, "two transports", errors.Is(err, fractal.ErrConfig), true)
	_, err = fractal.New("https://a.example", signerOf(t, testKey, "k1"))
	same(t, "version 2 without a tenant", errors.Is(err, fractal.ErrConfig), true)
	_, err = fractal.New("https://a.example", signerOf(t, testKey, ""), fractal.WithTenant("acme"))
	same(t, "version 2 without a kid", errors.Is(err, fractal.ErrConfig), true)
	blind := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}
	_, err = fractal.New(
		"https://a.example",
		nil,
		fractal.WithHTTPClient(&http.Client{Transport: blind}),
	)
	same(t, "verification cannot be switched off", errors.Is(err, fractal.ErrConfig), true)
	_, err = fractal.New("https://a.example", nil, fractal.WithHTTPClient(&http.Client{}))
	same(t, "the default transport of net/http", err, nil)
	for _, url := range []string{
		"", "http://a.example", "ftp://a.example", "https://u:p@a.example", "https://a.example?q",
		"https://",
	} {
		_, err := fractal.New(url, nil)
		same(t, "endpoint "+url, errors.Is(err, fractal.ErrConfig), true)
	}
}

func TestACallMayHaveItsOwnBoundsButNoInvalidOnes(t *testing.T) {
	server := serve(t)
	c, _ := client(t, server.url())
	for _, option := range []fractal.CallOption{
		fractal.WithTotalTimeout(0), fractal.WithDurability("none"), nil,
	} {
		same(t, "submit", fails(t, c, record(1), option).Code, "config_invalid")
		_, err := c.Get(t.Context(), strings.Repeat("a", 64), option)
		same(t, "get", errors.Is(err, fractal.ErrConfig), true)
	}
	items := c.SubmitMany(
		t.Context(),
		[]fractal.Record{record(1), record(2)},
		fractal.WithConcurrency(0),
	)
	same(t, "many", len(items), 2)
	same(t, "many", errors.Is(items[1].Err, fractal.ErrConfig), true)
	_, enqueued := c.Enqueue(t.Context(), record(1))
	_, flushed := c.Flush(t.Context(), time.Second)
	_, resigned := c.Resign(t.Context(), "k1")
	for _, err := range []error{enqueued, flushed, resigned} {
		same(t, "without an outbox", errors.Is(err, fractal.ErrConfig), true)
	}
	connections, _ := server.counts()
	same(t, "connections", connections, 0)
}
