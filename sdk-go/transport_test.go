package fractal_test

// The transport against a real server that answers, cuts, stalls, trickles and lies.

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	fractal "fractal-lba.example/sdk-go"
)

type sender struct {
	t         testing.TB
	transport fractal.Transport
}

// transport makes an own transport; change may be nil.
func transport(t testing.TB, change func(*fractal.TransportOptions)) sender {
	t.Helper()
	options := fractal.DefaultTransportOptions()
	if change != nil {
		change(&options)
	}
	made, err := fractal.NewTransport(options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = made.Close() })
	return sender{t, made}
}

func (s sender) try(
	request fractal.Request,
	bounds fractal.SendBounds,
) (fractal.RawResponse, string) {
	return s.tryWith(context.Background(), request, bounds)
}

func (s sender) tryWith(
	ctx context.Context, request fractal.Request, bounds fractal.SendBounds,
) (fractal.RawResponse, string) {
	s.t.Helper()
	raw, err := s.transport.Send(ctx, request, bounds)
	var fault *fractal.Error
	switch {
	case err == nil:
		return raw, ""
	case !errors.As(err, &fault):
		s.t.Fatalf("expected an *Error, got %T: %v", err, err)
	}
	return raw, fault.Code
}

func (s sender) send(request fractal.Request) fractal.RawResponse {
	s.t.Helper()
	raw, code := s.try(request, patient)
	if code != "" {
		s.t.Fatalf("expected a response, got %s", code)
	}
	return raw
}

var (
	patient = fractal.SendBounds{Connect: longTime, Attempt: longTime}
	hasty   = fractal.SendBounds{Connect: longTime, Attempt: shortTime}
)

func post(s *scriptedServer, body string) fractal.Request {
	return fractal.Request{
		Method: "POST", URL: s.url() + "/v1/pcs/submit", Body: []byte(body),
		Headers: [][2]string{{"X-A", "1"}, {"Content-Type", "t"}, {"User-Agent", "u"}},
	}
}

func get(url string) fractal.Request {
	return fractal.Request{
		Method:  "GET",
		URL:     url + "/health",
		Headers: [][2]string{{"User-Agent", "u"}},
	}
}

// --- what goes out and comes back -----------------------------------------------------------

func TestARequestGoesOutAsItIsAndNothingIsAdded(t *testing.T) {
	server := serve(
		t,
		step{headers: map[string]string{"X-B": "2"}, body: []byte("answer")},
		step{status: 204},
	)
	sender := transport(t, nil)
	raw := sender.send(post(server, "body"))
	same(t, "body", string(raw.Body), "answer")
	found := false
	for _, field := range raw.Headers {
		found = found || field == [2]string{"X-B", "2"}
	}
	same(t, "header", found, true)
	same(t, "status", sender.send(get(server.url())).Status, 204)
	host := strings.TrimPrefix(server.url(), "http://")
	for index, want := range []map[string]string{
		{"host": host, "x-a": "1", "content-type": "t", "content-length": "4", "user-agent": "u"},
		{"host": host, "user-agent": "u"},
	} {
		got := server.seen()[index]
		same(t, "headers", len(got.headers), len(want))
		for name, value := range want {
			same(t, name, got.headers[name], value)
		}
	}
	same(t, "sent body", string(server.seen()[0].body), "body")
}

func TestEveryStatusIsAnAnswerAndNoneIsFollowed(t *testing.T) {
	for _, status := range []int{200, 202, 301, 302, 307, 308, 400, 404, 409, 429, 500, 503} {
		for _, location := range []string{"/other", "http://%zz", ""} {
			server := serve(t, step{
				status: status, body: []byte("x"), headers: map[string]string{"Location": location},
			})
			same(t, "status", transport(t, nil).send(post(server, "{}")).Status, status)
			same(t, "requests", len(server.seen()), 1)
		}
	}
}

func TestRepeatedFieldsStayApart(t *testing.T) {
	server := serve(
		t,
		step{
			raw: "HTTP/1.1 503 x\r\nRetry-After: 1\r\nRetry-After: 9\r\nContent-Length: 0\r\n\r\n",
		},
	)
	var values []string
	for _, field := range transport(t, nil).send(get(server.url())).Headers {
		if field[0] == "Retry-After" {
			values = append(values, field[1])
		}
	}
	same(t, "values", strings.Join(values, " "), "1 9")
}

func TestBodiesOfEveryFramingAreRead(t *testing.T) {
	server := serve(
		t,
		step{
			raw: "HTTP/1.1 200 x\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n" +
				"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n",
		},
		step{raw: "HTTP/1.0 200 x\r\n\r\nuntil the end"},
		step{raw: "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 x\r\nContent-Length: 2\r\n\r\nok"},
		step{raw: "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n"},
	)
	sender := transport(t, nil)
	for _, want := range []string{"abcde", "until the end", "ok"} {
		same(t, "body", string(sender.send(get(server.url())).Body), want)
	}
	same(t, "status", sender.send(get(server.url())).Status, 101)
}

// --- connections ----------------------------------------------------------------------------

func TestAConnectionIsUsedAgainUntilItIsOldOrWasIdleForLong(t *testing.T) {
	for _, one := range []struct {
		name   string
		change func(*fractal.TransportOptions)
		want   int
	}{
		{"young", nil, 1},
		{"old", func(o *fractal.TransportOptions) { o.ConnectionMaxAge = 1 }, 4},
	} {
		t.Run(one.name, func(t *testing.T) {
			server := serve(t, step{body: []byte("x"), repeat: true})
			sender := transport(t, one.change)
			for range 4 {
				sender.send(post(server, "{}"))
			}
			connections, _ := server.counts()
			same(t, "connections", connections, one.want)
			same(t, "requests", len(server.seen()), 4)
		})
	}
}

func TestAConnectionThatIsIdleForLongIsClosed(t *testing.T) {
	server := serve(t, step{body: []byte("x"), repeat: true})
	sender := transport(t, func(o *fractal.TransportOptions) { o.ConnectionIdle = 1 })
	sender.send(get(server.url()))
	waitFor(t, "the connection to close", func() bool {
		server.mu.Lock()
		defer server.mu.Unlock()
		return len(server.open) == 0
	})
	sender.send(get(server.url()))
	connections, _ := server.counts()
	same(t, "connections", connections, 2)
}

// waitFor looks until something holds; a test that never sees it fails.
func waitFor(t testing.TB, what string, holds func() bool) {
	t.Helper()
	end := time.Now().Add(longTime)
	for !holds() {
		if time.Now().After(end) {
			t.Fatalf("waited in vain for %s", what)
		}
		time.Sleep(time.Millisecond)
	}
}

func TestAConnectionThatTheServerClosesIsNoError(t *testing.T) {
	server := serve(t,
		step{body: []byte("x"), close: true}, step{body: []byte("y")},
		// Keep-alive, and then it closes.
		step{raw: "HTTP/1.1 200 x\r\nContent-Length: 1\r\n\r\nz"}, step{body: []byte("w")})
	sender := transport(t, nil)
	for _, want := range []string{"x", "y", "z", "w"} {
		same(t, "body", string(sender.send(get(server.url())).Body), want)
	}
	same(t, "requests", len(server.seen()), 4)
}

func TestConnectionsToOneEndpointAreBounded(t *testing.T) {
	gate := make(chan struct{})
	server := serve(t, step{body: []byte("x"), hold: gate, repeat: true})
	sender := transport(t, func(o *fractal.TransportOptions) { o.MaxConnections = 2 })
	var all sync.WaitGroup
	for range 5 {
		all.Go(func() { sender.send(get(server.url())) })
	}
	server.await()
	server.await()
	_, code := sender.try(get(server.url()), hasty)
	same(t, "a call that finds no connection in time", code, "connect_failed")
	close(gate)
	all.Wait()
	connections, inFlight := server.counts()
	same(t, "connections", connections, 2)
	same(t, "in flight", inFlight, 2)
	same(t, "requests", len(server.seen()), 5)
}

func TestAClosedTransportSendsNothing(t *testing.T) {
	server := serve(t, step{body: []byte("x")})
	sender := transport(t, nil)
	sender.send(get(server.url()))
	_ = sender.transport.(io.Closer).Close()
	_, code := sender.try(get(server.url()), patient)
	same(t, "code", code, "cancelled")
	same(t, "requests", len(server.seen()), 1)
}

// --- faults -----------------------------------------------------------------------------------

func TestAResponseThatBreaksOffAnywhereIsALostConnection(t *testing.T) {
	sender := transport(t, nil)
	whole := step{body: []byte("body")}
	for cut := range len(whole.text()) {
		server := serve(t, step{body: []byte("body"), isCut: true, cut: cut})
		for _, request := range []fractal.Request{get(server.url())} {
			_, code := sender.try(request, patient)
			if code != "connection_lost" || len(server.seen()) != 1 {
				t.Errorf("cut at %d: got %q after %d requests", cut, code, len(server.seen()))
			}
		}
		server.stop()
	}
}

func TestWhatIsNoWholeResponseIsALostConnectionAndIsSentOnce(t *testing.T) {
	for name, broken := range map[string]step{
		"nothing":       {isCut: true},
		"half a body":   {body: []byte("body"), isCut: true, cut: 42},
		"reset":         {isCut: true, reset: true},
		"reset in body": {body: make([]byte, 400), isCut: true, cut: 60, reset: true},
		"another":       {raw: "SSH-2.0-OpenSSH_9\r\n"},
		"no status":     {raw: "HTTP/1.1 abc\r\n\r\n"},
		"no chunk":      {raw: "HTTP/1.1 200 x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"},
		"half a chunk":  {raw: "HTTP/1.1 200 x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab"},
		"bad header":    {raw: "HTTP/1.1 200 x\r\nno colon\r\n\r\n"},
		"length unclear": {raw: "HTTP/1.1 200 x\r\nContent-Length: 1\r\n" +
			"Content-Length: 2\r\n\r\nab"},
	} {
		t.Run(name, func(t *testing.T) {
			// The first answer keeps the connection: a reused one must not be tried again either.
			server := serve(t, step{body: []byte("x")}, broken, step{body: []byte("x")}, broken)
			sender := transport(t, nil)
			for _, request := range []fractal.Request{post(server, "{}"), get(server.url())} {
				sender.send(request)
				_, code := sender.try(request, patient)
				same(t, "code", code, "connection_lost")
			}
			same(t, "requests", len(server.seen()), 4)
		})
	}
}

func TestAnAttemptHasOneBound(t *testing.T) {
	for name, one := range map[string]step{
		"silent":  silent(),
		"trickle": {body: []byte(strings.Repeat("x", 1000)), trickle: true},
	} {
		t.Run(name, func(t *testing.T) {
			server := serve(t, one)
			_, code := transport(t, nil).try(get(server.url()), hasty)
			same(t, "code", code, "attempt_timeout")
		})
	}
	t.Run("a body that is not read", func(t *testing.T) {
		deaf := listen(t)
		request := fractal.Request{
			Method: "POST",
			URL:    "http://" + deaf.Addr().String(),
			Body:   make([]byte, 50_000_000),
		}
		_, code := transport(t, nil).try(request, hasty)
		same(t, "code", code, "attempt_timeout")
	})
}

func listen(t testing.TB) net.Listener {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	return listener
}

func TestAnAnswerBeforeTheBodyWasReadCounts(t *testing.T) {
	listener := listen(t)
	var all sync.WaitGroup
	all.Go(func() {
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		_, _ = conn.Read(make([]byte, 10))
		_, _ = io.WriteString(conn, "HTTP/1.1 413 x\r\nContent-Length: 2\r\n\r\nno")
		_, _ = io.Copy(io.Discard, conn)
	})
	request := fractal.Request{
		Method: "POST",
		URL:    "http://" + listener.Addr().String(),
		Body:   make([]byte, 1_000_000),
	}
	sender := transport(t, nil)
	raw := sender.send(request)
	same(t, "status", raw.Status, 413)
	same(t, "body", string(raw.Body), "no")
	_ = sender.transport.(io.Closer).Close()
	all.Wait()
}

func TestNobodyListens(t *testing.T) {
	_, code := transport(t, nil).try(get(gone(t)), patient)
	same(t, "code", code, "connect_failed")
}

// fullListener listens without accepting until connecting hangs.
func fullListener(t *testing.T) string {
	t.Helper()
	// An address that answers nothing cannot be had on loopback; a handshake that nobody answers
	// can, and is part of connecting.
	listener := listen(t)
	return "https://" + listener.Addr().String()
}

func TestConnectingHasABoundOfItsOwn(t *testing.T) {
	_, code := transport(t, nil).try(get(fullListener(t)),
		fractal.SendBounds{Connect: shortTime, Attempt: longTime})
	same(t, "code", code, "connect_failed")
}

func TestACancelEndsConnectingAndWaiting(t *testing.T) {
	server := serve(t, silent())
	urls := map[string]string{"connecting": fullListener(t), "waiting": server.url()}
	for name, url := range urls {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithCancel(context.Background())
			sender := transport(t, nil)
			var all sync.WaitGroup
			all.Go(func() {
				if url == server.url() {
					server.await()
				}
				cancel()
			})
			_, err := sender.transport.Send(ctx, get(url), patient)
			var fault *fractal.Error
			if !errors.As(err, &fault) || fault.Code != "cancelled" ||
				!errors.Is(err, context.Canceled) {
				t.Errorf("expected cancelled, got %v", err)
			}
			all.Wait()
		})
	}
}

func TestAContextThatHasEndedSendsNothing(t *testing.T) {
	server := serve(t)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_, code := transport(t, nil).tryWith(ctx, get(server.url()), patient)
	same(t, "code", code, "cancelled")
	connections, _ := server.counts()
	same(t, "connections", connections, 0)
}

func TestTheDeadlineOfTheCallerIsToldFromACancel(t *testing.T) {
	server := serve(t, silent())
	ctx, cancel := context.WithTimeout(context.Background(), shortTime)
	defer cancel()
	_, code := transport(t, nil).tryWith(ctx, get(server.url()), patient)
	same(t, "while waiting it is a late attempt", code, "attempt_timeout")
	_, code = transport(t, nil).tryWith(ctx, get(server.url()), patient)
	same(t, "before it nothing is sent", code, "deadline_exceeded")
}

// --- limits -----------------------------------------------------------------------------------

func TestNoMoreIsReadThanOneByteOverTheLimit(t *testing.T) {
	server := serve(t, step{body: make([]byte, 100_000)}, step{body: []byte("yyyyyyyyyy")})
	sender := transport(t, func(o *fractal.TransportOptions) { o.Limits.Bytes = 10 })
	same(t, "too long", len(sender.send(get(server.url())).Body), 11)
	same(t, "as long as allowed", string(sender.send(get(server.url())).Body), "yyyyyyyyyy")
	connections, _ := server.counts()
	same(t, "the rest of a body is no place for the next answer", connections, 2)
}

func TestMoreHeadersThanAllowedAreCountedAndTheBodyLeft(t *testing.T) {
	headers := map[string]string{}
	for _, name := range strings.Split("abcdefghijkl", "") {
		headers["X-"+name] = "v"
	}
	server := serve(t, step{headers: headers, body: []byte("body")})
	sender := transport(t, func(o *fractal.TransportOptions) { o.Limits.Headers = 10 })
	raw := sender.send(get(server.url()))
	same(t, "headers", len(raw.Headers), 13)
	same(t, "body", len(raw.Body), 0)
}

func TestAResponseThatDoesNotEndIsTooLarge(t *testing.T) {
	chunked := "HTTP/1.1 200 x\r\nTransfer-Encoding: chunked\r\n\r\n"
	for name, raw := range map[string]string{
		"header":     "HTTP/1.1 200 x\r\nX: " + strings.Repeat("v", 2_000_000) + "\r\n\r\n",
		"headers":    "HTTP/1.1 200 x\r\n" + strings.Repeat("X-A: v\r\n", 300_000) + "\r\n",
		"interim":    strings.Repeat("HTTP/1.1 100 x\r\nX-A: v\r\n\r\n", 200_000),
		"chunks":     chunked + strings.Repeat("1;"+strings.Repeat("e", 1_000)+"\r\nx\r\n", 500),
		"chunk size": chunked + strings.Repeat("0", 1_000_000),
		"trailers":   chunked + "1\r\nx\r\n0\r\n" + strings.Repeat("X-T: v\r\n", 100_000) + "\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			server := serve(t, step{raw: raw})
			_, code := transport(t, nil).try(get(server.url()), patient)
			same(t, "code", code, "response_too_large")
		})
	}
}
