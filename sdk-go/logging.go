package fractal

// This file owns what is logged. A line holds header values by allow-list (http.go), URLs without
// user-info and query, codes and counts; never a body, a key, a token, a signature or a server's
// free text.

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"sync"
)

// loudOutboxKinds are the ends of outbox entries that somebody should look at.
var loudOutboxKinds = map[string]bool{"dead": true, "outbox_blocked": true, "outbox_corrupt": true}

func (e AttemptEvent) clone() AttemptEvent {
	e.RequestHeaders = maps.Clone(e.RequestHeaders)
	e.ResponseHeaders = maps.Clone(e.ResponseHeaders)
	return e
}

// reporter logs events and hands them to the hooks.
type reporter struct {
	log   *slog.Logger
	hooks []Hooks

	mu     sync.Mutex
	failed map[string]bool // hooks whose panic was logged
}

func newReporter(log *slog.Logger, hooks []Hooks) *reporter {
	return &reporter{log: log, hooks: hooks, failed: map[string]bool{}}
}

// tell reports one event.
func (r *reporter) tell(event any) {
	level, message, attributes := describe(event)
	if r.log.Enabled(context.Background(), level) {
		r.log.LogAttrs(context.Background(), level, message, attributes()...)
	}
	for place, hooks := range r.hooks {
		if call, name := hooks.bind(event); call != nil {
			r.contain(fmt.Sprint(place, name), name, call)
		}
	}
}

// contain calls a hook, which is foreign code: the first panic of each is logged, by its type
// alone, because its text is not ours.
func (r *reporter) contain(key, name string, call func()) {
	defer func() {
		fault := recover()
		if fault == nil {
			return
		}
		r.mu.Lock()
		isFirst := !r.failed[key]
		r.failed[key] = true
		r.mu.Unlock()
		if isFirst {
			r.log.Warn("a hook panicked; later ones are not logged",
				"hook", name, "type", fmt.Sprintf("%T", fault))
		}
	}()
	call()
}

// describe gives the line of an event; its attributes are built only for a line that is written.
func describe(event any) (level slog.Level, message string, attributes func() []slog.Attr) {
	switch told := event.(type) {
	case AttemptEvent:
		return slog.LevelDebug, "attempt", told.attributes
	case RetryEvent:
		return slog.LevelDebug, "retry", func() []slog.Attr {
			return []slog.Attr{
				slog.String("call", told.Call), slog.Int("attempt", told.Attempt),
				slog.String("code", told.Code), slog.Int64("wait_ms", told.WaitMs),
			}
		}
	case FailoverEvent:
		return slog.LevelDebug, "failover", func() []slog.Attr {
			return []slog.Attr{slog.String("from", told.FromURL), slog.String("to", told.ToURL)}
		}
	case OutboxEvent:
		level = slog.LevelDebug
		if loudOutboxKinds[told.Kind] {
			level = slog.LevelWarn
		}
		return level, "outbox", func() []slog.Attr {
			return []slog.Attr{
				slog.String("kind", told.Kind), slog.String("id", told.ID),
				slog.String("code", told.Code),
			}
		}
	}
	told := event.(stopEvent)
	return slog.LevelWarn, "stopped", told.attributes
}

func (e AttemptEvent) attributes() []slog.Attr {
	return []slog.Attr{
		slog.String("call", e.Call), slog.Int("attempt", e.Attempt),
		slog.String("method", e.Method), slog.String("url", e.URL),
		slog.Int("status", e.Status), slog.String("code", e.Code),
		slog.Int64("elapsed_ms", e.ElapsedMs),
		slog.Any("sent", e.RequestHeaders), slog.Any("got", e.ResponseHeaders),
	}
}

func (e stopEvent) attributes() []slog.Attr {
	return []slog.Attr{
		slog.String("call", e.call), slog.String("code", e.err.Code),
		slog.Int("attempts", e.err.Attempts), slog.String("stop", e.err.Stop),
		slog.Int("status", e.err.Status), slog.String("request_id", e.err.RequestID),
	}
}

// --- what a program might print -------------------------------------------------------------

// String names a signed record, without its signature.
func (r SignedRecord) String() string {
	return fmt.Sprintf("SignedRecord(pcs_id=%s, content=%s, %d bytes)",
		r.PcsID, r.Content, len(r.Body))
}

// GoString is String.
func (r SignedRecord) GoString() string { return r.String() }

// Format is String under every verb.
func (r SignedRecord) Format(state fmt.State, _ rune) { _, _ = io.WriteString(state, r.String()) }

// LogValue is String.
func (r SignedRecord) LogValue() slog.Value { return slog.StringValue(r.String()) }
