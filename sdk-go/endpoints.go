package fractal

// This file chooses the endpoint of the next attempt (spec/retry.md 27 to 43). It owns which
// endpoint is up, when a client moves to another, and when it returns. Each event gives a new
// Fleet; the clock and the random number are arguments, nothing is sent from here.
//
//	up       neither of
//	suspect  the last attempt failed
//	down     DownAfter failures in a row; probed until UpAfter probes in a row are good
//
// A refused result moves at once. An ambiguous one (bytes may have arrived) stays until the
// endpoint is down: two regions that both say "new" are a conflict.

import (
	"math"
	"slices"
)

// FailoverPolicy says when to leave an endpoint and when to return.
type FailoverPolicy struct {
	DownAfter       int
	UpAfter         int
	ProbeIntervalMs int64
	ProbeTimeoutMs  int64
	FailbackAfterMs int64
	NeverFailback   bool
	// AllowedRegions limits which endpoints are ever used, whatever fails: not one of another
	// region, nor one of none. nil allows every endpoint.
	AllowedRegions []string
	RedirectHops   int
}

// DefaultFailover gives the defaults (spec/retry.md 45).
func DefaultFailover() FailoverPolicy {
	return FailoverPolicy{
		DownAfter: 3, UpAfter: 2, ProbeIntervalMs: 10_000, ProbeTimeoutMs: 2_000,
		FailbackAfterMs: 600_000, RedirectHops: 3,
	}
}

func (p *FailoverPolicy) check() *Error {
	for _, limit := range []struct {
		name       string
		value, low int64
	}{
		{"down_after", int64(p.DownAfter), 1},
		{"up_after", int64(p.UpAfter), 1},
		{"probe_interval_ms", p.ProbeIntervalMs, 1},
		{"probe_timeout_ms", p.ProbeTimeoutMs, 1},
		{"failback_after_ms", p.FailbackAfterMs, 0},
		{"redirect_hops", int64(p.RedirectHops), 0},
	} {
		if limit.value < limit.low {
			return atLeast(limit.name, limit.low, limit.value)
		}
	}
	return nil
}

// endpointState holds what is known about one endpoint. Times are Unix milliseconds.
type endpointState struct {
	failures     int
	goodProbes   int
	down         bool
	failedAtMs   int64
	boundUntilMs int64
	probeAtMs    int64
	probed       bool // probeAtMs is set
}

// refused says whether the endpoint took nothing, so that another may have it (retry 30).
func (r Result) refused() bool {
	if r.Status != 0 {
		return r.Status == 503
	}
	return r.Code == "connect_failed" || r.Unsent && r.broken()
}

// ambiguous says whether the request may have been recorded (retry 31).
func (r Result) ambiguous() bool {
	if r.Status != 0 {
		return r.Status >= 500 && r.Status != 503
	}
	return !r.Unsent && r.broken()
}

func (r Result) broken() bool {
	return r.Code == "connection_lost" || r.Code == "attempt_timeout"
}

// failed says whether a result is a failure of the endpoint (retry 29).
func (r Result) failed() bool {
	return r.Status >= 500 || r.broken() || r.Code == "connect_failed" || r.Code == "tls_failed"
}

// Fleet holds all endpoints of a client. It never changes: an event gives another Fleet.
type Fleet struct {
	endpoints    []Endpoint
	policy       FailoverPolicy
	states       []endpointState
	eligible     []int
	current      int
	failbackAtMs int64
	failback     bool // failbackAtMs is set
	hintEpoch    uint64
}

// NewFleet starts with every endpoint up, at the first eligible one (retry 27, 28). The order of
// endpoints is that of preference.
func NewFleet(endpoints []Endpoint, policy FailoverPolicy) (Fleet, error) {
	if err := policy.check(); err != nil {
		return Fleet{}, err
	}
	fleet := Fleet{policy: policy, states: make([]endpointState, len(endpoints))}
	if len(endpoints) == 0 {
		return Fleet{}, newError("config_invalid", "endpoints: expected at least one")
	}
	for index, given := range endpoints {
		endpoint, err := given.normal()
		if err != nil {
			return Fleet{}, err
		}
		if _, twice := fleet.indexOf(endpoint.URL, len(fleet.endpoints)); twice {
			return Fleet{}, newError("config_invalid", "endpoints: expected each URL once")
		}
		fleet.endpoints = append(fleet.endpoints, endpoint)
		allowed := policy.AllowedRegions
		if allowed == nil || endpoint.Region != "" && slices.Contains(allowed, endpoint.Region) {
			fleet.eligible = append(fleet.eligible, index)
		}
	}
	if len(fleet.eligible) == 0 {
		return Fleet{}, newError("config_invalid",
			"allowed_regions: expected at least one endpoint in them")
	}
	fleet.current = fleet.home()
	return fleet, nil
}

// --- questions ------------------------------------------------------------------------------

// Len says how many endpoints there are.
func (f Fleet) Len() int { return len(f.endpoints) }

// Endpoint gives an endpoint, its URL in normal form.
func (f Fleet) Endpoint(index int) Endpoint { return f.endpoints[index] }

// Policy gives the policy of the fleet.
func (f Fleet) Policy() FailoverPolicy { return f.policy }

// Current is the index of the endpoint that the next call starts with.
func (f Fleet) Current() int { return f.current }

// Eligible says whether an endpoint may be used (retry 27).
func (f Fleet) Eligible(index int) bool { return slices.Contains(f.eligible, index) }

// State names the state of an endpoint: "up", "suspect" or "down".
func (f Fleet) State(index int) string {
	switch state := &f.states[index]; {
	case state.down:
		return "down"
	case state.failures > 0:
		return "suspect"
	}
	return "up"
}

// NextFor names the endpoint of a call's next attempt, after Attempted took in the last one.
// Other calls may have moved Current meanwhile; an ambiguous result must not follow them.
func (f Fleet) NextFor(sender int, result Result) int {
	if f.leaves(sender, result) {
		return f.current
	}
	return sender
}

// ProbesDue names the endpoints to ask `GET /health` now.
func (f Fleet) ProbesDue(nowMs int64) []int {
	var due []int
	for index, state := range f.states {
		if state.probed && state.probeAtMs <= nowMs {
			due = append(due, index)
		}
	}
	return due
}

// NextProbeMs says when the next probe is due, if one is.
func (f Fleet) NextProbeMs() (ms int64, ok bool) {
	for _, state := range f.states {
		if state.probed && (!ok || state.probeAtMs < ms) {
			ms, ok = state.probeAtMs, true
		}
	}
	return ms, ok
}

// --- events ---------------------------------------------------------------------------------

// Begun begins a call: return home if that is due, leave an endpoint that is down.
func (f Fleet) Begun(nowMs int64, u float64) Fleet {
	home := f.states[f.home()]
	due := f.failback && nowMs >= f.failbackAtMs
	if due && f.State(f.home()) == "up" && home.goodProbes >= f.policy.UpAfter {
		return f.move(f.home(), nowMs, u)
	}
	if f.states[f.current].down {
		return f.move(f.other(f.current, nowMs), nowMs, u)
	}
	return f
}

// Attempted takes in what one attempt at sender came to. u in [0, 1) spreads the timers.
func (f Fleet) Attempted(sender int, result Result, nowMs int64, u float64) Fleet {
	binding := result.Status == 429 || result.Status == 503
	if result.HasRetryAfter && binding {
		f = f.with(sender, func(s *endpointState) { s.boundUntilMs = nowMs + result.RetryAfterMs })
	}
	switch {
	case result.failed():
		f = f.failing(sender, nowMs)
	case result.Status != 0:
		f = f.with(sender, func(s *endpointState) { s.failures, s.down = 0, false })
	}
	if f.leaves(sender, result) && sender == f.current {
		f = f.move(f.other(sender, nowMs), nowMs, u)
	}
	return f.scheduled(sender, nowMs, u)
}

// Hinted follows the redirect hint of a 421 or 423, or says that it is to be ignored. hops counts
// the hints that this call has followed already (retry 41).
func (f Fleet) Hinted(hint LeaderHint, hops int, nowMs int64, u float64) (Fleet, bool) {
	url, err := normalURL(hint.Endpoint)
	if err != nil || hops >= f.policy.RedirectHops || hint.RegionEpoch < f.hintEpoch {
		return f, false
	}
	target, known := f.indexOf(url, len(f.endpoints))
	if !known || !f.Eligible(target) {
		return f, false
	}
	moved := f.move(target, nowMs, u)
	moved.hintEpoch = hint.RegionEpoch
	return moved, true
}

// Probed takes in a probe (retry 39).
func (f Fleet) Probed(index int, good bool, nowMs int64, u float64) Fleet {
	switch {
	case good:
		f = f.with(index, func(s *endpointState) {
			s.goodProbes++
			if !s.down || s.goodProbes >= f.policy.UpAfter {
				s.failures, s.down = 0, false
			}
		})
	case f.states[index].down:
		f = f.with(index, func(s *endpointState) { s.goodProbes = 0 })
	default:
		f = f.failing(index, nowMs)
	}
	f = f.with(index, func(s *endpointState) { s.probed = false })
	return f.scheduled(index, nowMs, u)
}

// --- inside ---------------------------------------------------------------------------------

// home is the first eligible endpoint, to which the client returns.
func (f Fleet) home() int { return f.eligible[0] }

func (f Fleet) with(index int, change func(*endpointState)) Fleet {
	f.states = slices.Clone(f.states)
	change(&f.states[index])
	return f
}

// indexOf finds a normal URL among the first `count` endpoints.
func (f Fleet) indexOf(url string, count int) (index int, ok bool) {
	index = slices.IndexFunc(f.endpoints[:count], func(e Endpoint) bool { return e.URL == url })
	return index, index >= 0
}

func (f Fleet) leaves(sender int, result Result) bool {
	return result.refused() || result.ambiguous() && f.states[sender].down
}

func (f Fleet) failing(index int, nowMs int64) Fleet {
	return f.with(index, func(s *endpointState) {
		s.failures++
		s.goodProbes = 0
		s.down = s.down || s.failures >= f.policy.DownAfter
		s.failedAtMs = nowMs
	})
}

// other chooses where to go from sender (retry 34, 35); the answer may be sender.
func (f Fleet) other(sender int, nowMs int64) int {
	var alive, free []int
	for _, index := range f.eligible {
		state := &f.states[index]
		if index == sender || state.down {
			continue
		}
		alive = append(alive, index)
		if state.boundUntilMs > nowMs {
			continue
		}
		if state.failures == 0 {
			return index
		}
		free = append(free, index)
	}
	failedAt := func(s *endpointState) int64 { return s.failedAtMs }
	switch {
	case len(free) > 0:
		return f.least(free, failedAt)
	case !f.states[sender].down:
		return sender
	case len(alive) > 0:
		return f.least(alive, func(s *endpointState) int64 { return s.boundUntilMs })
	}
	return f.least(f.eligible, failedAt)
}

// least gives the first of the indices with the least key.
func (f Fleet) least(indices []int, key func(*endpointState) int64) int {
	best := indices[0]
	for _, index := range indices[1:] {
		if key(&f.states[index]) < key(&f.states[best]) {
			best = index
		}
	}
	return best
}

// move makes target current; leaving home notes when to return (retry 40).
func (f Fleet) move(target int, nowMs int64, u float64) Fleet {
	if target == f.current {
		return f
	}
	left := f.current
	f.current = target
	switch {
	case target == f.home():
		f.failback = false
	case left == f.home():
		// Probes from before do not count towards the return. A down home has begun its row,
		// which hints that lead to it and away again must not end.
		f = f.with(left, func(s *endpointState) {
			if !s.down {
				s.goodProbes = 0
			}
		})
		if !f.policy.NeverFailback {
			f.failbackAtMs = later(nowMs, float64(f.policy.FailbackAfterMs)*(0.5+u))
			f.failback = true
		}
	}
	return f.scheduled(f.home(), nowMs, u)
}

// scheduled plans the next probe of an endpoint that is down, or of home while away (retry 38).
func (f Fleet) scheduled(index int, nowMs int64, u float64) Fleet {
	state := f.states[index]
	wanted := state.down || index == f.home() && f.current != index
	if wanted == state.probed {
		return f
	}
	// 0.8 + 0.4 u is rounded twice on every processor; the conversion forbids fusing.
	share := 0.8 + float64(0.4*u)
	return f.with(index, func(s *endpointState) {
		s.probed = wanted
		s.probeAtMs = later(nowMs, float64(f.policy.ProbeIntervalMs)*share)
	})
}

// later adds a wait, cut to whole milliseconds; one beyond all clocks is the end of time.
func later(nowMs int64, waitMs float64) int64 {
	if waitMs >= math.MaxInt64/2 {
		return math.MaxInt64
	}
	return nowMs + int64(waitMs)
}
