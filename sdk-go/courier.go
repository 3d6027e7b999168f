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

// askEveryMs is how often a region is asked how far it is replicated, while something is held.
const askEveryMs = 5_000

// askTimeoutMs is how long an endpoint has to say how far it is replicated.
const askTimeoutMs = 2_000

// courier carries letters between a client and its outbox. The client makes one of the fields up
// to `batch`, calls Outbox.listen with its own `tell` and the courier's `wake`, and runs one `pump`
// in the background if the outbox wants that. A courier ends with the context that it is given.
type courier struct {
	outbox *Outbox
	clock  Clock
	draw   func() float64
	// level is the durability at which an entry is released.
	level string
	// totalMs is the total bound of one call.
	totalMs int64
	// single and batch are one exchange each, until the deadline on the monotonic clock. A batch
	// gives one answer for each letter.
	single func(ctx context.Context, letter Letter, deadlineMs int64) (*Submitted, error)
	batch  func(ctx context.Context, letters []Letter, deadlineMs int64) ([]batchAnswer, error)
	// ask asks these regions how far they are replicated, and tells the outbox; nil if it cannot.
	ask func(ctx context.Context, regions map[string]bool, timeoutMs int64)

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
// credentials are tried again. What a server asked to come later is not sent before that. With a
// read token it waits for what is held as well.
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
	verdict = verdictFor(submitted, err, c.level)
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
		verdict := verdictFor(nil, err, c.level)
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
			verdicts[index] = JudgeRecorded(c.level, answer.submitted)
		}
		readable = readable || answer.err == nil || !isUnreadable(answer.err)
	}
	if !readable {
		c.noBatches.Store(true)
	}
}

// asking is when to ask the next time: every 5 s while something is held, a flush at once.
type asking struct {
	atOnce  bool
	isAsked bool  // something is held
	atMs    int64 // on the monotonic clock
}

// look says whether to ask now.
func (a *asking) look(held int, monotonicMs int64) bool {
	if held == 0 {
		a.isAsked = false
		return false
	}
	if !a.isAsked {
		a.isAsked, a.atMs = true, monotonicMs
		if !a.atOnce {
			a.atMs = addMs(monotonicMs, askEveryMs)
		}
	}
	if monotonicMs < a.atMs {
		return false
	}
	a.atMs = addMs(monotonicMs, askEveryMs)
	return true
}

// pump delivers what is due, again and again, and asks how far regions are replicated where that
// helps. With a deadline, on the monotonic clock, until then or until nothing is left that may be
// sent or, if it can ask, that is held; without one until the context ends. Its error is that of a
// closed outbox.
func (c *courier) pump(ctx context.Context, deadlineMs *int64) error {
	ask := asking{atOnce: deadlineMs != nil}
	d := &doze{}
	c.lieDown(ctx, d)
	defer c.getUp(d)
	for ctx.Err() == nil {
		dozing := c.lieDown(ctx, d)
		due, err := c.outbox.take(c.clock.NowMs(), maxBatchLines, maxBatchBytes)
		if err != nil {
			return err
		}
		nowMs := c.clock.MonotonicMs()
		isLate := deadlineMs != nil && *deadlineMs <= nowMs
		asks := c.ask != nil && !isLate && ask.look(due.held, nowMs)
		if asks {
			timeoutMs := int64(askTimeoutMs)
			if deadlineMs != nil {
				timeoutMs = min(timeoutMs, *deadlineMs-nowMs)
			}
			c.askAll(ctx, due.letters, timeoutMs)
		}
		if len(due.letters) > 0 {
			c.deliverAll(ctx, due.letters, deadlineMs)
			if deadlineMs != nil && *deadlineMs <= c.clock.MonotonicMs() {
				return nil
			}
		}
		if asks || len(due.letters) > 0 {
			continue
		}
		nothingLeft := !due.hasNext && due.inFlight == 0 && !ask.isAsked
		if deadlineMs != nil && (isLate || nothingLeft) {
			return nil
		}
		if waitMs, bounded := c.dozeMs(due, &ask, deadlineMs); bounded {
			_ = c.clock.Wait(dozing, waitMs) // a doze that was ended is a reason to look again
		} else {
			<-dozing.Done()
		}
	}
	return nil
}

// dozeMs says how long a pump dozes, at most until an entry is due, a region is asked again, or
// the deadline.
func (c *courier) dozeMs(due dueLetters, ask *asking, deadlineMs *int64) (ms int64, bounded bool) {
	shorten := func(waitMs int64) {
		if !bounded || waitMs < ms {
			ms, bounded = waitMs, true
		}
	}
	// One that is over: due, but no room until something that is in flight settles.
	if waitMs := due.nextDueMs - c.clock.NowMs(); due.hasNext && waitMs > 0 {
		shorten(waitMs)
	}
	nowMs := c.clock.MonotonicMs()
	if ask.isAsked {
		shorten(max(1, ask.atMs-nowMs))
	}
	if deadlineMs != nil {
		shorten(max(1, *deadlineMs-nowMs))
	}
	return ms, bounded
}

// askAll asks while letters are in flight that go out next; they are given back if it panics.
func (c *courier) askAll(ctx context.Context, letters []Letter, timeoutMs int64) {
	isDone := false
	defer func() {
		for _, letter := range letters {
			if !isDone {
				c.settle(letter.ID, Verdict{Kind: Later, EndpointUp: true})
			}
		}
	}()
	c.ask(ctx, c.outbox.heldRegions(), timeoutMs)
	isDone = true
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
