package fractal

// This file steps the machines of call.go: it carries their effects out, one call in one goroutine.

import (
	"context"
	"sync"
	"time"
)

// drive runs one exchange to its end.
func drive[T any](
	ctx context.Context, c *Client, spec callSpec[T], deadlineMs int64,
) (value T, err error) {
	call := newExchange(spec, c.state, c.bounds, deadlineMs, c.settings.agent)
	run := &run{client: c, ctx: ctx}
	defer run.leave()
	run.steps(call)
	if call.err != nil {
		return value, call.err
	}
	return call.value, nil
}

// run is one call on its way.
type run struct {
	client   *Client
	ctx      context.Context
	hasPlace bool
}

func (r *run) steps(call machine) {
	var now turn
	for {
		effects := r.step(call, now)
		if len(effects) == 0 {
			return
		}
		for _, each := range effects {
			answer := r.perform(each)
			now = r.client.turn(each, answer)
		}
	}
}

func (r *run) step(call machine, now turn) []effect {
	r.client.stepping.Lock()
	defer r.client.stepping.Unlock()
	return call.step(now)
}

func (r *run) perform(e effect) any {
	c := r.client
	switch e := e.(type) {
	case sendEffect:
		return c.send(r.ctx, e.request, e.connectTimeoutMs, e.attemptTimeoutMs)
	case sleepEffect:
		if c.settings.clock.Wait(r.ctx, e.waitMs) != nil {
			return CallError(r.ctx)
		}
	case tellEffect:
		c.reporter.tell(e.event)
	case hearEffect:
		c.hear(e.watermark)
	case enterEffect:
		if fault := r.enter(e.deadlineMs); fault != nil {
			return fault
		}
	case probeEffect:
		c.spawn(func() { c.probe(e) })
	}
	return nil
}

// turn says what time it is after an effect, and draws where a decision needs it.
func (c *Client) turn(e effect, answer any) turn {
	now := turn{answer: answer}
	if isDrawing(e) {
		now.u = c.settings.random.Float64()
	}
	now.nowMs, now.monotonicMs = c.settings.clock.NowMs(), c.settings.clock.MonotonicMs()
	return now
}

// hear tells the outbox, if there is one, how far a region is replicated: a Position or a
// regionStatus. What cannot be written is only heard once more.
func (c *Client) hear(news any) {
	if c.courier != nil {
		_ = c.settings.outbox.hear(news)
	}
}

// askRegions asks each endpoint that may know once how far its region is replicated.
func (c *Client) askRegions(ctx context.Context, regions map[string]bool, timeoutMs int64) {
	token, err := c.settings.token()
	if err != nil {
		return
	}
	fleet := c.fleet()
	var all sync.WaitGroup
	for index := range fleet.Len() {
		endpoint := fleet.Endpoint(index)
		if fleet.Eligible(index) && (endpoint.Region == "" || regions[endpoint.Region]) {
			all.Go(func() { c.askRegion(ctx, endpoint, &token, timeoutMs) })
		}
	}
	all.Wait()
}

func (c *Client) askRegion(ctx context.Context, endpoint Endpoint, token *Secret, timeoutMs int64) {
	facts := RequestFacts{Agent: c.settings.agent, Tenant: c.settings.tenant, Token: token}
	request, err := RegionStatusRequest(facts.at(endpoint.URL, 1))
	if err != nil {
		return
	}
	raw, isAnswer := c.send(ctx, request, timeoutMs, timeoutMs).(*RawResponse)
	if !isAnswer {
		return
	}
	if raw.Status == 200 {
		// First: it knows which entries stand in a region_epoch that the header only names.
		if status, readable := readRegionStatus(raw.Body); readable {
			c.hear(status)
		}
	}
	if watermark, found := watermarkOf(raw.Headers); found {
		c.hear(watermark)
	}
}

// send gives a *RawResponse or an *Error.
func (c *Client) send(ctx context.Context, request Request, connectMs, attemptMs int64) any {
	bounds := SendBounds{
		Connect: time.Duration(min(connectMs, maxWaitMs)) * time.Millisecond,
		Attempt: time.Duration(min(attemptMs, maxWaitMs)) * time.Millisecond,
	}
	raw, err := c.transport.Send(ctx, request, bounds)
	if err != nil {
		return asError(err)
	}
	return &raw
}

func (c *Client) probe(e probeEffect) {
	answer := c.send(c.closing, e.request, e.timeoutMs, e.timeoutMs)
	now := c.turn(e, answer)
	c.stepping.Lock()
	defer c.stepping.Unlock()
	c.state.probed(e.endpoint, now)
}

// enter takes a place among the calls in flight, or says why there was none.
func (r *run) enter(deadlineMs int64) *Error {
	c := r.client
	if r.ctx.Err() != nil {
		return CallError(r.ctx)
	}
	select {
	case c.places <- struct{}{}:
		r.hasPlace = true
		return nil
	default:
	}
	leftMs := min(max(0, deadlineMs-c.settings.clock.MonotonicMs()), maxWaitMs)
	timer := time.NewTimer(time.Duration(leftMs) * time.Millisecond)
	defer timer.Stop()
	select {
	case c.places <- struct{}{}:
		r.hasPlace = true
		return nil
	case <-r.ctx.Done():
		return CallError(r.ctx)
	case <-timer.C:
		return newError("deadline_exceeded", "no place among the calls in flight")
	}
}

func (r *run) leave() {
	if r.hasPlace {
		<-r.client.places
	}
}
