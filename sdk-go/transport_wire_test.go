package fractal

// What a connection says of the bytes that have left, and how faults are told apart.

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"
)

// brokenConn takes some bytes, then fails.
type brokenConn struct {
	net.Conn
	room int
	err  error
}

func (c *brokenConn) Write(data []byte) (int, error) {
	count := min(c.room, len(data))
	c.room -= count
	if count < len(data) {
		return count, c.err
	}
	return count, nil
}

func TestAWriteThatFindsTheOtherEndGoneLetsTheReaderFindOut(t *testing.T) {
	for _, one := range []struct {
		room    int
		err     error
		written int64
		fails   bool
	}{
		{10, syscall.EPIPE, 3, false},
		{2, syscall.EPIPE, 2, false},
		{2, fmt.Errorf("write: %w", syscall.ECONNRESET), 2, false},
		{0, syscall.EPIPE, 0, true},
		{2, net.ErrClosed, 2, true},
	} {
		w := &wire{Conn: &brokenConn{room: one.room, err: one.err}}
		_, err := w.Write([]byte("abc"))
		equal(t, "fails", err != nil, one.fails)
		equal(t, "written", w.written.Load(), one.written)
	}
}

type lateError struct{}

func (lateError) Timeout() bool   { return true }
func (lateError) Temporary() bool { return true }
func (lateError) Error() string   { return "late" }

func TestAFaultIsNamedByWhatHadHappenedBefore(t *testing.T) {
	unsent := &attempt{}
	sent := &attempt{}
	sent.connected.Store(true)
	idle := &attempt{}
	idle.connected.Store(true)
	idle.wire.Store(&wire{})
	for _, one := range []struct {
		attempt *attempt
		err     error
		code    string
	}{
		{unsent, errors.New("x"), "connect_failed"},
		{unsent, lateError{}, "connect_failed"},
		{unsent, x509.UnknownAuthorityError{}, "tls_failed"},
		{unsent, fmt.Errorf("dial: %w", tls.RecordHeaderError{}), "tls_failed"},
		{sent, tls.AlertError(80), "connection_lost"},
		{sent, io.EOF, "connection_lost"},
		{sent, lateError{}, "attempt_timeout"},
		{idle, io.EOF, "connect_failed"},
		{sent, errors.New("net/http: server response headers exceeded 9 bytes"), "response_too_large"},
		{sent, newError("tls_failed", "said elsewhere"), "tls_failed"},
	} {
		ctx := context.Background()
		fault := one.attempt.fault(ctx, ctx, one.err)
		equal(t, fmt.Sprint(one.err), fault.Code, one.code)
		ended, cancel := context.WithCancel(ctx)
		cancel()
		fault = one.attempt.fault(ended, ended, one.err)
		equal(t, "after a cancel", fault.Code, "cancelled")
	}
}

func TestAHandshakeThatEndedIsNoVerdictOnTheServer(t *testing.T) {
	for err, code := range map[error]string{
		io.EOF: "connect_failed", io.ErrUnexpectedEOF: "connect_failed",
		syscall.ECONNRESET: "connect_failed", lateError{}: "connect_failed",
		context.Canceled: "connect_failed", tls.AlertError(42): "tls_failed",
	} {
		equal(t, err.Error(), handshakeFault("a.example", err).Code, code)
	}
}

func TestTheSystemClockReturnsAtOnceWhereThereIsNothingToWaitFor(t *testing.T) {
	clock := newSystemClock()
	before := clock.MonotonicMs()
	equal(t, "no wait", clock.Wait(t.Context(), 0), nil)
	equal(t, "a negative wait", clock.Wait(t.Context(), -1), nil)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	equal(t, "an ended context", clock.Wait(ctx, 60_000), context.Canceled)
	equal(t, "an ended context", clock.Wait(ctx, 0), context.Canceled)
	if clock.MonotonicMs()-before >= 60_000 {
		t.Error("it waited")
	}
	ctx, cancel = context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	longest := clock.Wait(ctx, 1<<62)
	equal(t, "a wait that no Duration can hold", longest, context.DeadlineExceeded)
}

func TestASignedRecordDoesNotPrintItsSignature(t *testing.T) {
	signed := callSigned(t)
	var log strings.Builder
	slog.New(slog.NewTextHandler(&log, nil)).Info("x", "signed", signed, "value", *signed)
	for _, text := range []string{
		fmt.Sprint(signed),
		fmt.Sprintf("%+v %#v %s %q %x", *signed, signed, *signed, signed, signed),
		log.String(), signed.GoString(),
	} {
		if strings.Contains(text, signed.Sig) || !strings.Contains(text, signed.PcsID) {
			t.Errorf("got %s", text)
		}
	}
}

func TestNoContextIsTheBackground(t *testing.T) {
	var none context.Context
	equal(t, "context", orBackground(none), context.Background())
	client, err := New("https://a.example", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	_, err = client.Submit(none, callRecord(1))
	equal(t, "a call without one", asError(err).Code, "member_missing")
}
