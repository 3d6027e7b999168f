package fractal

// This file owns the client's time and chance; tests give those of fractaltest.

import (
	"context"
	"math"
	"math/rand/v2"
	"time"
)

// Clock is what a client asks of a clock.
type Clock interface {
	// NowMs gives Unix milliseconds.
	NowMs() int64
	// MonotonicMs gives milliseconds that never go back.
	MonotonicMs() int64
	// Wait waits, never shorter. If ctx ends it returns at once with the error of ctx.
	Wait(ctx context.Context, waitMs int64) error
}

// Random is what a client asks of chance: numbers in [0, 1). *rand.Rand has it, but a client
// draws from several goroutines.
type Random interface {
	Float64() float64
}

// maxWaitMs is the longest wait that a time.Duration can hold, 292 years; a longer one, which
// only an outbox may be asked for by a server, ends then.
const maxWaitMs = math.MaxInt64 / int64(time.Millisecond)

// systemClock is the clock of the system.
type systemClock struct{ begun time.Time }

func newSystemClock() Clock { return systemClock{time.Now()} }

func (systemClock) NowMs() int64 { return time.Now().UnixMilli() }

func (c systemClock) MonotonicMs() int64 { return time.Since(c.begun).Milliseconds() }

func (systemClock) Wait(ctx context.Context, waitMs int64) error {
	if err := ctx.Err(); err != nil || waitMs <= 0 {
		return err
	}
	timer := time.NewTimer(time.Duration(min(waitMs, maxWaitMs)) * time.Millisecond)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

// systemRandom draws from the generator of the program: jitter is no key.
type systemRandom struct{}

func (systemRandom) Float64() float64 { return rand.Float64() }
