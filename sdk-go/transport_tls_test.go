package fractal_test

// The transport and TLS: who is trusted, and that nobody else gets anything.

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"math/big"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	fractal "fractal-lba.example/sdk-go"
)

func TestANameThatNobodyKnowsIsNoConnection(t *testing.T) {
	_, code := transport(t, nil).try(get("http://no-such-host.invalid"), patient)
	same(t, "code", code, "connect_failed")
}

// identity makes a certificate of its own for 127.0.0.1.
func identity(t testing.TB) (server *tls.Config, roots *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	roots = x509.NewCertPool()
	roots.AddCert(parsed)
	return &tls.Config{
		Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}},
	}, roots
}

func TestACertificateOfAnOwnAuthorityIsTaken(t *testing.T) {
	secure, roots := identity(t)
	big := strings.Repeat("x", 300_000)
	server := serveTLS(t, secure, step{body: []byte("secret")}, step{body: []byte(big)})
	sender := transport(
		t,
		func(o *fractal.TransportOptions) { o.TLS = &tls.Config{RootCAs: roots} },
	)
	same(t, "body", string(sender.send(post(server, "{}")).Body), "secret")
	same(t, "long body", string(sender.send(post(server, big)).Body), big)
	connections, _ := server.counts()
	same(t, "connections", connections, 1)
}

func TestAServerThatCannotBeTrustedGetsNothing(t *testing.T) {
	secure, roots := identity(t)
	own := func(o *fractal.TransportOptions) { o.TLS = &tls.Config{RootCAs: roots} }
	server := serveTLS(t, secure)
	_, code := transport(t, nil).try(post(server, "{}"), patient)
	same(t, "unknown authority", code, "tls_failed")
	otherHost := strings.Replace(server.url(), "127.0.0.1", "localhost", 1)
	_, code = transport(t, own).try(get(otherHost), patient)
	same(t, "another host", code, "tls_failed")
	over, err := fractal.New(server.url(), signerOf(t, testKey, "k1"), fractal.WithTenant("acme"),
		fractal.WithHTTPClient(&http.Client{Transport: &http.Transport{}}))
	if err != nil {
		t.Fatal(err)
	}
	same(t, "over a client of the caller", over.Health(t.Context())[0].Code, "tls_failed")
	same(t, "requests", len(server.seen()), 0)
}

func TestAServerWithoutTLSIsRefused(t *testing.T) {
	listener := listen(t)
	var all sync.WaitGroup
	all.Go(func() {
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		_, _ = conn.Read(make([]byte, 1<<16))
		_, _ = io.WriteString(conn, "HTTP/1.1 400 no\r\n\r\n")
		_, _ = io.Copy(io.Discard, conn)
	})
	_, code := transport(t, nil).try(get("https://"+listener.Addr().String()), patient)
	same(t, "code", code, "tls_failed")
	_ = listener.Close()
	all.Wait()
}

func TestAHandshakeThatEndsIsNoConnection(t *testing.T) {
	listener := listen(t)
	var all sync.WaitGroup
	all.Go(func() {
		if conn, err := listener.Accept(); err == nil {
			_ = conn.Close()
		}
	})
	_, code := transport(t, nil).try(get("https://"+listener.Addr().String()), patient)
	same(t, "code", code, "connect_failed")
	all.Wait()
}

func TestTransportOptionsAreChecked(t *testing.T) {
	for name, change := range map[string]func(*fractal.TransportOptions){
		"verification": func(o *fractal.TransportOptions) {
			o.TLS = &tls.Config{InsecureSkipVerify: true}
		},
		"age":         func(o *fractal.TransportOptions) { o.ConnectionMaxAge = 0 },
		"idle":        func(o *fractal.TransportOptions) { o.ConnectionIdle = 0 },
		"connections": func(o *fractal.TransportOptions) { o.MaxConnections = 0 },
		"bytes":       func(o *fractal.TransportOptions) { o.Limits.Bytes = 0 },
		"headers":     func(o *fractal.TransportOptions) { o.Limits.Headers = 101 },
	} {
		options := fractal.DefaultTransportOptions()
		change(&options)
		_, err := fractal.NewTransport(options)
		if !errors.Is(err, fractal.ErrConfig) {
			t.Errorf("%s: expected config_invalid, got %v", name, err)
		}
	}
}
