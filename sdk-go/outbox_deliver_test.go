package fractal

// What an outbox holds is delivered: kept before it is sent, sent until it is acknowledged.

import (
	"bytes"
	"context"
	"errors"
	"reflect"
	"slices"
	"sync"
	"testing"
)

// waitingClock is a clock that only its waits move.
type waitingClock struct {
	lock sync.Mutex
	ms   int64
}

func (c *waitingClock) NowMs() int64 { return outboxNowMs + c.MonotonicMs() }

func (c *waitingClock) MonotonicMs() int64 {
	c.lock.Lock()
	defer c.lock.Unlock()
	return c.ms
}

func (c *waitingClock) Wait(ctx context.Context, waitMs int64) error {
	if ctx.Err() == nil {
		c.lock.Lock()
		defer c.lock.Unlock()
		c.ms += waitMs
	}
	return ctx.Err()
}

// post is a courier on a real outbox with a server in memory.
type post struct {
	*courier
	lock    sync.Mutex
	singles []int
	batches [][]int
	// answer says what the server does with a letter; nil records it.
	answer func(letter Letter) *Error
	// refuse says what the server does with a batch as a whole.
	refuse *Error
}

func newPost(t *testing.T, options ...OutboxOption) (*post, *waitingClock) {
	t.Helper()
	box, _ := newBox(t, options...)
	clock := &waitingClock{}
	p := &post{answer: func(Letter) *Error { return nil }}
	p.courier = &courier{
		outbox: box, clock: clock, totalMs: 60_000, level: Durable,
		draw: func() float64 { return 0.5 },
		single: func(_ context.Context, letter Letter, _ int64) (*Submitted, error) {
			return p.single1(letter)
		},
		batch: func(_ context.Context, letters []Letter, _ int64) ([]batchAnswer, error) {
			return p.batch1(letters)
		},
	}
	box.listen(func(OutboxEvent) {}, p.courier.wake)
	return p, clock
}

func (p *post) single1(letter Letter) (*Submitted, error) {
	p.lock.Lock()
	defer p.lock.Unlock()
	p.singles = append(p.singles, numberOf(letter))
	return p.answered(letter)
}

func (p *post) answered(letter Letter) (*Submitted, error) {
	if err := p.answer(letter); err != nil {
		return nil, err
	}
	return &Submitted{Raw: Raw{Status: 200}}, nil
}

func (p *post) batch1(letters []Letter) ([]batchAnswer, error) {
	p.lock.Lock()
	defer p.lock.Unlock()
	var numbers []int
	for _, letter := range letters {
		numbers = append(numbers, numberOf(letter))
	}
	p.batches = append(p.batches, numbers)
	if p.refuse != nil {
		return nil, p.refuse
	}
	answers := make([]batchAnswer, len(letters))
	for index, letter := range letters {
		submitted, err := p.answered(letter)
		answers[index].submitted = submitted
		errors.As(err, &answers[index].err)
	}
	return answers, nil
}

func (p *post) fill(t *testing.T, from, to int) {
	t.Helper()
	for number := from; number <= to; number++ {
		if _, err := p.enqueue(letterNo(number)); err != nil {
			t.Fatal(err)
		}
	}
}

func (p *post) mustFlush(t *testing.T, timeoutMs int64) OutboxStats {
	t.Helper()
	stats, err := p.flush(context.Background(), timeoutMs)
	if err != nil {
		t.Fatal(err)
	}
	return stats
}

func refusal(status int, code string) *Error { return &Error{Status: status, Code: code} }

func counts(p *post) [2]int {
	stats := p.outbox.Stats()
	return [2]int{stats.Entries, stats.Dead}
}

func TestASubmitIsKeptBeforeItIsSentAndSettledAfter(t *testing.T) {
	for _, each := range []struct {
		err    error
		queued bool
		counts [2]int
	}{
		{nil, false, [2]int{0, 0}},
		{refusal(503, "unavailable"), true, [2]int{1, 0}},
		{refusal(401, "kid_unknown"), true, [2]int{1, 0}},
		{refusal(403, "forbidden"), true, [2]int{1, 0}},
		{refusal(0, "cancelled"), true, [2]int{1, 0}},
		{refusal(400, "json_malformed"), false, [2]int{0, 1}},
		{refusal(409, "pcs_id_conflict"), false, [2]int{0, 1}},
		{refusal(413, "payload_too_large"), false, [2]int{0, 1}},
		{refusal(422, "member_type"), false, [2]int{0, 1}},
		{refusal(422, "response_malformed"), true, [2]int{1, 0}},
	} {
		p, _ := newPost(t)
		sent := &Submitted{Raw: Raw{Status: 200}}
		got, err := p.submit(letterNo(1), func() (*Submitted, error) {
			if counts(p) != [2]int{1, 0} {
				t.Errorf("before the attempt: %v", counts(p))
			}
			return sent, each.err
		})
		if got != sent || !errors.Is(err, each.err) || counts(p) != each.counts {
			t.Errorf("%v: %v, %v, %v", each.err, got, err, counts(p))
		}
		if known, is := err.(*Error); is && known.Queued != each.queued {
			t.Errorf("%v: queued %v", each.err, known.Queued)
		}
		if p.outbox.Stats().InFlight != 0 {
			t.Errorf("%v: still in flight", each.err)
		}
	}
}

func TestWhatTheOutboxRefusesIsNotSent(t *testing.T) {
	p, _ := newPost(t, WithMaxEntries(1))
	p.fill(t, 1, 1)
	_, err := p.submit(letterNo(2), func() (*Submitted, error) {
		t.Error("it was sent")
		return nil, nil
	})
	expectCode(t, err, "outbox_full")
	if err.(*Error).Queued {
		t.Error("it is queued")
	}
}

func TestAnAttemptThatPanicsLeavesItsEntryToTheOutbox(t *testing.T) {
	p, _ := newPost(t)
	func() {
		defer func() {
			if recover() == nil {
				t.Error("the panic of the caller's transport was swallowed")
			}
		}()
		_, _ = p.submit(letterNo(1), func() (*Submitted, error) { panic("transport") })
	}()
	if stats := p.outbox.Stats(); stats.Entries != 1 || stats.InFlight != 0 {
		t.Errorf("%+v", stats)
	}
	if stats := p.mustFlush(t, 60_000); stats.Entries != 0 {
		t.Errorf("%+v", stats)
	}
}

func TestAFlushSendsOneBatchForEachTenantInOrder(t *testing.T) {
	p, _ := newPost(t)
	p.fill(t, 1, 5)
	for number := 11; number <= 13; number++ {
		other := letterNo(number)
		other.Tenant = "another"
		if _, err := p.enqueue(other); err != nil {
			t.Fatal(err)
		}
	}
	if stats := p.mustFlush(t, 60_000); stats.Entries != 0 {
		t.Errorf("%+v", stats)
	}
	slices.SortFunc(p.batches, slices.Compare)
	if want := [][]int{{1, 2, 3, 4, 5}, {11, 12, 13}}; !reflect.DeepEqual(p.batches, want) {
		t.Errorf("%v", p.batches)
	}
}

func TestAServerWithoutBatchesGetsSingles(t *testing.T) {
	for _, status := range []int{400, 404, 405, 413, 415, 422} {
		p, _ := newPost(t)
		p.refuse = refusal(status, "not_found")
		p.fill(t, 1, 8)
		p.mustFlush(t, 60_000)
		if slices.Sort(p.singles); len(p.batches) != 1 || len(p.singles) != 8 {
			t.Errorf("%d: batches %v, singles %v", status, p.batches, p.singles)
		}
		if counts(p) != [2]int{0, 0} {
			t.Errorf("%d: the refusal of a batch says something of its lines: %v", status, counts(p))
		}
	}
	p, _ := newPost(t)
	p.fill(t, 1, 3)
	p.answer = func(Letter) *Error {
		if len(p.singles) == 0 {
			return refusal(200, "response_malformed")
		}
		return nil
	}
	if p.mustFlush(t, 600_000); len(p.batches) != 1 || len(p.singles) < 3 {
		t.Errorf("no line could be read: batches %v, singles %v", p.batches, p.singles)
	}
}

func TestEachLineOfABatchIsSettledByItsOwnAnswer(t *testing.T) {
	p, _ := newPost(t)
	p.fill(t, 1, 4)
	answers := map[int]*Error{
		1: refusal(409, "pcs_id_conflict"), 2: refusal(401, "kid_unknown"), 3: refusal(503, "unavailable"),
	}
	p.answer = func(letter Letter) *Error { return answers[numberOf(letter)] }
	if _, err := p.outbox.put(letterNo(9), outboxNowMs, true); err != nil {
		t.Fatal(err)
	}
	stats := p.mustFlush(t, 1)
	if stats.Entries != 3 || stats.Dead != 1 || !slices.Equal(stats.Blocked, []OutboxGroup{{"kid", "k0"}}) {
		t.Errorf("%+v", stats)
	}
}

func TestAFlushWaitsAsLongAsTheServerAskedAndNoShorter(t *testing.T) {
	p, clock := newPost(t)
	p.fill(t, 1, 1)
	p.answer = func(Letter) *Error {
		if clock.MonotonicMs() >= 100_000 {
			return nil
		}
		return &Error{Status: 429, Code: "rate_limited", RetryAfterMs: 100_000, HasRetryAfter: true}
	}
	if stats := p.mustFlush(t, 50_000); stats.Entries != 1 || clock.MonotonicMs() != 50_000 {
		t.Errorf("%+v at %d", stats, clock.MonotonicMs())
	}
	if len(p.singles) != 1 {
		t.Errorf("sent %d times", len(p.singles))
	}
	if stats := p.mustFlush(t, 3_600_000); stats.Entries != 0 || len(p.singles) != 2 {
		t.Errorf("%+v, sent %d times", stats, len(p.singles))
	}
}

func TestAFlushInVainEndsAtItsDeadline(t *testing.T) {
	p, clock := newPost(t)
	p.fill(t, 1, 3)
	p.answer = func(Letter) *Error { return refusal(503, "unavailable") }
	if stats := p.mustFlush(t, 300_000); stats.Entries != 3 || clock.MonotonicMs() != 300_000 {
		t.Errorf("%+v at %d", stats, clock.MonotonicMs())
	}
	if len(p.singles) < 10 || len(p.batches) != 1 {
		t.Errorf("%d singles, %d batches", len(p.singles), len(p.batches))
	}
}

func TestAFlushBeginsNothingAfterItsDeadlineHoweverMuchIsDue(t *testing.T) {
	p, clock := newPost(t)
	p.fill(t, 1, 30)
	p.refuse = refusal(404, "not_found")
	p.answer = func(Letter) *Error {
		_ = clock.Wait(context.Background(), 40_000) // a slow server
		return refusal(503, "unavailable")
	}
	stats := p.mustFlush(t, 50_000)
	if stats.Entries != 30 || stats.InFlight != 0 || len(p.singles) > 31 {
		t.Errorf("%+v, %d sent", stats, len(p.singles))
	}
}

func TestWhileAnEndpointIsDownOneEntryProbes(t *testing.T) {
	p, _ := newPost(t)
	p.fill(t, 1, 40)
	sizes := []int{}
	p.answer = func(Letter) *Error {
		if len(p.batches)+len(p.singles) <= 3 {
			return refusal(503, "unavailable")
		}
		return nil
	}
	if stats := p.mustFlush(t, 600_000); stats.Entries != 0 {
		t.Errorf("%+v", stats)
	}
	for _, batch := range p.batches {
		sizes = append(sizes, len(batch))
	}
	if sizes[0] != 40 || len(p.singles) < 3 || sizes[1] != 2 || !slices.IsSorted(sizes[1:len(sizes)-1]) {
		t.Errorf("batches of %v, %d singles", sizes, len(p.singles))
	}
}

func TestAPauseEndsWithAFlushOrAnAcceptedEntry(t *testing.T) {
	p, _ := newPost(t)
	p.fill(t, 1, 6) // the odd ones are of k1
	refused := true
	p.answer = func(letter Letter) *Error {
		if refused && letter.Kid == "k1" {
			return refusal(401, "kid_unknown")
		}
		return nil
	}
	want := []OutboxGroup{{"kid", "k1"}}
	if stats := p.mustFlush(t, 60_000); stats.Entries != 3 || !slices.Equal(stats.Blocked, want) {
		t.Errorf("%+v", stats)
	}
	refused = false
	if stats := p.mustFlush(t, 60_000); stats.Entries != 0 || len(stats.Blocked) != 0 {
		t.Errorf("%+v", stats)
	}
}

func TestAPumpDeliversWhatIsEnqueuedWhileItDozesAndEndsWithItsContext(t *testing.T) {
	p, _ := newPost(t)
	delivered := make(chan int, 10)
	p.answer = func(letter Letter) *Error {
		delivered <- numberOf(letter)
		return nil
	}
	ctx, end := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- p.pump(ctx, nil) }()
	for number := 1; number <= 3; number++ {
		p.fill(t, number, number)
		if got := <-delivered; got != number {
			t.Errorf("delivered %d", got)
		}
	}
	end()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if len(p.dozes) != 0 {
		t.Error("the pump is still woken")
	}
}

func TestAPumpOfAClosedOutboxSaysSo(t *testing.T) {
	p, _ := newPost(t)
	mustClose(t, p.outbox)
	expectCode(t, p.pump(context.Background(), nil), "outbox_corrupt")
}

func TestEntriesOfARetiredKeyAreSignedAgain(t *testing.T) {
	p, _ := newPost(t)
	body := []byte(`{"sent_at":"2026-01-01T00:00:00Z"}`)
	for number := 1; number <= 3; number++ {
		letter := letterNo(number)
		letter.Body, letter.AtMs = body, outboxNowMs-7
		if _, err := p.enqueue(letter); err != nil {
			t.Fatal(err)
		}
	}
	signed := 0
	sign := func(*Document) (*SignedRecord, error) {
		signed++
		fresh := []byte(`{"sent_at":"2026-01-01T00:00:00Z","sig":"new"}`)
		return &SignedRecord{Body: fresh, PcsID: "p", Content: letterNo(1 + 2*(signed-1)).Key, Kid: "k9"}, nil
	}
	count, err := p.resign("k1", "acme", sign)
	if err != nil || count != 2 || counts(p) != [2]int{3, 0} {
		t.Errorf("%d, %v, %v", count, err, counts(p))
	}
	fresh, err := p.outbox.lettersOf("k9")
	if err != nil || len(fresh) != 2 || !bytes.Contains(fresh[0].Body, []byte("new")) ||
		fresh[0].AtMs != outboxNowMs-7 || fresh[0].Tenant != "acme" {
		t.Errorf("%+v, %v", fresh, err)
	}
	if left, err := p.outbox.lettersOf("k1"); err != nil || len(left) != 0 {
		t.Errorf("%v, %v", left, err)
	}
	_, err = p.resign("k0", "acme", sign) // what it says has changed
	expectCode(t, err, "outbox_corrupt")
	if counts(p) != [2]int{3, 0} {
		t.Errorf("%v", counts(p))
	}
}
