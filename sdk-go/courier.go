package fractal

// This file carries letters between a client and its outbox: keep first, attempt, then settle. It
// owns the order that loses nothing: a letter is durable before its first attempt, and its entry
// ends only by a verdict about an answer to these very bytes.

import (
	"context"
	"sync"
	"sync/atomic"
)

// deliveryWorkersMax is how many entries are sent beside each other where batches are not taken.
const deliveryWorkersMax = 16

// courier carries letters between a client and its outbox. The client makes one of the fields up
// to `batch`, calls Outbox.listen with its own `tell` and the courier's `wake`, and runs one `pump`
// in the background if the outbox wants that. A courier ends with the context that it is given.
type courier struct {
	outbox *Outbox
	clock  Clock
	draw   func() float64
	// totalMs is the total bound of one call.
	totalMs int64
	// single and batch are one exchange each, until the deadline on the monotonic clock. A batch
	// gives one answer for each letter.
	single func(ctx context.Context, letter Letter, deadlineMs int64) (*Submitted, error)
	batch  func(ctx context.Context, letters []Letter, deadlineMs int64) ([]batchAnswer, error)

	noBatches atomic.Bool
	lock      sync.Mutex
	dozes     map[*doze]bool
}

// doze is what a pump waits in; it is ended as soon as the outbox changes.
type doze struct{ end context.CancelFunc }

// wake lets every pump look at the outbox again; the outbox calls it (Outbox.listen).
func (c *courier) wake() {
	c.lock.Lock()
	defer c.lock.Unlock()
	for each := range c.dozes {
		each.end()
	}
}

// lieDown begins a doze in the place of the one before. It is begun before a pump looks at the
// outbox: what changes while it looks ends the doze that follows.
func (c *courier) lieDown(ctx context.Context, d *doze) context.Context {
	dozing, end := context.WithCancel(ctx)
	c.lock.Lock()
	defer c.lock.Unlock()
	if d.end != nil {
		d.end()
	}
	if c.dozes == nil {
		c.dozes = map[*doze]bool{}
	}
	d.end, c.dozes[d] = end, true
	return dozing
}

func (c *courier) getUp(d *doze) {
	c.lock.Lock()
	defer c.lock.Unlock()
	d.end()
	delete(c.dozes, d)
}

// submit keeps a letter, attempts, settles. The error of a delivery that stopped says by Queued
// whether the outbox goes on with it.
func (c *courier) submit(
	letter Letter, attempt func() (*Submitted, error),
) (*Submitted, error) {
	kept, err := c.outbox.put(letter, c.clock.NowMs(), true)
	if err != nil {
		return nil, err
	}
	return c.deliver(kept.ID, attempt)
}

// enqueue keeps a letter and leaves it to a pump; it gives the id of its entry.
func (c *courier) enqueue(letter Letter) (string, error) {
	kept, err := c.outbox.put(letter, c.clock.NowMs(), false)
	return kept.ID, err
}

// flush sends what waits, until nothing is left that may be sent, or in vain. Pauses end: refused
// credentials are tried again. What a server asked to come later is not sent before that.
func (c *courier) flush(ctx context.Context, timeoutMs int64) (OutboxStats, error) {
	deadlineMs := addMs(c.clock.MonotonicMs(), timeoutMs)
	c.outbox.hurry()
	err := c.pump(ctx, &deadlineMs)
	return c.outbox.Stats(), err
}

// resign signs the waiting entries of one key again and counts them. What they say does not
// change, and a record that did arrive is answered as a duplicate.
func (c *courier) resign(
	kid, tenant string, sign func(*Document) (*SignedRecord, error),
) (count int, err error) {
	letters, err := c.outbox.lettersOf(kid)
	for _, old := range letters {
		fresh, err := resigned(old, tenant, sign)
		if err != nil {
			return count, err
		}
		if _, err := c.outbox.put(fresh, c.clock.NowMs(), false); err != nil {
			return count, err
		}
		c.outbox.release(old.ID, "resigned")
		count++
	}
	return count, err
}

// deliver attempts one entry in flight and settles it, even if the attempt panics.
func (c *courier) deliver(
	id string, attempt func() (*Submitted, error),
) (submitted *Submitted, err error) {
	verdict := Verdict{Kind: Later, EndpointUp: true}
	defer func() { c.settle(id, verdict) }()
	submitted, err = attempt()
	verdict = verdictFor(submitted, err)
	if known, is := err.(*Error); is {
		known.Queued = verdict.Kind == Later || verdict.Kind == Pause
	}
	return submitted, err
}

// settle tells the outbox what became of an entry. What cannot be written is reported by the
// outbox; the answer of the server stands.
func (c *courier) settle(id string, verdict Verdict) {
	_ = c.outbox.settle(id, verdict, c.clock.NowMs(), c.draw())
}

// deliverBatch attempts entries of one tenant as a batch and settles each by its own answer.
func (c *courier) deliverBatch(ctx context.Context, letters []Letter, deadlineMs int64) {
	verdicts := make([]Verdict, len(letters))
	for index := range verdicts {
		verdicts[index] = Verdict{Kind: Later, EndpointUp: true}
	}
	defer func() {
		for index, letter := range letters {
			c.settle(letter.ID, verdicts[index])
		}
	}()
	answers, err := c.batch(ctx, letters, deadlineMs)
	if err != nil {
		verdict := verdictFor(nil, err)
		if refusesBatches(err) {
			c.noBatches.Store(true)
			verdict = Verdict{Kind: Later, EndpointUp: true}
		}
		for index := range verdicts {
			verdicts[index] = verdict
		}
		return
	}
	readable := false
	for index, answer := range answers {
		if answer.err != nil {
			verdicts[index] = verdictOf(answer.err)
		} else {
			verdicts[index] = Verdict{Kind: Acknowledge, Status: answer.submitted.Raw.Status}
		}
		readable = readable || answer.err == nil || !isUnreadable(answer.err)
	}
	if !readable {
		c.noBatches.Store(true)
	}
}

// pump delivers what is due, again and again. With a deadline, on the monotonic clock, until then
// or until nothing is left that may be sent; without one until the context ends. Its error is that
// of a closed outbox.
func (c *courier) pump(ctx context.Context, deadlineMs *int64) error {
	d := &doze{}
	c.lieDown(ctx, d)
	defer c.getUp(d)
	for ctx.Err() == nil {
		dozing := c.lieDown(ctx, d)
		due, err := c.outbox.take(c.clock.NowMs(), maxBatchLines, maxBatchBytes)
		if err != nil {
			return err
		}
		if len(due.letters) > 0 {
			c.deliverAll(ctx, due.letters, deadlineMs)
			if deadlineMs != nil && *deadlineMs <= c.clock.MonotonicMs() {
				return nil
			}
			continue
		}
		waitMs, bounded := due.nextDueMs-c.clock.NowMs(), due.hasNext
		if waitMs <= 0 {
			bounded = false // due, but no room until something that is in flight settles
		}
		if deadlineMs != nil {
			leftMs := *deadlineMs - c.clock.MonotonicMs()
			if nothingLeft := !due.hasNext && due.inFlight == 0; leftMs <= 0 || nothingLeft {
				return nil
			}
			if !bounded || leftMs < waitMs {
				waitMs, bounded = leftMs, true
			}
		}
		if bounded {
			_ = c.clock.Wait(dozing, waitMs) // a doze that was ended is a reason to look again
		} else {
			<-dozing.Done()
		}
	}
	return nil
}

// deliverAll runs the deliveries of these letters beside each other until all have ended. Each
// has its own total bound, or until if that is earlier (spec/formats.md 11.19).
func (c *courier) deliverAll(ctx context.Context, letters []Letter, until *int64) {
	deadlineMs := addMs(c.clock.MonotonicMs(), c.totalMs)
	if until != nil {
		deadlineMs = min(deadlineMs, *until)
	}
	var calls []func()
	for _, group := range byTenant(letters) {
		if len(group) > 1 && !c.noBatches.Load() {
			calls = append(calls, func() { c.deliverBatch(ctx, group, deadlineMs) })
			continue
		}
		for _, letter := range group {
			calls = append(calls, func() {
				// The entry is settled, and the event told: the error has been heard.
				_, _ = c.deliver(letter.ID, func() (*Submitted, error) {
					return c.single(ctx, letter, deadlineMs)
				})
			})
		}
	}
	places := make(chan struct{}, deliveryWorkersMax)
	var all sync.WaitGroup
	for _, call := range calls {
		places <- struct{}{}
		all.Go(func() {
			defer func() { <-places }()
			call()
		})
	}
	all.Wait()
}
