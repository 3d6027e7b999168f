package fractal

// This file decides what follows an attempt: wait so long, or stop for that reason
// (spec/retry.md 1 to 19). It is pure: the clock and the random number are arguments, nothing
// sleeps. A stop is a value, not an error type: a caller reads Error.Stop.

import "math"

const (
	// QuotaFull is how many retry tokens a client holds at most, and what it starts with.
	QuotaFull = 500

	// retryCost is what one retry costs, so that sustained retries stay at 1/14 of the traffic;
	// askedRetryCost after a 429, or after a 503 that carries Retry-After.
	retryCost      = 14
	askedRetryCost = 5

	// firstSuccessGain is what a success at the first attempt gives.
	firstSuccessGain = 1
)

// Why a call ends, in the order in which PlanRetry asks.
const (
	StopSuccess           = "success"
	StopCancelled         = "cancelled"
	StopServerRefused     = "server_refused"
	StopNotRetryable      = "not_retryable"
	StopAttemptsExhausted = "attempts_exhausted"
	StopRetryAfterTooLong = "retry_after_too_long"
	StopDeadlineExceeded  = "deadline_exceeded"
	StopQuotaExhausted    = "quota_exhausted"
)

// RetryPolicy says how often and how long to try. MaxAttempts counts the first attempt: 1 means
// no retry.
type RetryPolicy struct {
	MaxAttempts     int
	WaitBaseMs      int64
	WaitMaxMs       int64
	RetryAfterMaxMs int64
}

// DefaultRetry gives the policy `default` (spec/retry.md 11).
func DefaultRetry() RetryPolicy {
	return RetryPolicy{MaxAttempts: 3, WaitBaseMs: 500, WaitMaxMs: 8_000, RetryAfterMaxMs: 60_000}
}

// NoRetry gives the policy `none`: one attempt.
func NoRetry() RetryPolicy {
	policy := DefaultRetry()
	policy.MaxAttempts = 1
	return policy
}

// check refuses a policy that cannot be followed: config_invalid.
func (p RetryPolicy) check() error {
	for _, limit := range []struct {
		name       string
		value, low int64
	}{
		{"max_attempts", int64(p.MaxAttempts), 1},
		{"wait_base_ms", p.WaitBaseMs, 0},
		{"wait_max_ms", p.WaitMaxMs, 0},
		{"retry_after_max_ms", p.RetryAfterMaxMs, 0},
	} {
		if limit.value < limit.low {
			return atLeast(limit.name, limit.low, limit.value)
		}
	}
	return nil
}

func atLeast(name string, low, got int64) *Error {
	return newError("config_invalid", "%s: expected an integer >= %d, got %d", name, low, got)
}

// waitBoundMs doubles the base for each retry, up to the bound.
func (p RetryPolicy) waitBoundMs(retryNumber int) int64 {
	bound := p.WaitBaseMs
	for retry := 1; retry < retryNumber && 0 < bound && bound < p.WaitMaxMs; retry++ {
		if bound > p.WaitMaxMs/2 {
			return p.WaitMaxMs
		}
		bound *= 2
	}
	return min(bound, p.WaitMaxMs)
}

// Wish is what X-Should-Retry says (spec/retry.md 12).
type Wish int8

// The server may say nothing, ask for a retry, or refuse one.
const (
	NoWish Wish = iota
	WishRetry
	WishStop
)

// ParseWish reads X-Should-Retry; anything but exactly `true` and `false` is absent.
func ParseWish(value string) Wish {
	switch value {
	case "true":
		return WishRetry
	case "false":
		return WishStop
	}
	return NoWish
}

// Result holds what one attempt came to, as far as a decision needs it. An answer has a Status;
// no answer, or one that cannot be read, has a Code of spec/errors.json.
type Result struct {
	Status        int
	Code          string
	RetryAfterMs  int64
	HasRetryAfter bool
	Wish          Wish
	Unsent        bool // no byte of the request was sent
}

// ResultOf takes from an error what decides.
func ResultOf(err *Error, sent bool) Result {
	result := Result{
		Status: err.Status, RetryAfterMs: err.RetryAfterMs, HasRetryAfter: err.HasRetryAfter,
		Wish: ParseWish(err.Headers["x-should-retry"]), Unsent: !sent,
	}
	unreadable := err.Code == "response_malformed" || err.Code == "response_too_large"
	if err.Status == 0 || unreadable {
		result.Code = err.Code // an answer that cannot be read: the code decides, not the status
	}
	return result
}

// Succeeded says whether the answer is a success that was read (spec/retry.md 1).
func (r Result) Succeeded() bool { return r.Code == "" && (r.Status == 200 || r.Status == 202) }

// Retryable says what the table says, before X-Should-Retry (spec/retry.md 10).
func (r Result) Retryable() bool {
	if r.Code != "" {
		return codes[r.Code].Retryable
	}
	switch r.Status {
	case 408, 425, 429, 500, 502, 503, 504:
		return true
	}
	return false
}

// cost gives the tokens that a retry of this costs (spec/retry.md 13).
func (r Result) cost() int {
	if r.Status == 429 || r.Status == 503 && r.HasRetryAfter {
		return askedRetryCost
	}
	return retryCost
}

// Moment is where a call stands when an attempt has ended.
type Moment struct {
	Attempt    int     // of the attempt, from 1
	U          float64 // a random number in [0, 1)
	NowMs      int64
	DeadlineMs int64
	Quota      int
	Alternate  bool // the next attempt would go to another endpoint
	Taken      int  // cost of the retry that was answered; a success gives it back
}

// Decision is to wait WaitMs, or, if Stop is not "", to end the call.
type Decision struct {
	Stop   string
	WaitMs int64
	Quota  int
	Cost   int // of this wait, in Quota already; keep it for the refund
	// RetryAfterMs is what the server asked for, if that is among the reasons of a stop.
	RetryAfterMs  int64
	HasRetryAfter bool
}

// PlanRetry decides what follows an attempt (spec/retry.md 1 to 9).
func PlanRetry(policy RetryPolicy, result Result, at Moment) Decision {
	stop := func(reason string) Decision { return Decision{Stop: reason, Quota: at.Quota} }
	asked := func(reason string) Decision {
		return Decision{
			Stop: reason, Quota: at.Quota,
			RetryAfterMs: result.RetryAfterMs, HasRetryAfter: result.HasRetryAfter,
		}
	}
	if result.Succeeded() {
		gain := at.Taken
		if at.Attempt == 1 {
			gain = firstSuccessGain
		}
		return Decision{Stop: StopSuccess, Quota: min(at.Quota+gain, QuotaFull)}
	}
	if result.Code == "cancelled" {
		return stop(StopCancelled)
	}
	wish := NoWish
	if result.Status >= 400 {
		wish = result.Wish
	}
	switch {
	case wish == WishStop:
		return stop(StopServerRefused)
	case wish == NoWish && !result.Retryable():
		return stop(StopNotRetryable)
	case at.Attempt >= policy.MaxAttempts:
		return stop(StopAttemptsExhausted)
	}
	var askedMs int64
	if result.HasRetryAfter && !at.Alternate {
		askedMs = result.RetryAfterMs
	}
	if askedMs > policy.RetryAfterMaxMs {
		return asked(StopRetryAfterTooLong)
	}
	// The product is rounded once, and cut: spec/retry.md 7.
	jitterMs := int64(float64(at.U * float64(policy.waitBoundMs(at.Attempt))))
	waitMs := askedMs + jitterMs
	if at.NowMs > math.MaxInt64-waitMs || at.NowMs+waitMs >= at.DeadlineMs {
		return asked(StopDeadlineExceeded)
	}
	cost := result.cost()
	if at.Quota < cost {
		return asked(StopQuotaExhausted)
	}
	return Decision{WaitMs: waitMs, Quota: at.Quota - cost, Cost: cost}
}
