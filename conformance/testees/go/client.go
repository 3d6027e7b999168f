package main

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	fractal "fractal-lba.example/sdk-go"
	"fractal-lba.example/sdk-go/fractaltest"
)

func init() {
	for _, name := range []string{"submit", "submit_many", "get", "cancel", "failover"} {
		operations["client."+name] = called
	}
	operations["log.capture"] = logCapture
}

// always draws one number for ever.
type always float64

func (a always) Float64() float64 { return float64(a) }

// cancellingClock cancels as a wait begins, where a call asks for it.
type cancellingClock struct {
	*fractaltest.FakeClock
	cancel context.CancelFunc
}

func (c *cancellingClock) Wait(ctx context.Context, waitMs int64) error {
	if c.cancel != nil {
		c.cancel()
	}
	return c.FakeClock.Wait(ctx, waitMs)
}

// caller is one client, and its clock.
type caller struct {
	client *fractal.Client
	signer fractal.Signer
	clock  *cancellingClock

	args    members
	options []fractal.Option
	folder  string // of the outbox, if there is one
	box     *fractal.Outbox
}

func newCaller(args members, more ...fractal.Option) (*caller, error) {
	signer, err := fractal.NewHMACSigner(args.bytes("key"), args.text("kid"))
	if err != nil {
		return nil, err
	}
	clock := &cancellingClock{FakeClock: fractaltest.NewFakeClock(args.number("now_ms"))}
	endpoints := endpointsOf(args)
	options := []fractal.Option{
		fractal.WithClock(clock), fractal.WithRandom(always(args.double("u"))),
		fractal.WithSigVersion(int(args.number("sig_v"))), fractal.WithEndpoints(endpoints[1:]...),
	}
	if endpoints[0].Region != "" {
		options = append(options, fractal.WithRegion(endpoints[0].Region))
	}
	if args.has("tenant") {
		options = append(options, fractal.WithTenant(args.text("tenant")))
	}
	if args.has("token") {
		options = append(options, tokenOf(args))
	}
	if args.has("options") {
		options = append(options, optionsOf(args.under("options"))...)
	}
	c := &caller{signer: signer, clock: clock, args: args, options: append(options, more...)}
	if args.has("options") && args.under("options").flag("outbox") {
		if c.folder, err = os.MkdirTemp("", "flk-testee-"); err != nil {
			return nil, err
		}
	}
	if err = c.open(); err != nil {
		_ = os.RemoveAll(c.folder)
	}
	return c, err
}

// open makes the client, with its outbox if it has one.
func (c *caller) open() (err error) {
	options := c.options
	if c.folder != "" {
		off := fractal.WithBackground(false)
		if c.box, err = fractal.OpenOutbox(filepath.Join(c.folder, "outbox"), off); err != nil {
			return err
		}
		options = append(slices.Clone(options), fractal.WithOutbox(c.box))
	}
	c.client, err = fractal.New(endpointsOf(c.args)[0].URL, c.signer, options...)
	if err != nil && c.box != nil {
		return errors.Join(err, c.box.Close())
	}
	return err
}

func (c *caller) close() error {
	err := c.client.Close()
	if c.box != nil {
		err = errors.Join(err, c.box.Close())
	}
	return err
}

// end closes what is open, and removes the folder.
func (c *caller) end() error {
	err := c.close()
	if c.folder != "" {
		err = errors.Join(err, os.RemoveAll(c.folder))
	}
	return err
}

// kept flushes the outbox, or closes and opens it again, and counts what it holds.
func (c *caller) kept(call members) members {
	var stats fractal.OutboxStats
	if call.text("call") == "flush" {
		stats = must(c.client.Flush(context.Background(), call.duration("ms")))
	} else {
		if err := errors.Join(c.close(), c.open()); err != nil {
			panic(err)
		}
		stats = c.box.Stats()
	}
	return members{"stats": members{
		"entries": decimal(stats.Entries), "held": decimal(stats.Held),
		"in_flight": decimal(stats.InFlight), "dead": decimal(stats.Dead),
	}}
}

func tokenOf(given members) fractal.Option {
	return fractal.WithToken(fractal.NewSecret([]byte(given.text("token"))))
}

func optionsOf(given members) []fractal.Option {
	made := []fractal.Option{fractal.WithFailover(failoverOf(given))}
	for name := range given {
		switch name {
		case "max_attempts":
			policy := fractal.DefaultRetry()
			policy.MaxAttempts = int(given.number(name))
			made = append(made, fractal.WithRetry(policy))
		case "connect_timeout_ms":
			made = append(made, fractal.WithConnectTimeout(given.duration(name)))
		case "attempt_timeout_ms":
			made = append(made, fractal.WithAttemptTimeout(given.duration(name)))
		case "total_timeout_ms":
			made = append(made, fractal.WithTotalTimeout(given.duration(name)))
		case "max_response_bytes":
			made = append(made, fractal.WithMaxResponseBytes(int(given.number(name))))
		case "durability":
			made = append(made, fractal.WithDurability(given.text(name)))
		case "token":
			made = append(made, tokenOf(given))
		case "app":
			made = append(made, fractal.WithApp(given.text(name)))
		}
	}
	return made
}

func (m members) duration(name string) time.Duration {
	return time.Duration(m.number(name)) * time.Millisecond
}

// called makes the calls of a case, in order, with one client.
func called(args members) (members, error) {
	c, err := newCaller(args)
	if err != nil {
		return nil, err
	}
	answers := []members{}
	for _, call := range args.list("calls") {
		answers = append(answers, c.answer(call))
	}
	return members{"calls": answers}, c.end()
}

func (c *caller) answer(call members) members {
	switch call.text("call") {
	case "advance":
		c.clock.Advance(call.number("ms"))
		return members{}
	case "submit_many":
		return members{"items": c.items(call)}
	case "flush", "reopen":
		return c.kept(call)
	}
	before := len(c.clock.WaitsMs())
	answer := members{}
	if ok, err := c.one(call); err != nil {
		answer["err"] = factsOf(err)
	} else {
		answer["ok"] = ok
	}
	waited := int64(0)
	for _, waitMs := range c.clock.WaitsMs()[before:] {
		waited += waitMs
	}
	answer["waited_ms"] = decimal(waited)
	return answer
}

// one makes a call about one record.
func (c *caller) one(call members) (members, error) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	if call.text("call") == "get" {
		outcome, err := c.client.Get(ctx, call.text("pcs_id"))
		if err != nil {
			return nil, err
		}
		return members{"outcome": outcomeAnswer(outcome)}, nil
	}
	if call.text("call") == "cancel" {
		c.clock.cancel = cancel
		defer func() { c.clock.cancel = nil }()
	}
	document, err := fractal.Parse(call.bytes("json"))
	if err != nil {
		return nil, err
	}
	submitted, err := c.client.Submit(ctx, document)
	if err != nil {
		return nil, err
	}
	return wholeAnswer(submitted), nil
}

func (c *caller) items(call members) []members {
	items := []members{}
	width := fractal.WithConcurrency(int(call.number("concurrency")))
	for item := range c.client.SubmitSeq(context.Background(), documents(call), width) {
		answer := members{"index": decimal(item.Index)}
		if item.Err != nil {
			answer["err"] = members{"code": factsOf(item.Err)["code"]}
		} else {
			whole := wholeAnswer(item.Result)
			maps.DeleteFunc(whole, func(name string, _ any) bool {
				return name != "outcome" && name != "replayed" && name != "level"
			})
			answer["ok"] = whole
		}
		items = append(items, answer)
	}
	return items
}

func documents(call members) iter.Seq[fractal.Submittable] {
	return func(yield func(fractal.Submittable) bool) {
		for _, text := range call.texts("json") {
			if !yield(must(fractal.Parse(must(hex.DecodeString(text))))) {
				return
			}
		}
	}
}

// wholeAnswer writes what a submit gave, with the facts of its exchange.
func wholeAnswer(submitted *fractal.Submitted) members {
	answer := submittedAnswer(submitted)
	answer["attempts"] = decimal(submitted.Raw.Attempts)
	if submitted.Raw.RequestID != "" {
		answer["request_id"] = submitted.Raw.RequestID
	}
	return answer
}

// factsOf writes what an error knows.
func factsOf(err error) members {
	var fault *fractal.Error
	if !errors.As(err, &fault) {
		panic(fmt.Sprintf("no error of the SDK: %v", err))
	}
	facts := members{"code": fault.Code, "attempts": decimal(fault.Attempts)}
	if fault.Stop != "" {
		facts["stop"] = fault.Stop
	}
	if fault.Status != 0 {
		facts["status"] = strconv.Itoa(fault.Status)
	}
	if fault.HasRetryAfter {
		facts["retry_after_ms"] = decimal(fault.RetryAfterMs)
	}
	if fault.RequestID != "" {
		facts["request_id"] = fault.RequestID
	}
	return facts
}

// --- what is logged -------------------------------------------------------------------------

// logCapture does what the scenario says, and gives every line and every text form of what took
// part.
func logCapture(args members) (members, error) {
	var log bytes.Buffer
	lines := slog.NewTextHandler(
		&log,
		&slog.HandlerOptions{Level: slog.LevelDebug, AddSource: true},
	)
	c, err := newCaller(args, fractal.WithLogger(slog.New(lines)))
	if err != nil {
		return nil, err
	}
	key, token := fractal.NewSecret(
		args.bytes("key"),
	), fractal.NewSecret(
		[]byte(args.text("token")),
	)
	things := []any{c.client, c.signer, key, &token}
	ctx := context.Background()
	switch args.text("scenario") {
	case "get":
		outcome, err := c.client.Get(ctx, args.text("pcs_id"))
		things = append(things, outcome, err)
	case "submit":
		submitted, err := c.client.Submit(ctx, must(fractal.Parse(args.bytes("json"))))
		things = append(things, submitted, err)
	default:
		signed, err := fractal.Sign(
			must(fractal.Parse(args.bytes("json"))),
			c.signer,
			args.text("tenant"),
		)
		things = append(things, signed, err)
	}
	for _, thing := range things {
		fmt.Fprintf(&log, "%v\n%+v\n%#v\n%s\n", thing, thing, thing, thing)
		slog.New(lines).Info("shown", "thing", thing)
	}
	return members{"log": hex.EncodeToString(log.Bytes())}, c.end()
}
