package fractal

// This file sends one request over net/http and names what went wrong. Every attempt is one
// request: net/http may not repeat one, follow a redirect, or add a header. The connections are
// in transport_wire.go.

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"sort"
	"strings"
	"sync/atomic"
	"time"
)

// Transport carries one request to a server and gives back what came.
//
// Its error is an *Error with one of the codes connect_failed, tls_failed, connection_lost,
// attempt_timeout; or the one of CallError once ctx has ended. connect_failed says that no byte
// of the request was sent. It neither retries nor follows redirects, and it is used by many
// goroutines at once.
type Transport interface {
	Send(ctx context.Context, request Request, bounds SendBounds) (RawResponse, error)
}

// SendBounds say how long one attempt may take, and how long of that may pass before there is a
// connection. They are durations of real time, whatever clock the client has.
type SendBounds struct {
	Connect time.Duration
	Attempt time.Duration
}

const (
	// maxConnections is the default of how many connections to one endpoint are open; a call that
	// finds all in use waits, within its attempt.
	maxConnections = 16

	// defaultConnectionMaxAge and defaultConnectionIdle: an old connection, and one that was idle
	// for long, is given up, so that a change of DNS is seen.
	defaultConnectionMaxAge = 60 * time.Second
	defaultConnectionIdle   = 30 * time.Second

	// maxHeadBytes is the longest head of a response, interim ones included.
	maxHeadBytes = 1 << 20
)

// TransportOptions are what NewTransport needs; DefaultTransportOptions has all but TLS.
type TransportOptions struct {
	// TLS holds an own CA or a client certificate; nil is the system's. It must verify the server.
	TLS *tls.Config
	// ConnectionMaxAge and ConnectionIdle bound how long a connection is used again.
	ConnectionMaxAge time.Duration
	ConnectionIdle   time.Duration
	MaxConnections   int
	Limits           ResponseLimits
}

// DefaultTransportOptions gives the options of a client's own transport.
func DefaultTransportOptions() TransportOptions {
	return TransportOptions{
		ConnectionMaxAge: defaultConnectionMaxAge,
		ConnectionIdle:   defaultConnectionIdle,
		MaxConnections:   maxConnections,
		Limits:           DefaultResponseLimits(),
	}
}

func (o *TransportOptions) check() *Error {
	switch {
	case o.ConnectionMaxAge <= 0 || o.ConnectionIdle <= 0:
		return newError("config_invalid", "transport: expected ages of connections above 0")
	case o.MaxConnections < 1:
		return newError("config_invalid", "transport: expected MaxConnections >= 1")
	case o.Limits.Bytes < 1 || o.Limits.Headers < 1 || o.Limits.Headers > MaxResponseHeaders:
		return newError(
			"config_invalid",
			"transport: expected limits of at least 1 byte and 1 to %d headers",
			MaxResponseHeaders,
		)
	}
	return checkTLS(o.TLS)
}

// checkTLS refuses a configuration that does not verify the server.
func checkTLS(config *tls.Config) *Error {
	if config != nil && config.InsecureSkipVerify {
		return newError("config_invalid", "TLS: expected a configuration that verifies the server")
	}
	return nil
}

// HTTPTransport is the Transport over net/http. Close it when its clients are closed.
type HTTPTransport struct {
	http   http.RoundTripper
	limits ResponseLimits
	pool   *pool // nil over connections of the caller
	closed atomic.Bool
}

// NewTransport makes the transport that a client makes for itself, for programs that need an own
// CA or client certificate, or that wrap it. It does no I/O. Its error is config_invalid.
func NewTransport(options TransportOptions) (*HTTPTransport, error) {
	if err := options.check(); err != nil {
		return nil, err
	}
	own := newPool(options)
	return &HTTPTransport{http: own.transport, limits: options.Limits, pool: own}, nil
}

// newTransportOver sends through the connections, the proxy and the certificates of the caller.
// What an *http.Client does beyond them, redirects and cookies, is not for records.
func newTransportOver(given *http.Client, limits ResponseLimits) (*HTTPTransport, error) {
	base := given.Transport
	if base == nil {
		base = http.DefaultTransport
	}
	if known, is := base.(*http.Transport); is {
		if err := checkTLS(known.TLSClientConfig); err != nil {
			return nil, err
		}
	}
	return &HTTPTransport{http: base, limits: limits}, nil
}

// Close closes idle connections now and the others when their attempt ends. An *http.Client that
// was given stays as it is.
func (t *HTTPTransport) Close() error {
	t.closed.Store(true)
	if t.pool != nil {
		t.pool.close()
	}
	return nil
}

// Send sends a request and reads the response, all within the bounds.
func (t *HTTPTransport) Send(
	ctx context.Context, request Request, bounds SendBounds,
) (RawResponse, error) {
	if t.closed.Load() {
		return RawResponse{}, newError("cancelled", "the transport is closed")
	}
	if err := ctx.Err(); err != nil {
		return RawResponse{}, CallError(ctx)
	}
	bounded, cancel := context.WithTimeout(ctx, bounds.Attempt)
	defer cancel()
	for {
		one := &attempt{connectTimeout: bounds.Connect}
		if t.pool != nil {
			one.maxAge = t.pool.maxAge
		} else {
			defer one.limitConnecting(cancel)()
		}
		raw, err := t.exchange(one.trace(bounded), request)
		switch {
		case err == nil:
			return raw, nil
		case one.mayRepeat() && bounded.Err() == nil:
			continue // the server saw nothing of it
		}
		return RawResponse{}, one.fault(ctx, bounded, err)
	}
}

func (t *HTTPTransport) exchange(ctx context.Context, request Request) (RawResponse, error) {
	sent, err := http.NewRequestWithContext(
		ctx,
		request.Method,
		request.URL,
		onlyOnce(request.Body),
	)
	if err != nil {
		return RawResponse{}, err
	}
	sent.ContentLength = int64(len(request.Body))
	for _, header := range request.Headers {
		sent.Header[header[0]] = []string{header[1]}
	}
	response, err := t.http.RoundTrip(sent)
	if err != nil {
		return RawResponse{}, err
	}
	defer func() { _ = response.Body.Close() }() // what was not read is not wanted
	raw := RawResponse{Status: response.StatusCode, Headers: fieldsOf(response)}
	if len(raw.Headers) > t.limits.Headers || raw.Status < 200 {
		return raw, nil // judged by the reader; what follows a 101 is no body
	}
	// One byte more than the limit: what is over it is judged by the reader.
	raw.Body, err = io.ReadAll(io.LimitReader(response.Body, int64(t.limits.Bytes)+1))
	return raw, err
}

// onlyOnce gives a body that net/http cannot rewind, also where there is none: it repeats a
// request whose body it could send again, and every repetition is for PlanRetry to decide.
func onlyOnce(body []byte) io.Reader {
	return struct{ io.Reader }{bytes.NewReader(body)}
}

// fieldsOf lists the header fields; net/http keeps the order of equal names alone, and takes the
// framing out.
func fieldsOf(response *http.Response) [][2]string {
	var fields [][2]string
	for name, values := range response.Header {
		for _, value := range values {
			fields = append(fields, [2]string{name, value})
		}
	}
	for _, value := range response.TransferEncoding {
		fields = append(fields, [2]string{"Transfer-Encoding", value})
	}
	sort.SliceStable(fields, func(i, j int) bool { return fields[i][0] < fields[j][0] })
	return fields
}

// --- one attempt ----------------------------------------------------------------------------

// attempt is what happened to one request on its way out.
type attempt struct {
	connectTimeout time.Duration
	maxAge         time.Duration // 0: the connections are not ours

	connected atomic.Bool
	reused    atomic.Bool
	wire      atomic.Pointer[wire]
	before    int64 // bytes written on the wire before this request
}

type connectTimeoutKey struct{}

// trace makes net/http tell what happens, and the pool know how long connecting may take.
func (a *attempt) trace(ctx context.Context) context.Context {
	ctx = context.WithValue(ctx, connectTimeoutKey{}, a.connectTimeout)
	return httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: a.gotConn})
}

// limitConnecting ends an attempt that has no connection in time, where connecting is not ours.
func (a *attempt) limitConnecting(cancel func()) (stop func() bool) {
	return time.AfterFunc(a.connectTimeout, func() {
		if !a.connected.Load() {
			cancel()
		}
	}).Stop
}

// gotConn runs before the first byte is written. A connection that is too old is closed here:
// then writing fails, nothing is sent, and the attempt begins again with another one.
func (a *attempt) gotConn(info httptrace.GotConnInfo) {
	if own, isOurs := info.Conn.(*wire); isOurs {
		a.before = own.written.Load()
		a.wire.Store(own)
		if info.Reused && time.Since(own.openedAt) >= a.maxAge {
			_ = own.Close()
		}
	}
	a.reused.Store(info.Reused)
	a.connected.Store(true)
}

// sentNothing is true only where we know it: of our own connections.
func (a *attempt) sentNothing() bool {
	own := a.wire.Load()
	return !a.connected.Load() || own != nil && own.written.Load() == a.before
}

// mayRepeat says whether an idle connection had ended before anything was sent on it.
func (a *attempt) mayRepeat() bool { return a.reused.Load() && a.sentNothing() }

// fault names what went wrong: the codes of a Transport.
func (a *attempt) fault(ctx, bounded context.Context, err error) *Error {
	if ctx.Err() != nil && !errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return CallError(ctx)
	}
	var known *Error
	if errors.As(err, &known) {
		return known
	}
	code, text := a.reason(bounded, err)
	fault := newError(code, "%s", text)
	fault.Err = innermost(err)
	return fault
}

func (a *attempt) reason(bounded context.Context, err error) (code, text string) {
	var late net.Error
	isLate := bounded.Err() != nil || errors.As(err, &late) && late.Timeout()
	switch {
	case isTooLarge(err):
		return "response_too_large", "the head or the framing of the response does not end"
	case !a.connected.Load() && isTLS(err):
		return "tls_failed", "the TLS handshake failed"
	case !a.connected.Load() && isLate:
		return "connect_failed", "no connection in time"
	case !a.connected.Load():
		return "connect_failed", "no connection"
	case isLate:
		return "attempt_timeout", "the attempt took too long"
	case a.sentNothing():
		return "connect_failed", "the connection had ended; nothing was sent"
	}
	return "connection_lost", "the connection broke, or spoke no HTTP"
}

// isTooLarge knows the limits that net/http has and names by text alone.
func isTooLarge(err error) bool {
	for _, text := range []string{
		"server response headers exceeded", "too many 1xx informational responses",
		"chunked encoding contains too much non-data", "suspiciously long trailer",
		"chunked line too long", "header line too long",
	} {
		if strings.Contains(err.Error(), text) {
			return true
		}
	}
	return false
}

func isTLS(err error) bool {
	var (
		record    tls.RecordHeaderError
		verify    *tls.CertificateVerificationError
		alert     tls.AlertError
		authority x509.UnknownAuthorityError
		host      x509.HostnameError
		invalid   x509.CertificateInvalidError
	)
	return errors.As(err, &record) || errors.As(err, &verify) || errors.As(err, &alert) ||
		errors.As(err, &authority) || errors.As(err, &host) || errors.As(err, &invalid)
}

// innermost takes a cause out of what was wrapped around it.
func innermost(err error) error {
	for {
		inner := errors.Unwrap(err)
		if inner == nil {
			return err
		}
		err = inner
	}
}

// CallError says why a context ended: cancelled, or deadline_exceeded. It wraps the error of the
// context, so errors.Is finds context.Canceled and context.DeadlineExceeded.
func CallError(ctx context.Context) *Error {
	cause := context.Cause(ctx)
	if known, isOurs := cause.(*Error); isOurs {
		again := *known // each call has a Stop and Attempts of its own
		return &again
	}
	fault := newError("cancelled", "the caller cancelled")
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		fault = newError("deadline_exceeded", "the deadline of the caller has passed")
	}
	fault.Err = ctx.Err()
	if cause != ctx.Err() {
		fault.Err = errors.Join(ctx.Err(), cause)
	}
	return fault
}
