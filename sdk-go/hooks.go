package fractal

// This file owns what is told to the outside: the events, and the caller's hooks.

// AttemptEvent is one request and what came of it. Headers are those that may be logged, with
// lower-case names.
type AttemptEvent struct {
	Call      string // "submit", "get" or "batch"
	Method    string
	URL       string // without user-info and query
	Attempt   int    // from 1
	ElapsedMs int64
	// Status is 0 if no answer came.
	Status int
	// Code is "" on success.
	Code            string
	RequestID       string
	RequestHeaders  map[string]string
	ResponseHeaders map[string]string
}

// RetryEvent is the decision to try again: Attempt failed with Code, the next one waits.
type RetryEvent struct {
	Call    string
	Attempt int
	WaitMs  int64
	Code    string
}

// FailoverEvent says that a call goes on at another endpoint: away from a failed one, or to where
// a hint points.
type FailoverEvent struct {
	FromURL string
	ToURL   string
}

// OutboxEvent says what became of an outbox entry, or of the outbox itself if ID is "". Kind is
// one of queued, acknowledged, outbox_held, postponed, dead, requeued, purged, outbox_blocked,
// outbox_corrupt.
type OutboxEvent struct {
	Kind string
	ID   string
	Code string
}

// stopEvent is the end of a call without a result. It is logged; there is no hook for it.
type stopEvent struct {
	call string
	err  *Error
}

// Hooks are called with each event, in the goroutine of the call; nil is no hook. A hook that
// panics is logged once and does not fail the call. It must not call Close.
type Hooks struct {
	OnAttempt  func(AttemptEvent)
	OnRetry    func(RetryEvent)
	OnFailover func(FailoverEvent)
	OnOutbox   func(OutboxEvent)
}

// names of the hooks, as the log has them.
const (
	attemptHook  = "OnAttempt"
	retryHook    = "OnRetry"
	failoverHook = "OnFailover"
	outboxHook   = "OnOutbox"
)

// bind gives the hook for an event with the event, and its name; nil where there is none.
func (h Hooks) bind(event any) (call func(), name string) {
	switch told := event.(type) {
	case AttemptEvent:
		if h.OnAttempt != nil {
			return func() { h.OnAttempt(told.clone()) }, attemptHook
		}
	case RetryEvent:
		if h.OnRetry != nil {
			return func() { h.OnRetry(told) }, retryHook
		}
	case FailoverEvent:
		if h.OnFailover != nil {
			return func() { h.OnFailover(told) }, failoverHook
		}
	case OutboxEvent:
		if h.OnOutbox != nil {
			return func() { h.OnOutbox(told) }, outboxHook
		}
	}
	return nil, ""
}
