package fractal_test

// The client with an outbox on real files: kept before it is sent, sent until it is acknowledged.

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	fractal "fractal-lba.example/sdk-go"
	"fractal-lba.example/sdk-go/fractaltest"
)

// openBox opens an outbox that sends in Flush alone, unless options say otherwise.
func openBox(t testing.TB, path string, options ...fractal.OutboxOption) *fractal.Outbox {
	t.Helper()
	all := append([]fractal.OutboxOption{fractal.WithBackground(false)}, options...)
	box, err := fractal.OpenOutbox(path, all...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = box.Close() })
	return box
}

func boxPath(t testing.TB) string { return filepath.Join(t.TempDir(), "outbox") }

func holds(t testing.TB, what string, box *fractal.Outbox, entries, dead int) {
	t.Helper()
	stats := box.Stats()
	same(
		t,
		what+", entries and dead letters",
		fmt.Sprint(stats.Entries, stats.Dead),
		fmt.Sprint(entries, dead),
	)
}

func enqueues(t testing.TB, c *fractal.Client, numbers ...uint64) {
	t.Helper()
	for _, number := range numbers {
		if id, err := c.Enqueue(t.Context(), record(number)); err != nil || len(id) != 16 {
			t.Fatal(id, err)
		}
	}
}

func flushes(t testing.TB, c *fractal.Client, timeout time.Duration) fractal.OutboxStats {
	t.Helper()
	stats, err := c.Flush(t.Context(), timeout)
	if err != nil {
		t.Fatal(err)
	}
	return stats
}

// anyAnswer records whatever comes: one record, or a batch.
func anyAnswer() step {
	return step{answer: func(request seen) step {
		if request.path != "/v1/pcs/batch" {
			return recorded(200).answer(request)
		}
		var body []byte
		for index, line := range bytes.Split(bytes.TrimSpace(request.body), []byte("\n")) {
			signed, err := fractal.ParseSigned(line)
			if err != nil {
				return step{status: 400}
			}
			item, _ := json.Marshal(map[string]any{
				"index": index, "status": 200, "replayed": false,
				"outcome": json.RawMessage(
					fractaltest.OutcomeBody(fractaltest.Accepted(signed.PcsID)),
				),
			})
			body = append(append(body, item...), '\n')
		}
		return step{body: body}
	}}
}

func TestTheLetterIsOnDiskBeforeTheFirstByteGoesOutAndGoneAfterTheAnswer(t *testing.T) {
	path := boxPath(t)
	box := openBox(t, path)
	var onDisk bool
	server := serve(t, step{answer: func(request seen) step {
		text, _ := json.Marshal(string(request.body))
		files, _ := filepath.Glob(filepath.Join(path, "outbox-*.log"))
		for _, name := range files {
			data, _ := os.ReadFile(name)
			onDisk = onDisk || bytes.Contains(data, text)
		}
		return recorded(200).answer(request)
	}})
	c, _ := client(t, server.url(), fractal.WithOutbox(box))
	same(t, "accepted", submits(t, c, record(1)).Outcome.Accepted, true)
	same(t, "on disk", onDisk, true)
	holds(t, "after the answer", box, 0, 0)
}

func TestAStoppedSubmitIsQueuedAndGoesOnAfterARestartWithTheSameBytes(t *testing.T) {
	path := boxPath(t)
	box := openBox(t, path)
	away := serve(t, refused(503, "unavailable").always())
	c, _ := client(t, away.url(), fractal.WithOutbox(box))
	fault := fails(t, c, record(1))
	same(t, "queued", fault.Queued, true)
	same(t, "class", errors.Is(fault, fractal.ErrUnavailable), true)
	holds(t, "after the stop", box, 1, 0)
	c.Close()
	if err := box.Close(); err != nil {
		t.Fatal(err)
	}
	back := serve(t, recorded(200))
	box = openBox(t, path)
	other, err := fractal.New(
		back.url(),
		nil,
		fractal.WithTenant("another"),
		fractal.WithOutbox(box),
		fractal.WithClock(fractaltest.NewFakeClock(fractaltest.StartMs)),
	)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	same(t, "left", flushes(t, other, time.Minute).Entries, 0)
	first, last := away.seen()[0], back.seen()[0]
	same(t, "body", string(last.body), string(first.body))
	same(t, "key", last.headers["idempotency-key"], first.headers["idempotency-key"])
	same(t, "the tenant is the one that signed", last.headers["x-tenant-id"], "acme")
	same(t, "attempt", last.headers["x-retry-attempt"], "")
}

func TestWhatTheServerWillNeverTakeBecomesADeadLetterThatCanBeSentAgain(t *testing.T) {
	for _, status := range []int{400, 409, 413, 422} {
		box := openBox(t, boxPath(t))
		server := serve(t, refused(status, "pcs_id_conflict"), recorded(200))
		c, _ := client(t, server.url(), fractal.WithOutbox(box))
		same(t, "queued", fails(t, c, record(1)).Queued, false)
		holds(t, "after the refusal", box, 0, 1)
		dead, err := box.Dead()
		if err != nil {
			t.Fatal(err)
		}
		same(t, "status", dead[0].Status, status)
		if _, err := box.Requeue(dead[0].ID()); err != nil {
			t.Fatal(err)
		}
		flushes(t, c, time.Minute)
		holds(t, "after the flush", box, 0, 0)
		same(t, "body", string(server.seen()[0].body), string(server.seen()[1].body))
	}
}

func TestWhatIsRefusedHereIsNotKeptAndWhatIsNotKeptIsNotSent(t *testing.T) {
	server := serve(t)
	box := openBox(t, boxPath(t), fractal.WithMaxEntries(1))
	c, _ := client(t, server.url(), fractal.WithOutbox(box))
	same(t, "outside the format", fails(t, c, fractal.Record{}).Code, "hex_invalid")
	_, err := c.Enqueue(t.Context(), fractal.Record{})
	same(t, "enqueued", errors.Is(err, fractal.ErrValidation), true)
	holds(t, "after the refusals", box, 0, 0)
	enqueues(t, c, 1)
	fault := fails(t, c, record(2))
	same(t, "full", fault.Code, "outbox_full")
	same(t, "queued", fault.Queued, false)
	connections, _ := server.counts()
	same(t, "connections", connections, 0)
}

func TestAnOutboxKeepsToTheLevelThatItCanRelease(t *testing.T) {
	box := openBox(t, boxPath(t))
	for _, level := range []string{fractal.Witnessed, "local"} {
		_, err := fractal.New("https://a.example", nil, fractal.WithOutbox(box),
			fractal.WithDurability(level))
		same(t, "constructor, "+level, errors.Is(err, fractal.ErrConfig), true)
	}
	c, _ := client(t, "https://a.example", fractal.WithOutbox(box))
	for _, level := range []string{fractal.Replicated, fractal.Witnessed, "local"} {
		fault := fails(t, c, record(1), fractal.WithDurability(level))
		same(t, "call, "+level, fault.Code, "config_invalid")
	}
	_, err := c.Flush(t.Context(), 0)
	same(t, "no time", errors.Is(err, fractal.ErrConfig), true)
	holds(t, "after all that", box, 0, 0)
}

func TestAFlushSendsWhatWaitsTogetherAndTriesPausedKeysAgain(t *testing.T) {
	box := openBox(t, boxPath(t))
	var blocked []string
	hooks := fractal.Hooks{OnOutbox: func(e fractal.OutboxEvent) {
		if e.Kind == "outbox_blocked" {
			blocked = append(blocked, e.Code)
		}
	}}
	server := serve(t, refused(401, "kid_unknown"), anyAnswer().always())
	c, _ := client(t, server.url(), fractal.WithOutbox(box), fractal.WithHooks(hooks))
	enqueues(t, c, 1, 2, 3)
	stats := flushes(t, c, time.Minute)
	same(t, "entries", stats.Entries, 3)
	same(t, "blocked", fmt.Sprint(stats.Blocked), "[{kid k1}]")
	same(t, "told", strings.Join(blocked, " "), "kid_unknown kid_unknown kid_unknown")
	same(t, "left", flushes(t, c, time.Minute).Entries, 0)
	same(t, "requests", len(server.seen()), 2)
	request := server.seen()[1]
	same(t, "path", request.path, "/v1/pcs/batch")
	same(t, "lines", bytes.Count(request.body, []byte("\n")), 3)
	same(t, "key", request.headers["idempotency-key"], "")
}

func TestEntriesOfARetiredKeyAreSignedAgainByHand(t *testing.T) {
	box := openBox(t, boxPath(t))
	old, _ := client(t, "https://a.example", fractal.WithOutbox(box))
	enqueues(t, old, 1)
	old.Close()
	unsigning, err := fractal.New("https://a.example", nil, fractal.WithOutbox(box))
	if err != nil {
		t.Fatal(err)
	}
	_, err = unsigning.Resign(t.Context(), "k1")
	same(t, "without a signer", errors.Is(err, fractal.ErrConfig), true)
	unsigning.Close()
	server := serve(t, recorded(200))
	signer := signerOf(t, []byte(strings.Repeat("n", 32)), "k2")
	c, err := fractal.New(
		server.url(),
		signer,
		fractal.WithTenant("acme"),
		fractal.WithOutbox(box),
		fractal.WithClock(fractaltest.NewFakeClock(fractaltest.StartMs)),
	)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for _, one := range []struct {
		kid   string
		count int
	}{{"k9", 0}, {"k1", 1}} {
		count, err := c.Resign(t.Context(), one.kid)
		if err != nil {
			t.Fatal(err)
		}
		same(t, one.kid, count, one.count)
	}
	flushes(t, c, time.Minute)
	want, err := fractal.Sign(record(1), signer, "acme")
	if err != nil {
		t.Fatal(err)
	}
	same(t, "body", string(server.seen()[0].body), string(want.Body))
	holds(t, "after the flush", box, 0, 0)
}

func TestWhatWaitsIsDeliveredInTheBackgroundFromTheFirstCallOn(t *testing.T) {
	path := boxPath(t)
	box := openBox(t, path)
	early, _ := client(t, "https://a.example", fractal.WithOutbox(box))
	enqueues(t, early, 1, 2, 3)
	early.Close()
	if err := box.Close(); err != nil {
		t.Fatal(err)
	}
	server := serve(t, refused(503, "unavailable"), anyAnswer().always())
	box = openBox(t, path, fractal.WithBackground(true))
	c, _ := client(t, server.url(), fractal.WithOutbox(box))
	enqueues(t, c, 99)
	waitFor(t, "the outbox to be empty", func() bool { return box.Stats().Entries == 0 })
	var epochs []float64
	for _, request := range server.seen()[1:] {
		for _, line := range bytes.Split(bytes.TrimSpace(request.body), []byte("\n")) {
			var members map[string]any
			if err := json.Unmarshal(line, &members); err != nil {
				t.Fatal(err)
			}
			epochs = append(epochs, members["epoch"].(float64))
		}
	}
	slices.Sort(epochs)
	same(t, "epochs", fmt.Sprint(slices.Compact(epochs)), "[1 2 3 99]")
}

func TestClosingEndsADeliveryAndKeepsItsEntry(t *testing.T) {
	server := serve(t, silent().always())
	box := openBox(t, boxPath(t), fractal.WithBackground(true))
	var heard int
	c := realClient(t, server.url(), fractal.WithOutbox(box), fractal.WithHooks(fractal.Hooks{
		OnOutbox: func(fractal.OutboxEvent) { heard++ },
	}))
	if _, err := c.Enqueue(t.Context(), fresh(1)); err != nil {
		t.Fatal(err)
	}
	server.await()
	c.Close()
	stats := box.Stats()
	same(t, "entries, in flight", fmt.Sprint(stats.Entries, stats.InFlight), "1 0")
	for _, call := range []func() error{
		func() error { _, err := c.Enqueue(context.Background(), fresh(1)); return err },
		func() error { _, err := c.Submit(context.Background(), fresh(1)); return err },
		func() error { _, err := c.Flush(context.Background(), time.Second); return err },
		func() error { _, err := c.Resign(context.Background(), "k1"); return err },
	} {
		same(t, "a closed client", errors.Is(call(), fractal.ErrCancelled), true)
	}
	before := heard
	other := realClient(t, server.url(), fractal.WithOutbox(box))
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		_, err := other.Submit(ctx, fresh(2))
		done <- err
	}()
	server.await() // one of the two is what the first client left
	server.await()
	cancel()
	same(t, "a cancel leaves the entry to the outbox", ended(t, done).Queued, true)
	same(t, "entries", box.Stats().Entries, 2)
	same(t, "the outbox has forgotten the first client", heard, before)
	ctx, cancel = context.WithCancel(context.Background())
	cancel()
	_, err := other.Flush(ctx, time.Second)
	same(t, "a flush that is cancelled", errors.Is(err, context.Canceled), true)
}

func TestAnOutboxThatFailsEndsTheCourierAndSaysSo(t *testing.T) {
	box := openBox(t, boxPath(t), fractal.WithBackground(true))
	told := make(chan string, 10)
	c, _ := client(
		t,
		"https://a.example",
		fractal.WithOutbox(box),
		fractal.WithHooks(fractal.Hooks{
			OnOutbox: func(e fractal.OutboxEvent) { told <- e.Kind },
		}),
	)
	if err := box.Close(); err != nil {
		t.Fatal(err)
	}
	_, err := c.Enqueue(t.Context(), record(1))
	same(t, "enqueued", errors.Is(err, fractal.ErrOutbox), true)
	select {
	case kind := <-told:
		same(t, "told", kind, "outbox_corrupt")
	case <-time.After(longTime):
		t.Error("nobody was told")
	}
}
