package fractal

// This file owns the connections of a client: how long connecting takes, how long one is used
// again, and how many bytes of a request have left.

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"sync/atomic"
	"syscall"
	"time"
)

// pool is an http.Transport for HTTP/1.1 whose connections are wires. HTTP/2 is left out on
// purpose: its one connection would hide whether the bytes of a request have left.
type pool struct {
	transport *http.Transport
	tls       *tls.Config
	maxAge    time.Duration
	closing   context.Context
	close     func()
}

func newPool(options TransportOptions) *pool {
	p := &pool{maxAge: options.ConnectionMaxAge, tls: &tls.Config{MinVersion: tls.VersionTLS12}}
	if options.TLS != nil {
		p.tls = options.TLS.Clone()
		p.tls.MinVersion = max(p.tls.MinVersion, tls.VersionTLS12)
	}
	p.tls.NextProtos = []string{"http/1.1"}
	p.transport = &http.Transport{
		DialContext:            p.dial,
		DialTLSContext:         p.dialTLS,
		TLSNextProto:           map[string]func(string, *tls.Conn) http.RoundTripper{},
		MaxConnsPerHost:        options.MaxConnections,
		MaxIdleConnsPerHost:    options.MaxConnections,
		IdleConnTimeout:        options.ConnectionIdle,
		MaxResponseHeaderBytes: maxHeadBytes,
		DisableCompression:     true,
	}
	closing, stop := context.WithCancel(context.Background())
	p.closing = closing
	p.close = func() {
		stop()
		p.transport.CloseIdleConnections()
	}
	return p
}

func (p *pool) dial(ctx context.Context, network, address string) (net.Conn, error) {
	return p.within(ctx, func(ctx context.Context) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, network, address)
	})
}

func (p *pool) dialTLS(ctx context.Context, network, address string) (net.Conn, error) {
	return p.within(ctx, func(ctx context.Context) (net.Conn, error) {
		plain, err := (&net.Dialer{}).DialContext(ctx, network, address)
		if err != nil {
			return nil, err
		}
		host, _, _ := net.SplitHostPort(address)
		config := p.tls
		if config.ServerName == "" {
			config = p.tls.Clone()
			config.ServerName = host
		}
		secured := tls.Client(plain, config)
		if err := secured.HandshakeContext(ctx); err != nil {
			_ = plain.Close()
			return nil, handshakeFault(host, err)
		}
		return secured, nil
	})
}

// within bounds connecting, TLS included, which net/http carries on when the request is gone.
func (p *pool) within(
	ctx context.Context, connect func(context.Context) (net.Conn, error),
) (net.Conn, error) {
	if timeout, known := ctx.Value(connectTimeoutKey{}).(time.Duration); known {
		bounded, cancel := context.WithTimeout(ctx, timeout)
		defer cancel()
		ctx = bounded
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(p.closing, cancel)()
	conn, err := connect(ctx)
	if err != nil {
		return nil, connectFault(err)
	}
	return &wire{Conn: conn, openedAt: time.Now()}, nil
}

func connectFault(err error) *Error {
	var known *Error
	if errors.As(err, &known) {
		return known
	}
	fault := newError("connect_failed", "no connection: %v", err)
	fault.Err = err
	return fault
}

// handshakeFault tells a server that cannot be trusted from one that went away.
func handshakeFault(host string, err error) *Error {
	code := "tls_failed"
	var late net.Error
	ended := errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || isBroken(err)
	if ended || errors.As(err, &late) && late.Timeout() || errors.Is(err, context.Canceled) {
		code = "connect_failed"
	}
	fault := newError(code, "TLS with %s: %v", host, err)
	fault.Err = err
	return fault
}

// wire is one connection. It knows its age, and how many bytes have left: with TLS, of what is
// inside.
type wire struct {
	net.Conn
	openedAt time.Time
	written  atomic.Int64
}

// Write sends bytes. A server may answer and close before it has read everything: then its answer
// counts, so a write that finds the other end gone lets the reader find out.
//
// Bytes count as written before they are: an answer may be here before Write returns.
func (w *wire) Write(data []byte) (int, error) {
	w.written.Add(int64(len(data)))
	count, err := w.Conn.Write(data)
	w.written.Add(int64(count - len(data)))
	if err != nil && w.written.Load() > 0 && isBroken(err) {
		return len(data), nil
	}
	return count, err
}

// isBroken says whether the other end of a connection is gone.
func isBroken(err error) bool {
	return errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNRESET)
}
