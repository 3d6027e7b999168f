package fractal

// What tests of the public face need to see of the inside.

import "time"

// CurrentForTest gives the index of the endpoint that calls go to.
func (c *Client) CurrentForTest() int { return c.fleet().Current() }

// SettleForTest waits for what runs beside the calls.
func (c *Client) SettleForTest() { c.background.Wait() }

// WithHealthTimeoutForTest shortens how long Health waits.
func WithHealthTimeoutForTest(timeout time.Duration) Option {
	return clientOption(func(s *settings) { s.healthTimeout = timeout })
}
