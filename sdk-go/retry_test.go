package fractal

import (
	"fmt"
	"math"
	"math/big"
	"math/rand/v2"
	"strings"
	"testing"
	"time"
)

var busy = Result{Status: 503}

// decide plans the first retry at u = 0.5 with everything to spend.
func decide(result Result, changes ...func(*RetryPolicy, *Moment)) Decision {
	policy, at := DefaultRetry(), Moment{Attempt: 1, U: 0.5, DeadlineMs: 1 << 40, Quota: QuotaFull}
	for _, change := range changes {
		change(&policy, &at)
	}
	return PlanRetry(policy, result, at)
}

func asked(status int, ms int64) Result {
	return Result{Status: status, RetryAfterMs: ms, HasRetryAfter: true}
}

func TestTheStatusTable(t *testing.T) {
	retried := map[int]bool{
		408: true,
		425: true,
		429: true,
		500: true,
		502: true,
		503: true,
		504: true,
	}
	for status := 100; status < 600; status++ {
		want := StopNotRetryable
		switch {
		case status == 200 || status == 202:
			want = StopSuccess
		case retried[status]:
			want = ""
		}
		if got := decide(Result{Status: status}); got.Stop != want {
			t.Errorf("%d: %+v", status, got)
		}
	}
}

func TestWithoutAnAnswerTheCodeDecides(t *testing.T) {
	for code, info := range codes {
		if info.Status != 0 {
			continue
		}
		want := StopNotRetryable
		switch code {
		case "cancelled":
			want = StopCancelled
		case "connect_failed", "connection_lost", "attempt_timeout":
			want = ""
		}
		if got := decide(Result{Code: code}); got.Stop != want {
			t.Errorf("%s: %+v", code, got)
		}
	}
	for _, result := range []Result{{Code: "nobody_knows"}, {}} {
		if got := decide(result); got.Stop != StopNotRetryable {
			t.Errorf("%+v: %+v", result, got)
		}
	}
}

func TestAWishCountsOnErrorResponsesOnly(t *testing.T) {
	for _, c := range []struct {
		result Result
		stop   string
	}{
		{Result{Status: 503, Wish: WishStop}, StopServerRefused},
		{Result{Status: 409, Wish: WishRetry}, ""},
		{Result{Status: 423, Wish: WishRetry}, ""},
		{Result{Status: 200, Wish: WishStop}, StopSuccess},
		{Result{Status: 204, Wish: WishRetry}, StopNotRetryable},
		{Result{Status: 302, Wish: WishRetry}, StopNotRetryable},
		{Result{Code: "tls_failed", Wish: WishRetry}, StopNotRetryable},
		{Result{Status: 200, Code: "response_malformed", Wish: WishRetry}, StopNotRetryable},
	} {
		if got := decide(c.result); got.Stop != c.stop {
			t.Errorf("%+v: %+v", c.result, got)
		}
	}
	for text, wish := range map[string]Wish{
		"true": WishRetry, "false": WishStop, "True": NoWish, " true": NoWish, "1": NoWish, "": NoWish,
	} {
		if ParseWish(text) != wish {
			t.Errorf("%q", text)
		}
	}
}

func TestTheRulesAreAskedInTheirOrder(t *testing.T) {
	late, wish := asked(503, 60_001), Result{Status: 503, Wish: WishRetry}
	attempt := func(n int) func(*RetryPolicy, *Moment) {
		return func(_ *RetryPolicy, at *Moment) { at.Attempt = n }
	}
	noTime := func(_ *RetryPolicy, at *Moment) { at.DeadlineMs = 0 }
	noQuota := func(_ *RetryPolicy, at *Moment) { at.Quota = 13 }
	for _, c := range []struct {
		got  Decision
		want Decision
	}{
		{decide(late, attempt(3), noTime, noQuota), Decision{Stop: StopAttemptsExhausted, Quota: 13}},
		{decide(late, noTime, noQuota), Decision{
			Stop: StopRetryAfterTooLong, Quota: 13, RetryAfterMs: 60_001, HasRetryAfter: true}},
		{decide(busy, noTime, noQuota), Decision{Stop: StopDeadlineExceeded, Quota: 13}},
		{decide(asked(500, 7), noQuota), Decision{
			Stop: StopQuotaExhausted, Quota: 13, RetryAfterMs: 7, HasRetryAfter: true}},
		{decide(wish, attempt(3)), Decision{Stop: StopAttemptsExhausted, Quota: QuotaFull}},
		{decide(wish, noTime), Decision{Stop: StopDeadlineExceeded, Quota: QuotaFull}},
		{decide(wish, noQuota), Decision{Stop: StopQuotaExhausted, Quota: 13}},
	} {
		if c.got != c.want {
			t.Errorf("expected %+v, got %+v", c.want, c.got)
		}
	}
}

func TestJitterIsFullAndDoublesUpToItsBound(t *testing.T) {
	for _, c := range []struct {
		attempt int
		u       float64
		waitMs  int64
	}{
		{1, 0, 0}, {1, 0.5, 250}, {1, 0.999, 499}, {1, math.Nextafter(1, 0), 499}, {2, 0.5, 500},
		{3, 0.5, 1000}, {4, 0.5, 2000}, {5, 0.5, 4000}, {6, 0.5, 4000}, {7, 0.999, 7992},
		{1_000_000, 0.5, 4000},
	} {
		got := decide(busy, func(policy *RetryPolicy, at *Moment) {
			policy.MaxAttempts, at.Attempt, at.U = 10_000_000, c.attempt, c.u
		})
		if got != (Decision{WaitMs: c.waitMs, Quota: 486, Cost: 14}) {
			t.Errorf("%+v: %+v", c, got)
		}
	}
}

func TestTheBoundOfAWaitIsThatOfTheRule(t *testing.T) {
	for _, base := range []int64{0, 1, 3, 500, 7999, 8000, 8001, math.MaxInt64} {
		for _, high := range []int64{0, 1, 7, 8, 8000, 8001, math.MaxInt64} {
			policy := RetryPolicy{WaitBaseMs: base, WaitMaxMs: high}
			for retry := 1; retry < 70; retry++ {
				// min(base * 2^(n-1), high), with numbers that have no end.
				want := new(big.Int).Lsh(big.NewInt(base), uint(retry-1))
				if want.Cmp(big.NewInt(high)) > 0 {
					want.SetInt64(high)
				}
				if got := policy.waitBoundMs(retry); got != want.Int64() {
					t.Fatalf(
						"%d of %d, retry %d: expected %d, got %d",
						base,
						high,
						retry,
						want,
						got,
					)
				}
			}
		}
	}
}

func TestRetryAfterIsAFloor(t *testing.T) {
	for _, ms := range []int64{0, 1, 7000, 60_000} {
		for _, u := range []float64{0, 0.5} {
			got := decide(asked(429, ms), func(_ *RetryPolicy, at *Moment) { at.U = u })
			if want := (Decision{WaitMs: ms + int64(u*500), Quota: 495, Cost: 5}); got != want {
				t.Errorf("expected %+v, got %+v", want, got)
			}
		}
	}
	patient := decide(
		asked(503, 60_001),
		func(p *RetryPolicy, _ *Moment) { p.RetryAfterMaxMs = 60_001 },
	)
	other := decide(asked(503, 3_600_000), func(_ *RetryPolicy, at *Moment) { at.Alternate = true })
	if patient.WaitMs != 60_251 || other != (Decision{WaitMs: 250, Quota: 495, Cost: 5}) {
		t.Errorf("%+v, %+v", patient, other)
	}
}

func TestAWaitThatCannotFitIsNotBegun(t *testing.T) {
	for _, c := range []struct {
		nowMs, deadlineMs int64
		fits              bool
	}{
		{0, 250, false}, {0, 251, true}, {1000, 1250, false}, {1000, 1251, true},
		{math.MaxInt64 - 10, math.MaxInt64, false},
	} {
		got := decide(
			busy,
			func(_ *RetryPolicy, at *Moment) { at.NowMs, at.DeadlineMs = c.nowMs, c.deadlineMs },
		)
		if (got.Stop == "") != c.fits {
			t.Errorf("%+v: %+v", c, got)
		}
	}
}

func TestARetryHasAPrice(t *testing.T) {
	for _, c := range []struct {
		result Result
		cost   int
	}{
		{busy, 14}, {asked(503, 0), 5}, {Result{Status: 429}, 5}, {asked(429, 1), 5},
		{asked(500, 1), 14}, {Result{Code: "connect_failed"}, 14},
	} {
		quota := func(n int) func(*RetryPolicy, *Moment) {
			return func(_ *RetryPolicy, at *Moment) { at.Quota = n }
		}
		if got := decide(c.result, quota(c.cost)); got.Stop != "" || got.Quota != 0 ||
			got.Cost != c.cost {
			t.Errorf("%+v: %+v", c, got)
		}
		if got := decide(c.result, quota(c.cost-1)); got.Stop != StopQuotaExhausted ||
			got.Quota != c.cost-1 {
			t.Errorf("%+v: %+v", c, got)
		}
	}
}

func TestSuccessGivesBack(t *testing.T) {
	for _, c := range []struct{ quota, attempt, taken, after int }{
		{499, 1, 0, 500}, {500, 1, 0, 500}, {0, 1, 0, 1}, {100, 2, 0, 100}, {100, 2, 14, 114},
		{490, 3, 14, 500},
	} {
		got := decide(Result{Status: 200}, func(_ *RetryPolicy, at *Moment) {
			at.Quota, at.Attempt, at.Taken = c.quota, c.attempt, c.taken
		})
		if got != (Decision{Stop: StopSuccess, Quota: c.after}) {
			t.Errorf("%+v: %+v", c, got)
		}
	}
}

func TestNoPlanBreaksAPromise(t *testing.T) {
	source := rand.New(rand.NewPCG(6, 9))
	names := []string{"", "", "", "cancelled", "connect_failed", "attempt_timeout", "tls_failed"}
	for range 200_000 {
		result := Result{
			Status: []int{0, 100 + source.IntN(500), 429, 503}[source.IntN(4)],
			Code:   names[source.IntN(len(names))], Wish: Wish(source.IntN(3)),
			RetryAfterMs: source.Int64N(100_000), HasRetryAfter: source.IntN(2) == 0,
		}
		at := Moment{
			Attempt: 1 + source.IntN(4), U: source.Float64(), NowMs: source.Int64N(1_000_000),
			Quota: source.IntN(QuotaFull + 1), Alternate: source.IntN(2) == 0,
		}
		left := source.Int64N(100_000)
		at.DeadlineMs = at.NowMs + left
		got := PlanRetry(DefaultRetry(), result, at)
		floor := int64(0)
		if result.HasRetryAfter && !at.Alternate {
			floor = result.RetryAfterMs
		}
		switch {
		case got.Quota < 0 || got.Quota > QuotaFull:
			t.Fatalf("%+v, %+v: %+v", result, at, got)
		case got.Stop != "":
		case got.WaitMs < floor || got.WaitMs >= floor+8000 || got.WaitMs >= left ||
			at.Attempt >= 3 || at.Quota-got.Quota != got.Cost || got.Cost != 5 && got.Cost != 14:
			t.Fatalf("%+v, %+v: %+v", result, at, got)
		}
	}
}

func TestAPolicyIsChecked(t *testing.T) {
	for _, policy := range []RetryPolicy{{}, {1, -1, 0, 0}, {1, 0, -1, 0}, {1, 0, 0, -1}} {
		if errorCode(policy.check()) != "config_invalid" {
			t.Errorf("%+v", policy)
		}
	}
	for _, policy := range []RetryPolicy{{1, 0, 0, 0}, DefaultRetry(), NoRetry()} {
		if err := policy.check(); err != nil {
			t.Error(err)
		}
	}
	got := decide(busy, func(p *RetryPolicy, _ *Moment) { *p = RetryPolicy{3, 0, 0, 0} })
	if got.WaitMs != 0 || got.Stop != "" {
		t.Errorf("zero is a value: %+v", got)
	}
}

func TestAnErrorSaysWhatDecides(t *testing.T) {
	err := newError("unavailable", "x")
	err.Status, err.RetryAfterMs, err.HasRetryAfter = 503, 9, true
	err.Headers = map[string]string{"x-should-retry": "false"}
	unreadable := newError("response_malformed", "x")
	unreadable.Status = 200
	for _, c := range []struct{ got, want Result }{
		{ResultOf(err, true), Result{503, "", 9, true, WishStop, false}},
		{ResultOf(unreadable, true), Result{Status: 200, Code: "response_malformed"}},
		{ResultOf(newError("attempt_timeout", "x"), true), Result{Code: "attempt_timeout"}},
		{ResultOf(newError("connection_lost", "x"), false), Result{Code: "connection_lost", Unsent: true}},
	} {
		if c.got != c.want {
			t.Errorf("expected %+v, got %+v", c.want, c.got)
		}
	}
}

// --- Retry-After ----------------------------------------------------------------------------

const (
	sampleDate   = "Sun, 06 Nov 1994 08:49:37 GMT"
	sampleDateMs = 784_111_777_000
)

func TestEverySpellingOfRetryAfter(t *testing.T) {
	const unreadable = -1
	for text, want := range map[string]int64{
		"0": 0, "7": 7000, "007": 7000, "7.5": 7500, "0.0001": 1, "0.1230": 123, "0.1231": 124,
		"1.0000000001": 1001, "-1": 0, "-0.5": 0, " 7 ": 7000, "\t7": 7000,
		"9999999999999": maxSafeInteger, "9007199254740.991": maxSafeInteger,
		"9007199254740.9909": maxSafeInteger, "9007199254740.990": maxSafeInteger - 1,
		"9999999999999999": maxSafeInteger, strings.Repeat("9", 5000): maxSafeInteger,
		strings.Repeat("0", 5000) + "1": 1000,
		"+5":                            unreadable, "5.": unreadable, ".5": unreadable, "1e3": unreadable, "5, 7": unreadable,
		"": unreadable, "5s": unreadable, "\u0665": unreadable, "\u00b2": unreadable, "1 2": unreadable,
		"- 1": unreadable, "\x0b7": unreadable, "-": unreadable, "--1": unreadable, "1.2.3": unreadable,
		"Sun, 06 Nov 1994 08:49:47 GMT":    10_000,
		"Sunday, 06-Nov-94 08:49:47 GMT":   10_000,
		"Sun Nov  6 08:49:47 1994":         10_000,
		"Wed Nov 16 08:49:37 1994":         864_000_000,
		"Mon, 06 Nov 1994 08:49:47 GMT":    10_000,
		"Sun, 06 Nov 1994 08:49:36 GMT":    0,
		"Sunday, 06-Nov-93 08:49:47 GMT":   0,
		"Monday, 06-Nov-95 08:49:37 GMT":   31_536_000_000,
		"Sun, 06 Nov 1994 08:49:47 UTC":    unreadable,
		"sun, 06 Nov 1994 08:49:47 GMT":    unreadable,
		"Sun, 06 NOV 1994 08:49:47 GMT":    unreadable,
		"Sun, 06 Foo 1994 08:49:47 GMT":    unreadable,
		"Sun, 6 Nov 1994 08:49:47 GMT":     unreadable,
		"Sun, 31 Nov 1994 08:49:47 GMT":    unreadable,
		"Sun, 06 Nov 1994 24:00:00 GMT":    unreadable,
		"Sun, 06 Nov 1994 08:60:00 GMT":    unreadable,
		"Sun, 06 Nov 1994 08:49:60 GMT":    unreadable,
		"Sun, 06 Nov 0000 08:49:00 GMT":    unreadable,
		"Sunday, 06 Nov 94 08:49:47 GMT":   unreadable,
		"Sunday, 06-Nov-1994 08:49:47 GMT": unreadable,
		"Sun Nov 6 08:49:47 1994":          unreadable,
		"Sun Nov x6 08:49:47 1994":         unreadable,
		"Sun Nov  6 08:49:47 1994 GMT":     unreadable,
		"Sun, 06 Nov 1994 08:49:47 GMT\n":  unreadable,
		"Sun, 0x Nov 1994 08:49:47 GMT":    unreadable,
	} {
		for _, date := range []string{"", sampleDate, "  " + sampleDate + "\t", "no date"} {
			ms, ok := ParseRetryAfter([]string{text}, date, sampleDateMs)
			if !ok {
				ms = unreadable
			}
			if ms != want {
				t.Errorf("%.40q against %q: expected %d, got %d", text, date, want, ms)
			}
		}
	}
}

func TestATwoDigitYearIsAtMostFiftyYearsAhead(t *testing.T) {
	for year, ahead := range map[string]bool{
		"26": true, "70": true, "76": true, "77": false, "99": false,
	} {
		ms, ok := ParseRetryAfter(
			[]string{"Friday, 06-Nov-" + year + " 08:49:37 GMT"},
			"",
			1_767_225_600_000,
		)
		if !ok || (ms > 0) != ahead {
			t.Error(year, ms, ok)
		}
	}
}

func TestADateIsMeasuredAgainstTheServersClock(t *testing.T) {
	later := []string{"Sun, 06 Nov 1994 08:50:37 GMT"}
	for _, c := range []struct {
		date   string
		now    int64
		wantMs int64
	}{
		{sampleDate, sampleDateMs + 1_000_000_000, 60_000}, {"", sampleDateMs + 1, 59_999},
		{"no date", sampleDateMs, 60_000},
	} {
		if ms, ok := ParseRetryAfter(later, c.date, c.now); ms != c.wantMs || !ok {
			t.Errorf("%+v: %d", c, ms)
		}
	}
}

func TestOfSeveralTheLargestCounts(t *testing.T) {
	for _, c := range []struct {
		values []string
		ms     int64
		ok     bool
	}{
		{[]string{"1", "30", "x", "2"}, 30_000, true}, {[]string{"x", ""}, 0, false},
		{nil, 0, false},
	} {
		if ms, ok := ParseRetryAfter(c.values, "", 0); ms != c.ms || ok != c.ok {
			t.Errorf("%q: %d %t", c.values, ms, ok)
		}
	}
}

func TestAllThreeFormsOfADateAgree(t *testing.T) {
	source := rand.New(rand.NewPCG(7, 9))
	for range 20_000 {
		moment := time.Unix(source.Int64N(32_000_000_000), 0).UTC()
		for _, form := range []string{
			"Mon, 02 Jan 2006 15:04:05 GMT", "Monday, 02-Jan-06 15:04:05 GMT", "Mon Jan _2 15:04:05 2006",
		} {
			text := moment.Format(form)
			if ms, ok := ParseRetryAfter([]string{text}, "", moment.UnixMilli()-5000); ms != 5000 ||
				!ok {
				t.Fatalf("%s: %d %t", text, ms, ok)
			}
		}
	}
}

func FuzzRetryAfter(f *testing.F) {
	for _, seed := range []string{
		"7", "0.0001", sampleDate, "Sun Nov  6 08:49:47 1994", "9e9", "-1",
	} {
		f.Add(seed, sampleDate, int64(sampleDateMs))
	}
	f.Fuzz(func(t *testing.T, value, date string, at int64) {
		at = max(0, min(at, 1<<50))
		ms, ok := ParseRetryAfter([]string{value}, date, at)
		if ms < 0 || ms > maxSafeInteger || !ok && ms != 0 {
			t.Fatal(fmt.Sprint(value, date, at, ms, ok))
		}
	})
}
