package fractal_test

// The transport over an *http.Client of the caller.

import (
	"context"
	"errors"
	"net"
	"net/http"
	"testing"
	"time"

	fractal "fractal-lba.example/sdk-go"
)

func TestAnHTTPClientOfTheCallerCarriesRequestsAndFollowsNothing(t *testing.T) {
	server := serve(t, step{status: 302, headers: map[string]string{"Location": "/other"}}, lost(),
		recorded(200))
	given := &http.Client{Transport: &http.Transport{DisableCompression: true}}
	c, _ := client(t, server.url(), fractal.WithHTTPClient(given))
	_, err := c.Submit(t.Context(), record(1))
	var fault *fractal.Error
	if !errors.As(err, &fault) || fault.Code != "response_malformed" {
		t.Errorf("expected response_malformed, got %v", err)
	}
	submitted, err := c.Submit(t.Context(), record(2))
	if err != nil {
		t.Fatal(err)
	}
	same(t, "attempts", submitted.Raw.Attempts, 2)
	same(t, "requests", len(server.seen()), 3)
	c.Close()
	given.CloseIdleConnections()
	nobody, _ := client(
		t,
		gone(t),
		fractal.WithHTTPClient(given),
		fractal.WithRetry(fractal.NoRetry()),
	)
	_, err = nobody.Submit(t.Context(), record(1))
	if !errors.As(err, &fault) || fault.Code != "connect_failed" {
		t.Errorf("expected connect_failed, got %v", err)
	}
}

func TestConnectingHasItsBoundOverAClientOfTheCallerToo(t *testing.T) {
	hangs := func(ctx context.Context, _, _ string) (net.Conn, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	given := &http.Client{Transport: &http.Transport{DialContext: hangs}}
	defer given.CloseIdleConnections()
	c, _ := client(t, "http://127.0.0.1:1", fractal.WithHTTPClient(given),
		fractal.WithConnectTimeout(shortTime), fractal.WithAttemptTimeout(longTime),
		fractal.WithRetry(fractal.NoRetry()))
	same(t, "code", fails(t, c, record(1)).Code, "connect_failed")
	server := serve(t, recorded(200).held(after(2*shortTime)))
	slow, _ := client(t, server.url(), fractal.WithHTTPClient(&http.Client{
		Transport: &http.Transport{DisableKeepAlives: true},
	}), fractal.WithConnectTimeout(shortTime))
	same(t, "an answer may take longer", submits(t, slow, record(1)).Raw.Attempts, 1)
}

// after gives a gate that opens by itself.
func after(wait time.Duration) <-chan struct{} {
	gate := make(chan struct{})
	time.AfterFunc(wait, func() { close(gate) })
	return gate
}
