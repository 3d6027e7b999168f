package fractal_test

// The client at the level replicated, against a scripted server.

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	fractal "fractal-lba.example/sdk-go"
	"fractal-lba.example/sdk-go/fractaltest"
)

// placed records a submit at a position; with "" it says nothing about replication.
func placed(position, replicated string) step {
	return step{answer: func(request seen) step {
		next := recorded(200).answer(request)
		next.headers["PCS-Position"], next.headers["PCS-Level"] = position, "durable"
		if replicated != "" {
			next.headers["PCS-Replicated"] = replicated
		}
		return next
	}}
}

// regionAt answers a question for the status of a region.
func regionAt(regionEpoch, replicated int, closed string) step {
	return step{status: 200, body: fmt.Appendf(nil, `{"region":"eu1","streams":[{"closed":[%s],`+
		`"durable":99,"placement":"open","region_epoch":%d,"replicated":%d}]}`,
		closed, regionEpoch, replicated)}
}

func heldClientOf(
	t *testing.T, server *scriptedServer, options ...fractal.Option,
) (*fractal.Client, *fractal.Outbox) {
	t.Helper()
	box := openBox(t, boxPath(t))
	all := append([]fractal.Option{
		fractal.WithOutbox(box), fractal.WithDurability(fractal.Replicated),
	}, options...)
	c, _ := client(t, server.url(), all...)
	return c, box
}

func holdsHeld(t *testing.T, what string, box *fractal.Outbox, entries, held int) {
	t.Helper()
	stats := box.Stats()
	same(t, what+", entries and held",
		fmt.Sprint(stats.Entries, stats.Held, stats.InFlight), fmt.Sprint(entries, held, 0))
}

func withTestToken() fractal.Option { return fractal.WithToken(fractal.NewSecret([]byte("t"))) }

func TestASubmitReturnsWhileItsEntryIsHeld(t *testing.T) {
	server := serve(t, placed("eu1/open/1/5", "eu1/open/1/4"), placed("eu1/open/1/6", "eu1/open/1/5"))
	c, box := heldClientOf(t, server)
	first := submits(t, c, record(1))
	same(t, "level", first.Level, fractal.Durable)
	same(t, "replicated", first.Replicated.String(), "eu1/open/1/4")
	holdsHeld(t, "after the first", box, 1, 1)
	submits(t, c, record(2))
	holdsHeld(t, "after the second", box, 1, 1)
	flushes(t, c, time.Second)
	for _, request := range server.asked() {
		same(t, "asked for a level", request.headers["pcs-min-ack"], "")
	}
}

func (s *scriptedServer) asked() []seen {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]seen{}, s.requests...)
}

func TestEachLineOfABatchIsHeldAtItsOwnPosition(t *testing.T) {
	batch := step{answer: func(request seen) step {
		var body []byte
		for index, line := range bytes.Split(bytes.TrimSpace(request.body), []byte("\n")) {
			signed, err := fractal.ParseSigned(line)
			if err != nil {
				return step{status: 400}
			}
			item, _ := json.Marshal(map[string]any{
				"index": index, "status": 200, "replayed": false, "level": "durable",
				"position": fmt.Sprintf("eu1/open/1/%d", 5+index),
				"outcome": json.RawMessage(
					fractaltest.OutcomeBody(fractaltest.Accepted(signed.PcsID)),
				),
			})
			body = append(append(body, item...), '\n')
		}
		return step{status: 200, body: body,
			headers: map[string]string{"PCS-Replicated": "eu1/open/1/6"}}
	}}
	server := serve(t, batch, regionAt(1, 6, ""), regionAt(1, 8, ""))
	c, box := heldClientOf(t, server, withTestToken())
	enqueues(t, c, 1, 2, 3, 4)
	same(t, "held", flushes(t, c, 4*time.Second).Held, 2)
	same(t, "entries", flushes(t, c, 4*time.Second).Entries, 0)
	holdsHeld(t, "at the end", box, 0, 0)
}

func TestWhatMayBeLostGoesOutAgainAndADisplacedEntryIsADeadLetter(t *testing.T) {
	displaced := step{
		status: 409, headers: map[string]string{"Content-Type": "application/problem+json"},
		body: []byte(`{"code":"pcs_id_conflict","displaced":true,"status":409}`),
	}
	server := serve(t, placed("eu1/open/1/5", ""), regionAt(2, 9, `{"region_epoch":1,"seq":4}`),
		displaced)
	c, box := heldClientOf(t, server, withTestToken())
	submits(t, c, record(1))
	stats := flushes(t, c, 4*time.Second)
	same(t, "entries, dead", fmt.Sprint(stats.Entries, stats.Dead), "0 1")
	requests := server.asked()
	same(t, "token", requests[1].headers["authorization"], "Bearer t")
	same(t, "bytes", string(requests[2].body), string(requests[0].body))
	same(t, "key", requests[2].headers["idempotency-key"], requests[0].headers["idempotency-key"])
	letters, err := box.Dead()
	if err != nil || len(letters) != 1 || !strings.Contains(letters[0].Response, "displaced") {
		t.Error(letters, err)
	}
}

func TestWhatStandsIsHeldOnAndNotSentAgain(t *testing.T) {
	closed := `{"region_epoch":1,"seq":5}`
	server := serve(t, placed("eu1/open/1/5", ""), regionAt(2, 4, closed), regionAt(2, 5, closed))
	c, box := heldClientOf(t, server, withTestToken())
	submits(t, c, record(1))
	flushes(t, c, 9*time.Second)
	holdsHeld(t, "at the end", box, 0, 0)
}

func TestATokenThatCannotBeHadAsksNobody(t *testing.T) {
	server := serve(t, placed("eu1/open/1/5", ""))
	refuses := fractal.WithTokenSource(func() (fractal.Secret, error) {
		return fractal.Secret{}, errors.New("no token today")
	})
	c, box := heldClientOf(t, server, refuses)
	submits(t, c, record(1))
	flushes(t, c, 11*time.Second)
	holdsHeld(t, "at the end", box, 1, 1)
}

func TestWhatIsHeldIsAskedAboutInTheBackground(t *testing.T) {
	server := serve(t, placed("eu1/open/1/5", ""), regionAt(1, 4, ""), regionAt(1, 5, ""))
	done := make(chan string, 10)
	box := openBox(t, boxPath(t), fractal.WithBackground(true))
	c, _ := client(t, server.url(), withTestToken(), fractal.WithOutbox(box),
		fractal.WithDurability(fractal.Replicated),
		fractal.WithHooks(fractal.Hooks{OnOutbox: func(e fractal.OutboxEvent) { done <- e.Kind }}))
	submits(t, c, record(1))
	for {
		select {
		case kind := <-done:
			if kind == "acknowledged" {
				return
			}
		case <-time.After(longTime):
			t.Fatal("it is held for ever")
		}
	}
}

func TestALevelIsAskedForInEveryAttemptWithoutAnOutbox(t *testing.T) {
	waiting := refused(503, "unavailable")
	waiting.headers["PCS-Position"] = "eu1/open/1/5"
	server := serve(t, waiting.always())
	c, _ := client(t, server.url(), fractal.WithDurability(fractal.Replicated))
	fault := fails(t, c, record(1))
	same(t, "attempts", fault.Attempts, 3)
	same(t, "position", fault.Headers["pcs-position"], "eu1/open/1/5")
	for _, request := range server.asked() {
		same(t, "level", request.headers["pcs-min-ack"], fractal.Replicated)
	}
}

func TestATokenSourceThatPanicsLeavesNothingInFlight(t *testing.T) {
	server := serve(t, placed("eu1/open/1/5", ""))
	breaks := fractal.WithTokenSource(func() (fractal.Secret, error) { panic("a bug") })
	c, box := heldClientOf(t, server, breaks)
	submits(t, c, record(1))
	enqueues(t, c, 2)
	func() {
		defer func() { same(t, "panics", fmt.Sprint(recover()), "a bug") }()
		flushes(t, c, time.Second)
	}()
	holdsHeld(t, "at the end", box, 2, 1)
}
