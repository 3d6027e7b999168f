package fractal

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

const (
	urlA   = "https://a.example"
	urlB   = "https://b.example"
	urlC   = "https://c.example"
	hourMs = 3_600_000
)

var (
	refused = Result{Code: "connect_failed"}
	drained = Result{Status: 503}
	lost    = Result{Code: "connection_lost"}
	success = Result{Status: 200}
)

func fleetAt(t testing.TB, urls []string, changes ...func(*FailoverPolicy)) Fleet {
	t.Helper()
	policy := DefaultFailover()
	for _, change := range changes {
		change(&policy)
	}
	var endpoints []Endpoint
	for _, text := range urls {
		url, region, _ := strings.Cut(text, " ")
		endpoints = append(endpoints, Endpoint{url, region})
	}
	fleet, err := NewFleet(endpoints, policy)
	if err != nil {
		t.Fatal(err)
	}
	return fleet
}

func three(t testing.TB, changes ...func(*FailoverPolicy)) Fleet {
	return fleetAt(t, []string{urlA, urlB, urlC}, changes...)
}

// tried lets attempts at one endpoint have these results, one per millisecond.
func tried(fleet Fleet, sender int, nowMs int64, results ...Result) Fleet {
	for step, result := range results {
		fleet = fleet.Attempted(sender, result, nowMs+int64(step), 0.5)
	}
	return fleet
}

func statesOf(fleet Fleet) string {
	var states []string
	for index := range fleet.Len() {
		states = append(states, fleet.State(index))
	}
	return strings.Join(states, " ")
}

func downAfter(n int) func(*FailoverPolicy) { return func(p *FailoverPolicy) { p.DownAfter = n } }

// --- construction --------------------------------------------------------------------------

func TestAFleetStartsUpAtTheFirst(t *testing.T) {
	fleet := three(t)
	_, due := fleet.NextProbeMs()
	if fleet.Current() != 0 || statesOf(fleet) != "up up up" || due ||
		len(fleet.ProbesDue(hourMs)) != 0 ||
		fleet.Endpoint(1).URL != urlB ||
		fleet.Policy().DownAfter != 3 {
		t.Errorf("%+v", fleet)
	}
	for _, urls := range [][]string{{}, {urlA, urlA}, {urlA, urlA + "/"}} {
		var endpoints []Endpoint
		for _, url := range urls {
			endpoints = append(endpoints, Endpoint{URL: url})
		}
		if _, err := NewFleet(endpoints, DefaultFailover()); errorCode(err) != "config_invalid" {
			t.Errorf("%q: %v", urls, err)
		}
	}
}

func TestAFailoverPolicyIsChecked(t *testing.T) {
	for _, change := range []func(*FailoverPolicy){
		func(p *FailoverPolicy) { p.DownAfter = 0 }, func(p *FailoverPolicy) { p.UpAfter = 0 },
		func(p *FailoverPolicy) { p.ProbeIntervalMs = 0 },
		func(p *FailoverPolicy) { p.ProbeTimeoutMs = 0 },
		func(p *FailoverPolicy) { p.FailbackAfterMs = -1 },
		func(p *FailoverPolicy) { p.RedirectHops = -1 },
		func(p *FailoverPolicy) { p.AllowedRegions = []string{} },
		func(p *FailoverPolicy) { p.AllowedRegions = []string{""} },
	} {
		policy := DefaultFailover()
		change(&policy)
		if _, err := NewFleet([]Endpoint{{URL: urlA}}, policy); errorCode(err) != "config_invalid" {
			t.Errorf("%+v: %v", policy, err)
		}
	}
	least := FailoverPolicy{DownAfter: 1, UpAfter: 1, ProbeIntervalMs: 1, ProbeTimeoutMs: 1}
	fleet, err := NewFleet([]Endpoint{{URL: urlA}}, least)
	if err != nil {
		t.Fatal(err)
	}
	if _, followed := fleet.Hinted(LeaderHint{urlA, 1}, 0, 0, 0.5); followed {
		t.Error("no hop is none")
	}
}

func TestARegionOutsideTheListIsNeverUsed(t *testing.T) {
	fleet := fleetAt(t, []string{urlA, urlB + " use", urlC + " fra"}, func(p *FailoverPolicy) {
		p.AllowedRegions = []string{"fra", "use"}
	})
	if fleet.Current() != 1 || fleet.Eligible(0) || !fleet.Eligible(2) {
		t.Fatalf("%+v", fleet)
	}
	for step := range 6 {
		fleet = tried(fleet, 1+step%2, 0, refused)
		if fleet.Current() == 0 {
			t.Fatalf("%+v", fleet)
		}
	}
	if _, followed := fleet.Hinted(LeaderHint{urlA, 9}, 0, 0, 0); followed {
		t.Error("a hint left the regions")
	}
}

// --- health ---------------------------------------------------------------------------------

func TestEveryAnswerBelow500IsASignOfLife(t *testing.T) {
	shaken := tried(three(t), 0, 0, lost, lost)
	for status := 100; status < 600; status++ {
		want := "up"
		if status >= 500 {
			want = "down"
		}
		if fleet := tried(shaken, 0, 5, Result{Status: status}); fleet.State(0) != want {
			t.Errorf("%d: %s", status, fleet.State(0))
		}
	}
	unreadable := Result{Status: 200, Code: "response_malformed"}
	if fleet := tried(shaken, 0, 5, unreadable); fleet.State(0) != "up" {
		t.Error(statesOf(fleet))
	}
	failing := []string{"connect_failed", "tls_failed", "connection_lost", "attempt_timeout"}
	for code := range codes {
		want := "up"
		if slices.Contains(failing, code) {
			want = "suspect"
		}
		if fleet := tried(three(t), 0, 0, Result{Code: code}); fleet.State(0) != want {
			t.Errorf("%s: %s", code, fleet.State(0))
		}
	}
}

func TestThreeFailuresInARowAreDownAndOneAnswerIsUp(t *testing.T) {
	fleet := tried(fleetAt(t, []string{urlA}), 0, 0, lost, lost)
	for want, got := range map[string]Fleet{
		"suspect": tried(fleet, 0, 5, success, lost), "down": tried(fleet, 0, 5, lost),
		"up": tried(fleet, 0, 5, lost, success),
	} {
		if statesOf(got) != want {
			t.Errorf("expected %s, got %s", want, statesOf(got))
		}
	}
	if fleet := tried(three(t, downAfter(1)), 0, 0, lost); fleet.State(0) != "down" {
		t.Error(statesOf(fleet))
	}
}

// --- moving ---------------------------------------------------------------------------------

func TestWhereTheNextAttemptGoes(t *testing.T) {
	ambiguous := []Result{
		lost,
		{Code: "attempt_timeout"},
		{Status: 500},
		{Status: 501},
		{Status: 502},
		{Status: 504},
		{Status: 599},
	}
	for _, result := range []Result{
		refused, drained, {Code: "connection_lost", Unsent: true},
		{Code: "attempt_timeout", Unsent: true},
	} {
		if fleet := tried(three(t), 0, 0, result); fleet.Current() != 1 ||
			fleet.NextFor(0, result) != 1 {
			t.Errorf("refused %+v: %+v", result, fleet)
		}
	}
	for _, result := range ambiguous {
		fleet := tried(three(t), 0, 0, result, result)
		if fleet.Current() != 0 || fleet.NextFor(0, result) != 0 {
			t.Errorf("ambiguous %+v: %+v", result, fleet)
		}
		if fleet = tried(fleet, 0, 9, result); fleet.Current() != 1 ||
			fleet.NextFor(0, result) != 1 {
			t.Errorf("ambiguous and down %+v: %+v", result, fleet)
		}
	}
	for _, status := range []int{200, 302, 400, 401, 404, 408, 409, 413, 421, 422, 423, 425, 429} {
		result := asked(status, hourMs)
		fleet := tried(three(t), 0, 0, result, result, result, result)
		if fleet.Current() != 0 || fleet.NextFor(0, result) != 0 {
			t.Errorf("%d: %+v", status, fleet)
		}
	}
}

func TestACallDoesNotFollowOthersAfterAnAmbiguousResult(t *testing.T) {
	late := tried(tried(three(t), 0, 0, refused), 0, 5, lost)
	if late.Current() != 1 || late.NextFor(0, lost) != 0 || late.NextFor(0, refused) != 1 {
		t.Errorf("%+v", late)
	}
}

func TestTheFirstThatIsUpIsNextElseTheLongestFailedSuspect(t *testing.T) {
	fleet := three(t)
	for step, want := range []int{1, 2, 0, 1} {
		if fleet = tried(fleet, fleet.Current(), int64(10*step), refused); fleet.Current() != want {
			t.Fatalf("step %d: expected %d, got %d", step, want, fleet.Current())
		}
	}
}

func TestABoundEndpointIsLeftAlone(t *testing.T) {
	fleet := tried(three(t), 0, 0, asked(503, 1000))
	fleet = tried(tried(fleet, 1, 500, refused), 2, 501, refused)
	if fleet.Current() != 1 {
		t.Fatalf("%+v", fleet)
	}
	if fleet = tried(fleet, 1, 1000, refused); fleet.Current() != 0 {
		t.Fatalf("%+v", fleet)
	}
	for status, binds := range map[int]bool{429: true, 503: true, 500: false, 408: false} {
		fleet := tried(three(t), 0, 0, asked(status, 1000))
		if (fleet.states[0].boundUntilMs == 1000) != binds {
			t.Error(status)
		}
	}
	alone := tried(fleetAt(t, []string{urlA}), 0, 0, asked(503, 1000))
	both := tried(
		tried(fleetAt(t, []string{urlA, urlB}), 0, 0, asked(503, 1000)),
		1,
		1,
		asked(503, 10),
	)
	if alone.Current() != 0 || both.Current() != 1 {
		t.Errorf("%+v, %+v", alone, both)
	}
}

func TestASenderThatIsDownPrefersTheBoundThatEndsFirst(t *testing.T) {
	fleet := tried(tried(three(t, downAfter(1)), 0, 0, asked(429, 900)), 1, 0, asked(429, 300))
	fleet.current = 2
	if fleet = tried(fleet, 2, 0, lost); fleet.Current() != 1 {
		t.Errorf("%+v", fleet)
	}
}

func TestAllDownTakesTheLongestFailedAndNeverRefuses(t *testing.T) {
	fleet := fleetAt(t, []string{urlA, urlB}, downAfter(1))
	fleet = tried(tried(fleet, 0, 1, refused), 1, 2, refused)
	if statesOf(fleet) != "down down" || fleet.Current() != 0 {
		t.Fatalf("%+v", fleet)
	}
	if fleet = tried(fleet, 0, 3, refused); fleet.Current() != 1 {
		t.Fatalf("%+v", fleet)
	}
	alone := tried(fleetAt(t, []string{urlA}, downAfter(1)), 0, 0, refused)
	if alone.Current() != 0 {
		t.Fatalf("%+v", alone)
	}
}

func TestSuccessIsStickyAndADownEndpointIsLeft(t *testing.T) {
	fleet := tried(tried(three(t), 0, 0, refused), 1, 5, success)
	if fleet.Begun(1000, 0.5).Current() != 1 {
		t.Errorf("%+v", fleet)
	}
	fleet = fleetAt(t, []string{urlA, urlB})
	for range 3 {
		fleet = fleet.Probed(0, false, 1, 0.5)
	}
	if fleet.Current() != 0 || statesOf(fleet) != "down up" || fleet.Begun(2, 0.5).Current() != 1 {
		t.Errorf("%+v", fleet)
	}
}

// --- probes and the way back ----------------------------------------------------------------

func TestADownEndpointIsProbedAtSpreadTimes(t *testing.T) {
	for u, firstMs := range map[float64]int64{0: 8002, 0.5: 10_002, 0.999: 11_998} {
		fleet := fleetAt(t, []string{urlA})
		for step := range 3 {
			fleet = fleet.Attempted(0, lost, int64(step), u)
		}
		ms, due := fleet.NextProbeMs()
		if ms != firstMs || !due || len(fleet.ProbesDue(firstMs-1)) != 0 ||
			!slices.Equal(fleet.ProbesDue(firstMs), []int{0}) {
			t.Errorf("%v: %d", u, ms)
		}
		if ms, _ := tried(fleet, 0, 500, lost).NextProbeMs(); ms != firstMs {
			t.Errorf("%v: planned again at %d", u, ms)
		}
		if ms, _ := fleet.Probed(0, false, firstMs, 0).NextProbeMs(); ms != firstMs+8000 {
			t.Errorf("%v: then %d", u, ms)
		}
	}
}

func TestTwoGoodProbesInARowAreUp(t *testing.T) {
	once := tried(fleetAt(t, []string{urlA}), 0, 0, lost, lost, lost).Probed(0, true, 1, 0.5)
	broken := once.Probed(0, false, 2, 0.5).Probed(0, true, 3, 0.5)
	twice := once.Probed(0, true, 2, 0.5)
	if _, due := twice.NextProbeMs(); statesOf(once) != "down" || statesOf(broken) != "down" ||
		statesOf(twice) != "up" || due {
		t.Error(statesOf(once), statesOf(broken), statesOf(twice), due)
	}
	suspect := tried(fleetAt(t, []string{urlA}), 0, 0, lost)
	if statesOf(suspect.Probed(0, true, 1, 0.5)) != "up" ||
		suspect.Probed(0, false, 1, 0.5).states[0].failures != 2 {
		t.Error("probes of a living endpoint count too")
	}
}

func TestTheClientReturnsAtASpreadTime(t *testing.T) {
	for u, dueMs := range map[float64]int64{0: 300_000, 0.25: 450_000, 0.5: 600_000} {
		fleet := fleetAt(t, []string{urlA, urlB}).Attempted(0, drained, 0, u)
		if ms, _ := fleet.NextProbeMs(); ms != int64(10_000*(0.8+0.4*u)) {
			t.Errorf("%v: home is probed at %d", u, ms)
		}
		fleet = fleet.Probed(0, true, 1, 0.5).Probed(0, true, 2, 0.5)
		back := fleet.Begun(dueMs, 0.5)
		_, due := back.NextProbeMs()
		if fleet.Begun(dueMs-1, 0.5).Current() != 1 || back.Current() != 0 || back.failback || due {
			t.Errorf("%v: %+v", u, back)
		}
	}
}

func TestTheClientDoesNotReturnWithoutGoodProbes(t *testing.T) {
	fleet := fleetAt(t, []string{urlA, urlB}).Attempted(0, drained, 0, 0.25)
	once := fleet.Probed(0, true, 1, 0.5)
	broken := once.Probed(0, false, 2, 0.5).Probed(0, true, 3, 0.5)
	for _, away := range []Fleet{fleet, once, broken} {
		if away.Begun(hourMs, 0.5).Current() != 1 {
			t.Errorf("%+v", away)
		}
	}
	if broken.Probed(0, true, 4, 0.5).Begun(hourMs, 0.5).Current() != 0 {
		t.Error("two good probes do not suffice")
	}
	before := three(t).Probed(0, true, 1, 0.5).Probed(0, true, 2, 0.5)
	moved, _ := before.Hinted(LeaderHint{urlB, 1}, 0, 3, 0.5)
	if moved.Begun(hourMs, 0.5).Current() != 1 {
		t.Error("probes from before leaving count")
	}
}

func TestNoneNeverReturnsAndZeroReturnsAsSoonAsItMay(t *testing.T) {
	for _, c := range []struct {
		change func(*FailoverPolicy)
		nowMs  int64
		want   int
	}{
		{func(p *FailoverPolicy) { p.NeverFailback = true }, 10 * hourMs, 1},
		{func(p *FailoverPolicy) { p.FailbackAfterMs = 0 }, 2, 0},
		{func(p *FailoverPolicy) { p.FailbackAfterMs = math.MaxInt64 }, math.MaxInt64 - 1, 1},
	} {
		fleet := fleetAt(t, []string{urlA, urlB}, c.change).Attempted(0, drained, 0, 0.25)
		fleet = fleet.Probed(0, true, 1, 0.5).Probed(0, true, 2, 0.5)
		if got := fleet.Begun(c.nowMs, 0.5).Current(); got != c.want {
			t.Errorf("expected %d, got %d", c.want, got)
		}
	}
}

func TestTheTimeToReturnCountsFromLeavingHome(t *testing.T) {
	fleet := three(t).Attempted(0, drained, 0, 0.25)
	onward := tried(fleet, 1, 1000, refused)
	home := tried(onward, 2, 2000, refused)
	if onward.Current() != 2 || onward.failbackAtMs != fleet.failbackAtMs || !onward.failback ||
		home.Current() != 0 || home.failback {
		t.Errorf("%+v, %+v", onward, home)
	}
}

// --- redirect hints -------------------------------------------------------------------------

func TestAHintLeadsOnlyToAConfiguredEndpoint(t *testing.T) {
	fleet := three(t)
	moved, followed := fleet.Hinted(LeaderHint{"https://B.example:443/", 7}, 0, 0, 0)
	ms, _ := moved.NextProbeMs()
	if !followed || moved.Current() != 1 || moved.failbackAtMs != 300_000 || ms != 8000 {
		t.Errorf("%+v", moved)
	}
	for _, url := range []string{"https://evil.example", "http://b.example", "not a url", urlB + "/v2"} {
		if same, followed := fleet.Hinted(LeaderHint{url, 7}, 0, 0, 0.5); followed ||
			same.Current() != 0 {
			t.Error(url)
		}
	}
	for hops, taken := range map[int]bool{0: true, 2: true, 3: false} {
		if _, followed := fleet.Hinted(LeaderHint{urlB, 0}, hops, 0, 0.5); followed != taken {
			t.Error(hops)
		}
	}
	if _, followed := moved.Hinted(LeaderHint{urlC, 6}, 0, hourMs, 0.5); followed {
		t.Error("an older hint is followed")
	}
	if again, followed := moved.Hinted(LeaderHint{urlC, 7}, 0, 1, 0.5); !followed ||
		again.Current() != 2 {
		t.Error("a hint of the same epoch is not followed")
	}
}

// --- properties -----------------------------------------------------------------------------

func TestNoHistoryBreaksAPromise(t *testing.T) {
	source := rand.New(rand.NewPCG(8, 9))
	statuses := []int{200, 202, 401, 408, 421, 429, 500, 502, 503, 504}
	names := []string{"connect_failed", "connection_lost", "cancelled", "tls_failed"}
	for range 3000 {
		fleet := fleetAt(t, []string{urlA, urlB + " fra", urlC + " fra"}, func(p *FailoverPolicy) {
			p.AllowedRegions = []string{"fra"}
		})
		nowMs := int64(0)
		for range source.IntN(30) {
			nowMs += source.Int64N(400_000)
			u, before, shown := source.Float64(), fleet, fmt.Sprint(fleet)
			who := source.IntN(3)
			switch source.IntN(4) {
			case 0:
				result := Result{
					Status: statuses[source.IntN(len(statuses))], RetryAfterMs: source.Int64N(20_000),
					HasRetryAfter: source.IntN(2) == 0, Unsent: source.IntN(2) == 0,
				}
				if source.IntN(2) == 0 {
					result.Status, result.Code = 0, names[source.IntN(len(names))]
				}
				fleet = fleet.Attempted(who, result, nowMs, u)
				next := fleet.NextFor(who, result)
				if next != who && next != fleet.Current() ||
					result.Status == 429 && fleet.current != before.current {
					t.Fatalf("%+v", fleet)
				}
			case 1:
				fleet = fleet.Probed(who, source.IntN(2) == 0, nowMs, u)
				if fleet.current != before.current {
					t.Fatalf("%+v", fleet)
				}
			case 2:
				hint := LeaderHint{[]string{urlA, urlB, urlC}[who], source.Uint64N(4)}
				if fleet, _ = fleet.Hinted(hint, 0, nowMs, u); fleet.hintEpoch < before.hintEpoch {
					t.Fatalf("%+v", fleet)
				}
			default:
				fleet = fleet.Begun(nowMs, u)
			}
			if fmt.Sprint(before) != shown {
				t.Fatal("an event changed the fleet that it was given")
			}
			if !fleet.Eligible(fleet.Current()) || fleet.failback == (fleet.Current() == 1) {
				t.Fatalf("%+v", fleet)
			}
			for index, state := range fleet.states {
				if state.probed != (state.down || index == 1 && fleet.Current() != 1) {
					t.Fatalf("%+v", fleet)
				}
			}
		}
	}
}
