package fractaltest

import (
	"context"
	"slices"
	"sync"
)

// StartMs is where a fake clock usually starts: 2026-01-01T00:00:00Z.
const StartMs = 1_767_225_600_000

// FakeClock tells a time that only moves when it is told to; waiting moves it at once. It is a
// fractal.Clock, safe for concurrent use.
type FakeClock struct {
	mu      sync.Mutex
	nowMs   int64
	waitsMs []int64
}

// NewFakeClock makes a clock that stands at nowMs.
func NewFakeClock(nowMs int64) *FakeClock { return &FakeClock{nowMs: nowMs} }

// NowMs gives Unix milliseconds.
func (c *FakeClock) NowMs() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.nowMs
}

// MonotonicMs gives milliseconds that never go back.
func (c *FakeClock) MonotonicMs() int64 { return c.NowMs() }

// Advance lets time pass; a negative step is none.
func (c *FakeClock) Advance(stepMs int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.nowMs += max(0, stepMs)
}

// Wait lets waitMs pass, unless ctx has ended.
func (c *FakeClock) Wait(ctx context.Context, waitMs int64) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.waitsMs = append(c.waitsMs, waitMs)
	c.nowMs += max(0, waitMs)
	return nil
}

// WaitsMs gives every wait in order.
func (c *FakeClock) WaitsMs() []int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.waitsMs)
}
