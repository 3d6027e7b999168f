package fractal_test

// The client among goroutines: cancel, close, many records, turning away from answers.

import (
	"bytes"
	"context"
	"errors"
	"iter"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	fractal "fractal-lba.example/sdk-go"
	"fractal-lba.example/sdk-go/fractaltest"
)

// background runs a submit beside the test.
func background(ctx context.Context, c *fractal.Client, number uint64) <-chan error {
	done := make(chan error, 1)
	go func() {
		_, err := c.Submit(ctx, record(number))
		done <- err
	}()
	return done
}

func ended(t testing.TB, done <-chan error) *fractal.Error {
	t.Helper()
	select {
	case err := <-done:
		var fault *fractal.Error
		if err != nil && !errors.As(err, &fault) {
			t.Fatalf("expected an *Error, got %v", err)
		}
		return fault
	case <-time.After(longTime):
		t.Fatal("the call did not end")
		return nil
	}
}

func TestACancelEndsAWait(t *testing.T) {
	server := serve(t, refused(503, "unavailable", "Retry-After", "50"))
	waiting := make(chan struct{})
	c := realClient(t, server.url(), fractal.WithHooks(fractal.Hooks{
		OnRetry: func(fractal.RetryEvent) { close(waiting) },
	}))
	ctx, cancel := context.WithCancel(context.Background())
	done := background(ctx, c, 1)
	<-waiting
	cancel()
	fault := ended(t, done)
	same(t, "code", fault.Code, "cancelled")
	same(t, "stop", fault.Stop, fractal.StopCancelled)
	same(t, "attempts", fault.Attempts, 1)
	same(t, "cause", errors.Is(fault, context.Canceled), true)
	same(t, "class", errors.Is(fault, fractal.ErrCancelled), true)
}

func TestTheDeadlineOfTheCallerEndsACall(t *testing.T) {
	server := serve(t, silent(), silent())
	c := realClient(t, server.url())
	ctx, cancel := context.WithTimeout(context.Background(), shortTime)
	defer cancel()
	fault := ended(t, background(ctx, c, 1))
	same(t, "code", fault.Code, "attempt_timeout")
	same(t, "stop", fault.Stop, fractal.StopDeadlineExceeded)
	same(t, "requests", len(server.seen()), 1)
	<-ctx.Done()
	fault = ended(t, background(ctx, c, 1))
	same(t, "code of one that has passed", fault.Code, "deadline_exceeded")
	same(t, "cause", errors.Is(fault, context.DeadlineExceeded), true)
}

func TestCloseEndsWaitsAttemptsAndQueues(t *testing.T) {
	later := serve(t, refused(503, "unavailable", "Retry-After", "50"))
	mute := serve(t, silent(), silent())
	waiting := make(chan struct{})
	clients := []*fractal.Client{
		realClient(t, later.url(), fractal.WithHooks(fractal.Hooks{
			OnRetry: func(fractal.RetryEvent) { close(waiting) },
		})),
		realClient(t, mute.url(), fractal.WithMaxInFlight(1)),
	}
	calls := []<-chan error{background(context.Background(), clients[0], 1)}
	for range 3 {
		calls = append(calls, background(context.Background(), clients[1], 1))
	}
	<-waiting
	mute.await()
	for _, c := range clients {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	}
	for _, done := range calls {
		fault := ended(t, done)
		same(t, "code", fault.Code, "cancelled")
		same(t, "the context of the caller is not", errors.Is(fault, context.Canceled), false)
	}
	same(t, "requests", len(mute.seen()), 1)
}

func TestACallThatQueuesTooLongSaysSo(t *testing.T) {
	gate := make(chan struct{})
	server := serve(t, recorded(200).held(gate))
	c := realClient(t, server.url(), fractal.WithMaxInFlight(1))
	first := background(context.Background(), c, 1)
	server.await()
	_, err := c.Submit(context.Background(), record(2), fractal.WithTotalTimeout(shortTime))
	var fault *fractal.Error
	if !errors.As(err, &fault) {
		t.Fatal(err)
	}
	same(t, "code", fault.Code, "deadline_exceeded")
	same(t, "stop", fault.Stop, fractal.StopDeadlineExceeded)
	same(t, "attempts", fault.Attempts, 0)
	ctx, cancel := context.WithCancel(context.Background())
	queued := background(ctx, c, 3)
	cancel()
	same(t, "a cancel ends the queue", ended(t, queued).Code, "cancelled")
	close(gate)
	if fault := ended(t, first); fault != nil {
		t.Error(fault)
	}
}

func TestAClosedClientRefusesEveryCall(t *testing.T) {
	c, _ := client(t, "https://a.example")
	for range 2 {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	}
	_, submitted := c.Submit(context.Background(), record(1))
	_, got := c.Get(context.Background(), strings.Repeat("a", 64))
	for _, err := range []error{submitted, got} {
		var fault *fractal.Error
		if !errors.As(err, &fault) || fault.Code != "cancelled" ||
			fault.Stop != fractal.StopCancelled {
			t.Errorf("expected cancelled, got %v", err)
		}
	}
}

func TestAContextThatHasEndedStartsNoCall(t *testing.T) {
	server := serve(t)
	c, _ := client(t, server.url())
	ctx, cancel := context.WithCancelCause(context.Background())
	why := errors.New("the user left")
	cancel(why)
	fault := ended(t, background(ctx, c, 1))
	same(t, "code", fault.Code, "cancelled")
	same(t, "cause", errors.Is(fault, why) && errors.Is(fault, context.Canceled), true)
	connections, _ := server.counts()
	same(t, "connections", connections, 0)
}

// --- many -------------------------------------------------------------------------------------

func manyRecords(count uint64) []fractal.Record {
	records := make([]fractal.Record, count)
	for number := range count {
		records[number] = record(number)
	}
	return records
}

func TestAnswersComeInTheOrderOfTheInput(t *testing.T) {
	gates := make([]chan struct{}, 8)
	var script []step
	for index := range gates {
		gates[index] = make(chan struct{})
		script = append(script, recorded(200).held(gates[index]))
	}
	server := serve(t, script...)
	c, _ := client(t, server.url())
	var all sync.WaitGroup
	all.Go(func() {
		for range gates {
			server.await()
		}
		for index := range gates {
			close(gates[len(gates)-1-index])
		}
	})
	records := manyRecords(8)
	items := c.SubmitMany(t.Context(), records, fractal.WithConcurrency(8))
	all.Wait()
	for index, item := range items {
		same(t, "index", item.Index, index)
		if item.Err != nil {
			t.Fatal(item.Err)
		}
		same(t, "id", item.Result.Outcome.PcsID, pcsIDOf(records[index]))
	}
}

func TestOneBadRecordSpoilsNoOther(t *testing.T) {
	server := serve(t, recorded(200).always())
	c, _ := client(t, server.url())
	records := []fractal.Submittable{record(1), fractal.Record{}, record(2), nil, record(3)}
	var codes []string
	for item := range c.SubmitSeq(t.Context(), sequence(records)) {
		code := ""
		var fault *fractal.Error
		if errors.As(item.Err, &fault) {
			code = fault.Code
		}
		codes = append(codes, code)
	}
	same(t, "codes", strings.Join(codes, " "), " hex_invalid  member_type ")
}

func sequence(records []fractal.Submittable) iter.Seq[fractal.Submittable] {
	return func(yield func(fractal.Submittable) bool) {
		for _, each := range records {
			if !yield(each) {
				return
			}
		}
	}
}

func TestNoMoreAreInFlightThanAskedNorThanAClientHasPlaces(t *testing.T) {
	for name, one := range map[string]struct{ concurrency, places int }{
		"asked": {3, 64}, "places": {8, 3},
	} {
		t.Run(name, func(t *testing.T) {
			gate := make(chan struct{})
			server := serve(t, recorded(200).held(gate).always())
			c, _ := client(t, server.url(), fractal.WithMaxInFlight(one.places))
			var all sync.WaitGroup
			all.Go(func() {
				for range 3 {
					server.await()
				}
				close(gate)
			})
			items := c.SubmitMany(
				t.Context(),
				manyRecords(20),
				fractal.WithConcurrency(one.concurrency),
			)
			all.Wait()
			for _, item := range items {
				if item.Err != nil {
					t.Fatal(item.Err)
				}
			}
			_, inFlight := server.counts()
			same(t, "in flight", inFlight, 3)
		})
	}
}

func TestRecordsGoOutInOrderOneByOne(t *testing.T) {
	server := serve(t, recorded(200).always())
	c, _ := client(t, server.url())
	records := manyRecords(10)
	c.SubmitMany(t.Context(), records, fractal.WithConcurrency(1))
	for index, request := range server.seen() {
		signed, err := fractal.ParseSigned(request.body)
		if err != nil {
			t.Fatal(err)
		}
		same(t, "id", signed.PcsID, pcsIDOf(records[index]))
	}
}

func TestACancelMarksTheRestAndKeepsWhatWasAnswered(t *testing.T) {
	server := serve(t, recorded(200).always())
	c, _ := client(t, server.url())
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var codes []string
	for item := range c.SubmitSeq(ctx, recordsFrom(50, nil), fractal.WithConcurrency(2)) {
		cancel()
		same(t, "index", item.Index, len(codes))
		code := ""
		if errors.Is(item.Err, fractal.ErrCancelled) {
			code = "cancelled"
		} else if item.Err != nil {
			t.Fatal(item.Err)
		}
		codes = append(codes, code)
	}
	same(t, "items", len(codes), 50)
	same(t, "first", codes[0], "")
	same(t, "last", codes[49], "cancelled")
	if len(server.seen()) > 8 {
		t.Errorf("%d requests after the cancel", len(server.seen()))
	}
}

// recordsFrom yields records, and counts how many were read.
func recordsFrom(count uint64, read *atomic.Int64) iter.Seq[fractal.Submittable] {
	return func(yield func(fractal.Submittable) bool) {
		for number := range count {
			if read != nil {
				read.Add(1)
			}
			if !yield(record(number)) {
				return
			}
		}
	}
}

func TestTheInputIsReadNoMoreThanTwiceTheWidthAheadAndLeavingEndsTheRest(t *testing.T) {
	gate := make(chan struct{})
	others := recorded(200).held(gate).always()
	others.free = func(request seen) bool {
		return bytes.Contains(request.body, []byte(pcsIDOf(record(0))))
	}
	server := serve(t, others)
	c := realClient(t, server.url())
	var read atomic.Int64
	answers := 0
	records, width := recordsFrom(1_000_000, &read), fractal.WithConcurrency(3)
	for item := range c.SubmitSeq(t.Context(), records, width) {
		if item.Err != nil {
			t.Fatal(item.Err)
		}
		answers++
		break
	}
	same(t, "answers", answers, 1)
	if read.Load() > 2*3+1 {
		t.Errorf("read %d records ahead", read.Load())
	}
}

func TestNoRecordsNoAnswersAndAnyWidthIsTaken(t *testing.T) {
	server := serve(t, recorded(200))
	c, _ := client(t, server.url())
	same(t, "none", len(c.SubmitMany(t.Context(), nil)), 0)
	items := c.SubmitMany(t.Context(), manyRecords(1), fractal.WithConcurrency(int(^uint(0)>>1)))
	same(t, "one", items[0].Err == nil, true)
}

// --- ending -------------------------------------------------------------------------------------

func TestNothingRunsOnAfterClose(t *testing.T) {
	before := runtime.NumGoroutine()
	first := serve(t, refused(503, "unavailable").always())
	mute := serve(t, silent().always())
	policy := fractal.DefaultFailover()
	policy.DownAfter = 1
	c, clock := client(t, first.url(), fractal.WithFailover(policy),
		fractal.WithEndpoints(fractal.Endpoint{URL: gone(t)}))
	fails(t, c, record(1))
	clock.Advance(60_000)
	fails(t, c, record(2)) // with probes beside it
	hanging := realClient(t, mute.url())
	done := background(context.Background(), hanging, 1)
	mute.await()
	for _, each := range []*fractal.Client{c, hanging} {
		if err := each.Close(); err != nil {
			t.Error(err)
		}
	}
	ended(t, done)
	first.stop()
	mute.stop()
	waitFor(t, "goroutines to end", func() bool { return runtime.NumGoroutine() <= before })
}

func TestAProbeThatIsCutShortByCloseSaysNothing(t *testing.T) {
	first := serve(t, refused(503, "unavailable"), silent())
	second := serve(t, recorded(200).always())
	policy := fractal.DefaultFailover()
	policy.DownAfter = 1
	c, clock := client(t, first.url(), fractal.WithFailover(policy),
		fractal.WithEndpoints(fractal.Endpoint{URL: second.url()}))
	submits(t, c, record(1))
	clock.Advance(60_000)
	submits(t, c, record(2))
	first.await()
	first.await()
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	same(t, "path", first.seen()[1].path, "/health")
}

func TestTheSystemClockWaitsNoShorterAndEndsByACancel(t *testing.T) {
	server := serve(t, refused(503, "unavailable"), recorded(200))
	var waitMs int64
	c := realClient(
		t,
		server.url(),
		fractal.WithRandom(always(0.1)),
		fractal.WithHooks(
			fractal.Hooks{OnRetry: func(e fractal.RetryEvent) { waitMs = e.WaitMs }},
		),
	)
	begun := time.Now()
	submits(t, c, record(1))
	same(t, "wait", waitMs, 50)
	if passed := time.Since(begun); passed < 50*time.Millisecond {
		t.Errorf("waited %v", passed)
	}
}

type always float64

func (a always) Float64() float64 { return float64(a) }

func TestDrawsComeInTheSameOrderAsInTheOtherSDKs(t *testing.T) {
	// One for entering, one for each attempt: the second wait is drawn from the third number.
	drawn := fractaltest.NewSeededRandom(7)
	var numbers []float64
	for range 4 {
		numbers = append(numbers, drawn.Float64())
	}
	server := serve(t, refused(500, "internal"), refused(500, "internal"), recorded(200))
	c, clock := client(t, server.url(), fractal.WithRandom(fractaltest.NewSeededRandom(7)))
	submits(t, c, record(1))
	waits := clock.WaitsMs()
	same(t, "first wait", waits[0], int64(numbers[1]*500))
	same(t, "second wait", waits[1], int64(numbers[2]*1000))
}
