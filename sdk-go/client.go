package fractal

// This file is the shell around the calls of call.go: goroutines, contexts and the transport. A
// client holds no decision of its own: it builds a call and steps it.

import (
	"context"
	"io"
	"sync"
	"time"
)

// Client submits records and reads outcomes. It is safe for concurrent use. Close ends every wait
// and every call with the code cancelled.
type Client struct {
	settings  *settings
	bounds    callBounds
	transport Transport
	own       io.Closer // the transport, if the client made it
	reporter  *reporter
	courier   *courier // nil without an outbox
	places    chan struct{}

	closing context.Context
	close   context.CancelCauseFunc

	stepping sync.Mutex // one call is stepped at a time
	state    *callState

	starting   sync.Mutex // guards the rest
	background sync.WaitGroup
	isClosed   bool
	hasCourier bool
}

// New makes a client for one endpoint, and more by WithEndpoints. Without a signer, nil, only
// records that are signed already are accepted. It does no I/O; its error is config_invalid.
func New(endpoint string, signer Signer, options ...Option) (*Client, error) {
	s, err := settingsOf(endpoint, signer, options)
	if err != nil {
		return nil, err
	}
	fleet, err := NewFleet(s.endpoints, s.failover)
	if err != nil {
		return nil, err
	}
	c := &Client{
		settings: s, state: newCallState(fleet), reporter: newReporter(s.log, s.hooks),
		places: make(chan struct{}, s.maxInFlight),
		bounds: callBounds{
			retry: s.retry, limits: s.limits,
			connectTimeoutMs: milliseconds(s.connectTimeout),
			attemptTimeoutMs: milliseconds(s.attemptTimeout),
		},
	}
	if err := c.connect(); err != nil {
		return nil, err
	}
	c.closing, c.close = context.WithCancelCause(context.Background())
	if s.outbox != nil {
		c.courier = &courier{
			outbox: s.outbox, clock: s.clock, draw: s.random.Float64,
			totalMs: milliseconds(s.call.totalTimeout), level: s.call.durability,
			single: c.deliverSingle, batch: c.deliverBatch,
		}
		if s.token != nil {
			c.courier.ask = c.askRegions
		}
		s.outbox.listen(func(event OutboxEvent) { c.reporter.tell(event) }, c.courier.wake)
	}
	return c, nil
}

// connect chooses the transport.
func (c *Client) connect() error {
	s := c.settings
	switch {
	case s.transport != nil:
		c.transport = s.transport
		return nil
	case s.client != nil:
		over, err := newTransportOver(s.client, s.limits)
		c.transport = over
		return err
	}
	options := DefaultTransportOptions()
	options.ConnectionMaxAge, options.ConnectionIdle = s.connectionMaxAge, s.connectionIdle
	options.Limits = s.limits
	own, err := NewTransport(options)
	c.transport, c.own = own, own
	return err
}

// String says what the client is for, and no secret.
func (c *Client) String() string {
	return "fractal.Client(" + loggableURL(c.settings.endpoints[0].URL) + ")"
}

// GoString is String.
func (c *Client) GoString() string { return c.String() }

// --- calls ----------------------------------------------------------------------------------

// Submit signs a copy of the record, sends it, and gives the recorded outcome.
//
// With an outbox the record is durable before the first attempt; if the call then stops, the
// error says by Queued that the outbox goes on with it. Whether the record was accepted is in
// Outcome.Accepted: an escalated one is recorded too.
func (c *Client) Submit(
	ctx context.Context, record Submittable, options ...CallOption,
) (*Submitted, error) {
	call, err := c.settings.callWith(options)
	if err != nil {
		return nil, err
	}
	return c.submit(ctx, record, call)
}

func (c *Client) submit(
	ctx context.Context, record Submittable, call callSettings,
) (*Submitted, error) {
	deadlineMs := c.deadlineMs(ctx, call.totalTimeout)
	ctx, end, err := c.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer end()
	signed, err := c.prepare(record)
	if err != nil {
		return nil, err
	}
	facts := RequestFacts{Agent: c.settings.agent, Tenant: c.settings.tenant}
	if call.durability != Durable && c.courier == nil {
		facts.MinAck = call.durability
	}
	attempt := func() (*Submitted, error) {
		return drive(ctx, c, submitSpec(signed, facts), deadlineMs)
	}
	if c.courier == nil {
		return attempt()
	}
	letter, err := letterOfSigned(signed, c.settings.tenant)
	if err != nil {
		return nil, err
	}
	c.startCourier()
	return c.courier.submit(letter, attempt)
}

// Get reads the outcome of a record of this tenant; it needs the read token. An id that the
// tenant does not have is not_found, never a nil outcome.
func (c *Client) Get(ctx context.Context, pcsID string, options ...CallOption) (*Outcome, error) {
	call, err := c.settings.callWith(options)
	if err != nil {
		return nil, err
	}
	deadlineMs := c.deadlineMs(ctx, call.totalTimeout)
	ctx, end, err := c.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer end()
	facts := RequestFacts{Agent: c.settings.agent, Tenant: c.settings.tenant}
	if c.settings.token != nil {
		token, err := c.settings.token()
		if err != nil {
			return nil, err
		}
		facts.Token = &token
	}
	spec := getSpec(pcsID, facts)
	if _, err := spec.build("", 1); err != nil { // an id that is none takes no place
		return nil, err
	}
	return drive(ctx, c, spec, deadlineMs)
}

// Health asks every endpoint at once whether it takes writes now; a sick one is no error.
func (c *Client) Health(ctx context.Context) []EndpointHealth {
	ctx, end := c.follow(ctx)
	defer end()
	fleet := c.fleet()
	answers := make([]EndpointHealth, fleet.Len())
	var all sync.WaitGroup
	for index := range answers {
		all.Go(func() { answers[index] = c.healthOf(ctx, fleet.Endpoint(index)) })
	}
	all.Wait()
	return answers
}

func (c *Client) healthOf(ctx context.Context, endpoint Endpoint) EndpointHealth {
	wait := c.settings.healthTimeout
	facts := RequestFacts{Agent: c.settings.agent, Endpoint: endpoint.URL}
	request, err := HealthRequest(facts)
	if err != nil {
		return readHealth(endpoint, nil, asError(err), c.settings.clock.NowMs())
	}
	raw, err := c.transport.Send(ctx, request, SendBounds{wait, wait})
	if err != nil {
		return readHealth(endpoint, nil, asError(err), c.settings.clock.NowMs())
	}
	return readHealth(endpoint, &raw, nil, c.settings.clock.NowMs())
}

func (c *Client) fleet() Fleet {
	c.stepping.Lock()
	defer c.stepping.Unlock()
	return c.state.fleet
}

// SubmitPCS is Submit.
func (c *Client) SubmitPCS(ctx context.Context, record Submittable) (*Submitted, error) {
	return c.Submit(ctx, record)
}

// HealthCheck is Health.
func (c *Client) HealthCheck(ctx context.Context) []EndpointHealth { return c.Health(ctx) }

// --- with an outbox -------------------------------------------------------------------------

// Enqueue signs a copy of a record and keeps it in the outbox; it returns when the record is
// durable, with the id of its entry.
func (c *Client) Enqueue(ctx context.Context, record Submittable) (string, error) {
	_, end, err := c.beginWithOutbox(ctx)
	if err != nil {
		return "", err
	}
	defer end()
	signed, err := c.prepare(record)
	if err != nil {
		return "", err
	}
	letter, err := letterOfSigned(signed, c.settings.tenant)
	if err != nil {
		return "", err
	}
	c.startCourier()
	return c.courier.enqueue(letter)
}

// Flush sends what waits in the outbox, until nothing is left that may be sent, or in vain, or the
// time is over. Pauses end: refused credentials are tried again. What a server asked to come later
// is not sent before that. With a read token it waits for what is held as well, until it is
// replicated. It gives what the outbox still holds.
func (c *Client) Flush(ctx context.Context, timeout time.Duration) (OutboxStats, error) {
	if timeout <= 0 {
		return OutboxStats{}, invalid("timeout", "a duration above 0", timeout)
	}
	ctx, end, err := c.beginWithOutbox(ctx)
	if err != nil {
		return OutboxStats{}, err
	}
	defer end()
	stats, err := c.courier.flush(ctx, milliseconds(timeout))
	if err == nil && ctx.Err() != nil {
		return stats, stoppedBy(ctx)
	}
	return stats, err
}

// Resign signs the waiting entries of one key again, "" being those without a kid, with the
// present signer, and counts them. What they say does not change, and a record that did arrive is
// answered as a duplicate.
func (c *Client) Resign(ctx context.Context, kid string) (int, error) {
	_, end, err := c.beginWithOutbox(ctx)
	if err != nil {
		return 0, err
	}
	defer end()
	if c.settings.signer == nil {
		return 0, newError("config_invalid", "resign: expected a client with a signer")
	}
	count, err := c.courier.resign(kid, c.settings.tenant, c.settings.sign)
	c.startCourier()
	return count, err
}

func (c *Client) beginWithOutbox(ctx context.Context) (context.Context, func(), error) {
	if c.courier == nil {
		return nil, nil, newError("config_invalid", "expected a client with an outbox")
	}
	return c.begin(ctx)
}

// startCourier delivers in the background from the first call on, if the outbox wants that.
func (c *Client) startCourier() {
	if !c.settings.outbox.settings.background {
		return
	}
	c.starting.Lock()
	isFirst := !c.hasCourier
	c.hasCourier = true
	c.starting.Unlock()
	if isFirst {
		c.spawn(c.runCourier)
	}
}

func (c *Client) runCourier() {
	if err := c.courier.pump(c.closing, nil); err != nil {
		c.reporter.tell(OutboxEvent{Kind: "outbox_corrupt", Code: asError(err).Code})
	}
}

// deliverSingle sends one letter of the outbox.
func (c *Client) deliverSingle(
	ctx context.Context, letter Letter, deadlineMs int64,
) (*Submitted, error) {
	facts := RequestFacts{Agent: c.settings.agent, Tenant: letter.Tenant}
	return drive(ctx, c, submitSpec(signedOf(letter), facts), deadlineMs)
}

// deliverBatch sends letters of one tenant together.
func (c *Client) deliverBatch(
	ctx context.Context, letters []Letter, deadlineMs int64,
) ([]batchAnswer, error) {
	records := make([]*SignedRecord, len(letters))
	for index, letter := range letters {
		records[index] = signedOf(letter)
	}
	facts := RequestFacts{Agent: c.settings.agent, Tenant: letters[0].Tenant}
	return drive(ctx, c, batchSpec(records, facts), deadlineMs)
}

func signedOf(letter Letter) *SignedRecord {
	return &SignedRecord{
		Body: letter.Body, PcsID: letter.PcsID, Content: letter.Key,
		Kid: letter.Kid, Tenant: letter.Tenant,
	}
}

// --- ending ---------------------------------------------------------------------------------

// Close ends every wait and call with the code cancelled, and returns when the goroutines of the
// client have ended. The outbox, and a transport that was given, stay open. A hook must not call
// it.
func (c *Client) Close() error {
	c.starting.Lock()
	wasClosed := c.isClosed
	c.isClosed = true
	c.starting.Unlock()
	c.close(newError("cancelled", "the client was closed"))
	c.background.Wait()
	if wasClosed {
		return nil
	}
	if c.courier != nil {
		c.settings.outbox.listen(nil, nil)
	}
	if c.own != nil {
		return c.own.Close()
	}
	return nil
}

// spawn runs a function beside the calls; Close waits for it.
func (c *Client) spawn(work func()) {
	c.starting.Lock()
	defer c.starting.Unlock()
	if !c.isClosed {
		c.background.Go(work)
	}
}

// follow gives a context that ends with the caller's or the client. Its end must be called.
func (c *Client) follow(ctx context.Context) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(orBackground(ctx))
	stop := context.AfterFunc(c.closing, func() { cancel(context.Cause(c.closing)) })
	return ctx, func() {
		stop()
		cancel(nil)
	}
}

// begin refuses a call whose context has ended, or whose client.
func (c *Client) begin(ctx context.Context) (context.Context, func(), error) {
	if c.closing.Err() != nil {
		return nil, nil, stoppedBy(c.closing)
	}
	ctx, end := c.follow(ctx)
	if ctx.Err() != nil {
		defer end()
		return nil, nil, stoppedBy(ctx)
	}
	return ctx, end, nil
}

// stoppedBy gives the error of a call that its context ended before an attempt.
func stoppedBy(ctx context.Context) *Error {
	fault := CallError(ctx)
	fault.Stop = fault.Code
	return fault
}

// deadlineMs is the end of a call on the clock's monotonic time: the total bound, or the deadline
// of the caller if that is earlier.
func (c *Client) deadlineMs(ctx context.Context, total time.Duration) int64 {
	leftMs := milliseconds(total)
	if ctx != nil {
		if deadline, has := ctx.Deadline(); has {
			leftMs = min(leftMs, time.Until(deadline).Milliseconds())
		}
	}
	return addMs(c.settings.clock.MonotonicMs(), leftMs)
}
