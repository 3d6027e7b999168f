package fractaltest

import "sync"

// SeededRandom draws the same numbers in [0, 1) for the same seed, in every language (SplitMix64).
// It is a fractal.Random, safe for concurrent use.
type SeededRandom struct {
	mu    sync.Mutex
	state uint64
}

// NewSeededRandom starts with a seed.
func NewSeededRandom(seed uint64) *SeededRandom { return &SeededRandom{state: seed} }

// Float64 gives the next number.
func (r *SeededRandom) Float64() float64 {
	r.mu.Lock()
	r.state += 0x9E3779B97F4A7C15
	z := r.state
	r.mu.Unlock()
	z = (z ^ z>>30) * 0xBF58476D1CE4E5B9
	z = (z ^ z>>27) * 0x94D049BB133111EB
	return float64((z^z>>31)>>11) / (1 << 53)
}
