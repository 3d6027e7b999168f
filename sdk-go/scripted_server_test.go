package fractal_test

// A real HTTP server on loopback that plays a script: one step for each request it reads. It
// speaks raw sockets on purpose: what it sends may be no HTTP at all.

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"sort"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	fractal "fractal-lba.example/sdk-go"
	"fractal-lba.example/sdk-go/fractaltest"
)

// longTime is a bound that no test waits for; shortTime one that a test does wait for.
const (
	longTime  = 30 * time.Second
	shortTime = 150 * time.Millisecond

	trickleTime = 10 * time.Millisecond
)

// seen is one request as it arrived.
type seen struct {
	method, path string
	headers      map[string]string
	body         []byte
	connection   int
}

// step is what to do with a request: cut sends so many bytes of the response and closes (-1: all
// of them), reset closes by RST, hold is awaited before anything is sent, raw is sent in place of
// a response.
type step struct {
	status  int
	headers map[string]string
	body    []byte
	answer  func(seen) step
	cut     int
	isCut   bool
	reset   bool
	trickle bool
	hold    <-chan struct{}
	free    func(seen) bool // whether a request need not wait for hold
	raw     string
	close   bool
	repeat  bool
}

type scriptedServer struct {
	t        *testing.T
	listener net.Listener
	secure   *tls.Config
	arrived  chan seen
	closing  chan struct{}
	all      sync.WaitGroup

	mu          sync.Mutex
	script      []step
	open        map[net.Conn]bool
	connections int
	requests    []seen
	inFlight    int
	inFlightMax int
}

func serve(t *testing.T, script ...step) *scriptedServer { return serveTLS(t, nil, script...) }

func serveTLS(t *testing.T, secure *tls.Config, script ...step) *scriptedServer {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &scriptedServer{
		t: t, listener: listener, secure: secure, script: script,
		arrived: make(chan seen, 10_000), closing: make(chan struct{}), open: map[net.Conn]bool{},
	}
	s.all.Go(s.accept)
	t.Cleanup(s.stop)
	return s
}

func (s *scriptedServer) url() string {
	scheme := "http"
	if s.secure != nil {
		scheme = "https"
	}
	return scheme + "://" + s.listener.Addr().String()
}

// gone gives the URL of a port at which nobody listens.
func gone(t *testing.T) string {
	t.Helper()
	s := serve(t)
	s.stop()
	return s.url()
}

func (s *scriptedServer) stop() {
	s.mu.Lock()
	select {
	case <-s.closing:
	default:
		close(s.closing)
	}
	_ = s.listener.Close()
	for conn := range s.open {
		_ = conn.Close()
	}
	s.mu.Unlock()
	s.all.Wait()
}

func (s *scriptedServer) accept() {
	for {
		conn, err := s.listener.Accept()
		if err != nil {
			return
		}
		s.mu.Lock()
		s.connections++
		number := s.connections
		s.open[conn] = true
		s.mu.Unlock()
		s.all.Go(func() { s.converse(conn, number) })
	}
}

func (s *scriptedServer) converse(plain net.Conn, number int) {
	defer func() {
		s.mu.Lock()
		delete(s.open, plain)
		s.mu.Unlock()
		_ = plain.Close()
	}()
	conn := plain
	if s.secure != nil {
		conn = tls.Server(plain, s.secure)
	}
	reader := bufio.NewReader(conn)
	for {
		request, ok := readRequest(reader, number)
		if !ok || !s.play(conn, plain, request) {
			return
		}
	}
}

func readRequest(reader *bufio.Reader, number int) (seen, bool) {
	first, err := reader.ReadString('\n')
	words := strings.Fields(first)
	if err != nil || len(words) != 3 {
		return seen{}, false
	}
	request := seen{words[0], words[1], map[string]string{}, nil, number}
	for {
		line, err := reader.ReadString('\n')
		if err != nil {
			return seen{}, false
		}
		line = strings.TrimRight(line, "\r\n")
		if line == "" {
			break
		}
		name, value, _ := strings.Cut(line, ": ")
		request.headers[strings.ToLower(name)] = value
	}
	length, _ := strconv.Atoi(request.headers["content-length"])
	request.body = make([]byte, length)
	_, err = io.ReadFull(reader, request.body)
	return request, err == nil
}

// play answers one request; it says whether the connection goes on.
func (s *scriptedServer) play(conn, plain net.Conn, request seen) bool {
	s.mu.Lock()
	s.requests = append(s.requests, request)
	s.inFlight++
	s.inFlightMax = max(s.inFlightMax, s.inFlight)
	next := step{status: 500, headers: map[string]string{}, body: []byte("script ended")}
	if len(s.script) > 0 {
		next = s.script[0]
		if !next.repeat {
			s.script = s.script[1:]
		}
	} else {
		s.t.Errorf("the script ended before %s %s", request.method, request.path)
	}
	s.mu.Unlock()
	s.arrived <- request
	isClosing := false
	if next.hold != nil && (next.free == nil || !next.free(request)) {
		select {
		case <-next.hold:
		case <-s.closing:
			isClosing = true
		}
	}
	s.mu.Lock()
	s.inFlight--
	s.mu.Unlock()
	return !isClosing && s.send(conn, plain, next, request)
}

func (s *scriptedServer) send(conn, plain net.Conn, next step, request seen) bool {
	if next.answer != nil {
		made := next.answer(request)
		next.status, next.headers, next.body = made.status, made.headers, made.body
	}
	data := next.raw
	if data == "" {
		data = next.text()
	}
	if next.isCut {
		data = data[:min(next.cut, len(data))]
	}
	if !next.trickle {
		_, _ = io.WriteString(conn, data)
	}
	for index := range len(data) {
		if !next.trickle {
			break
		}
		select {
		case <-s.closing:
			return false
		case <-time.After(trickleTime):
		}
		if _, err := io.WriteString(conn, data[index:index+1]); err != nil {
			return false
		}
	}
	if next.reset {
		_ = plain.(*net.TCPConn).SetLinger(0)
	}
	return !next.reset && !next.close && !next.isCut && next.raw == ""
}

func (n step) text() string {
	status := n.status
	if status == 0 {
		status = 200
	}
	headers := map[string]string{"Content-Length": strconv.Itoa(len(n.body))}
	if n.close {
		headers["Connection"] = "close"
	}
	for name, value := range n.headers {
		headers[name] = value
	}
	lines := make([]string, 0, len(headers))
	for name, value := range headers {
		lines = append(lines, name+": "+value+"\r\n")
	}
	sort.Strings(lines)
	return fmt.Sprintf("HTTP/1.1 %d Scripted\r\n%s\r\n%s", status, strings.Join(lines, ""), n.body)
}

func (s *scriptedServer) seen() []seen {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]seen(nil), s.requests...)
}

func (s *scriptedServer) counts() (connections, inFlightMax int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.connections, s.inFlightMax
}

// await waits until a request has arrived.
func (s *scriptedServer) await() {
	s.t.Helper()
	select {
	case <-s.arrived:
	case <-time.After(longTime):
		s.t.Error("no request arrived")
	}
}

// --- steps ----------------------------------------------------------------------------------

// recorded answers a submit as the server does that recorded it; 202 is not accepted.
func recorded(status int) step {
	return step{answer: func(request seen) step {
		signed, err := fractal.ParseSigned(request.body)
		if err != nil {
			return step{status: 422}
		}
		outcome := fractaltest.Accepted(signed.PcsID)
		if status != 200 {
			outcome.Accepted, outcome.Escalated = false, true
			outcome.Reason = fractal.ReasonCounts
		}
		return step{
			status: status, body: fractaltest.OutcomeBody(outcome),
			headers: map[string]string{
				"Idempotency-Replayed": "false", "PCS-Position": "fra/open/1/7",
				"PCS-Level": "durable", "X-Request-Id": "req-1",
			},
		}
	}}
}

func (n step) always() step {
	n.repeat = true
	return n
}

func (n step) held(hold <-chan struct{}) step {
	n.hold = hold
	return n
}

// refused answers with a problem document; headers are pairs.
func refused(status int, code string, headers ...string) step {
	all := map[string]string{"Content-Type": "application/problem+json", "X-Request-Id": "req-2"}
	for at := 0; at < len(headers); at += 2 {
		all[headers[at]] = headers[at+1]
	}
	body := fmt.Sprintf(
		`{"code":%q,"status":%d,"title":%q,"type":"about:blank"}`,
		code,
		status,
		code,
	)
	return step{status: status, headers: all, body: []byte(body)}
}

func lost() step { return step{isCut: true} }

func silent() step { return step{hold: make(chan struct{})} }

// --- records and clients --------------------------------------------------------------------

var testKey = func() []byte {
	key := make([]byte, 32)
	for index := range key {
		key[index] = byte(index)
	}
	return key
}()

func signerOf(t testing.TB, key []byte, kid string) fractal.Signer {
	t.Helper()
	signer, err := fractal.NewHMACSigner(key, kid)
	if err != nil {
		t.Fatal(err)
	}
	return signer
}

// record gives a record of its own for each number.
func record(number uint64) fractal.Record {
	return fractal.Record{
		MerkleRoot: strings.Repeat("c3", 32), Epoch: number, ShardID: "shard-001",
		SentAt: "2026-01-15T12:00:00Z", Scales: []int64{2, 4, 8, 16},
		NJ:   map[string]int64{"2": 4, "4": 16, "8": 64, "16": 256},
		DHat: 2, CohStar: 0.5, VStar: []float64{0.6, 0.8}, R: 0.5, Regime: fractal.Mixed,
		Budget: 0.35,
	}
}

func pcsIDOf(r fractal.Record) string {
	return fractal.DerivePcsID(r.MerkleRoot, r.Epoch, r.ShardID)
}

// client makes a client whose waits pass at once; it is closed when the test ends.
func client(
	t testing.TB,
	endpoint string,
	options ...fractal.Option,
) (*fractal.Client, *fractaltest.FakeClock) {
	t.Helper()
	clock := fractaltest.NewFakeClock(fractaltest.StartMs)
	usual := []fractal.Option{
		fractal.WithTenant("acme"), fractal.WithClock(clock),
		fractal.WithRandom(fractaltest.NewSeededRandom(1)),
	}
	made, err := fractal.New(endpoint, signerOf(t, testKey, "k1"), append(usual, options...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = made.Close() })
	return made, clock
}

// realClient makes a client on the real clock: its waits end by a cancel, or the test hangs.
func realClient(t testing.TB, endpoint string, options ...fractal.Option) *fractal.Client {
	t.Helper()
	made, err := fractal.New(endpoint, signerOf(t, testKey, "k1"),
		append([]fractal.Option{fractal.WithTenant("acme")}, options...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = made.Close() })
	return made
}

func same[T comparable](t testing.TB, what string, got, want T) {
	t.Helper()
	if got != want {
		t.Errorf("%s: got %v, want %v", what, got, want)
	}
}
