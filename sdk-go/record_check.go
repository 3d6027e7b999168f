package fractal

// This file owns the shape of a record: the hand-written twin of spec/schemas/pcs.json and of the
// rules of spec/formats.md 1 that no JSON Schema can state. A typed record and a document are
// held to the same rules; only their types need two ways to them.

import (
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
)

const (
	// MaxScale is the largest scale (spec/formats.md 1.5).
	MaxScale = 1<<31 - 1

	// MaxScales is how many scales there are at most; two are the least that give a slope.
	MaxScales = 32

	// MaxDimensions is the longest v_star; more doubles do not fit into a record.
	MaxDimensions = 2048

	// MaxFallbacks is how many entries ft.fallbacks has at most, MaxFallbackBytes how long one is.
	MaxFallbacks     = 16
	MaxFallbackBytes = 64

	// MaxNameBytes is the longest kid and tenant_id, in bytes of UTF-8 (spec/formats.md 1.12).
	MaxNameBytes = 64

	// MaxClockSkewMs is the largest magnitude of ft.clock_skew_ms: one day.
	MaxClockSkewMs = 86_400_000

	// normSlack is how far the norm of v_star may be from 1; no vector comes within 1e-8 of it.
	normSlack = 1e-6
)

var regimes = []string{Sticky, Mixed, NonSticky}

// checking keeps the fault that is told: of several the first, but those of another format come
// before all others, and those of the signature after them.
type checking struct {
	fault *Error
	rank  int
}

func (c *checking) add(code, pointer, expected string) {
	rank := 1
	switch pointer {
	case "/schema", "/version":
		rank = 0
	case "/alg", "/sig_v":
		rank = 2
	}
	if c.fault != nil && c.rank <= rank {
		return
	}
	what := strings.TrimLeft(pointer, "/")
	c.fault, c.rank = newError(code, "%s: expected %s", what, expected).at(pointer), rank
}

// --- rules for one value --------------------------------------------------------------------

func (c *checking) hex(text, pointer string) {
	if !isHex(text, 64) {
		c.add("hex_invalid", pointer, "64 characters 0-9 a-f")
	}
}

func (c *checking) size(text string, low, high int, pointer string) {
	if !isText(text) {
		c.add("string_surrogate", pointer, "UTF-8")
	} else if len(text) < low || high < len(text) {
		c.add("string_length", pointer, between(low, high)+" bytes of UTF-8")
	}
}

func (c *checking) items(count, low, high int, pointer string) bool {
	if count < low || high < count {
		c.add("string_length", pointer, between(low, high)+" items")
		return false
	}
	return true
}

func (c *checking) among(n, low, high int64, pointer string) {
	if n < low || high < n {
		c.add("number_out_of_range", pointer, "an integer within its bounds")
	}
}

// natural is among for the unsigned members of a typed record.
func (c *checking) natural(n uint64, low int64, pointer string) {
	c.among(int64(min(n, math.MaxInt64)), low, maxSafeInteger, pointer)
}

func (c *checking) finite(x float64, pointer string) bool {
	if !isFinite(x) {
		c.add("number_not_finite", pointer, "a finite number")
	}
	return isFinite(x)
}

func isFinite(x float64) bool { return math.Abs(x) <= math.MaxFloat64 }

func (c *checking) float(index int, x float64) {
	pointer := "/" + floatNames[index]
	if c.finite(x, pointer) && !(0 <= x && x <= floatsMax[index]) {
		high := strconv.FormatFloat(floatsMax[index], 'g', -1, 64)
		c.add("number_out_of_range", pointer, "a number from 0 to "+high)
	}
}

func (c *checking) oneOf(text string, choices []string, code, pointer string) {
	if !slices.Contains(choices, text) {
		c.add(code, pointer, "one of "+strings.Join(choices, ", "))
	}
}

func (c *checking) time(text string) {
	if !isTime(text) {
		c.add("member_type", "/sent_at", "a UTC time like 2026-01-15T12:00:00Z")
	}
}

func between(low, high int) string { return strconv.Itoa(low) + " to " + strconv.Itoa(high) }

// below extends a JSON pointer (RFC 6901).
func below(pointer, name string) string {
	if strings.ContainsAny(name, "~/") {
		name = strings.NewReplacer("~", "~0", "/", "~1").Replace(name)
	}
	return pointer + "/" + name
}

func belowIndex(pointer string, index int) string {
	return pointer + "/" + strconv.Itoa(index)
}

// isTime says whether a text is a real calendar time of sent_at (spec/formats.md 1.9).
func isTime(text string) bool {
	const form = "0000-00-00T00:00:00"
	if len(text) <= len(form) || text[len(text)-1] != 'Z' {
		return false
	}
	for index := range len(form) {
		if form[index] != '0' && form[index] != text[index] {
			return false
		}
	}
	if fraction := text[len(form) : len(text)-1]; fraction != "" {
		digits := len(fraction) - len(".")
		if fraction[0] != '.' || digits < 1 || digits > 9 || !isDigits(fraction[1:]) {
			return false
		}
	}
	numbers := [...]string{text[:4], text[5:7], text[8:10], text[11:13], text[14:16], text[17:19]}
	var parts [len(numbers)]int
	for index, number := range numbers {
		if !isDigits(number) {
			return false
		}
		parts[index], _ = strconv.Atoi(number)
	}
	return isMoment(parts[0], parts[1], parts[2], parts[3], parts[4], parts[5])
}

func isDigits(text string) bool {
	for index := range len(text) {
		if text[index] < '0' || '9' < text[index] {
			return false
		}
	}
	return true
}

// isMoment says whether a day of the proleptic Gregorian calendar from year 1 exists, and its
// time ends at 23:59:59.
func isMoment(year, month, day, hour, minute, second int) bool {
	if year < 1 || month < 1 || month > 12 || hour > 23 || minute > 59 || second > 59 {
		return false
	}
	days := [...]int{31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31}[month-1]
	if month == 2 && year%4 == 0 && (year%100 != 0 || year%400 == 0) {
		days = 29
	}
	return 1 <= day && day <= days
}

// --- the typed record -----------------------------------------------------------------------

// check holds a typed record to the format. PcsID may be "", to be derived.
func (r *Record) check() *Error {
	var c checking
	c.hex(r.MerkleRoot, "/merkle_root")
	if r.Epoch > maxSafeInteger {
		c.add("epoch_invalid", "/epoch", "an integer from 0 to 2^53 - 1")
	}
	c.size(r.ShardID, 1, MaxShardIDBytes, "/shard_id")
	c.time(r.SentAt)
	if c.items(len(r.Scales), 2, MaxScales, "/scales") {
		for index, scale := range r.Scales {
			if scale < 1 || MaxScale < scale {
				c.among(scale, 1, MaxScale, belowIndex("/scales", index))
			}
		}
	}
	for _, count := range r.NJ {
		if count < 1 || maxSafeInteger < count {
			r.checkCounts(&c)
			break
		}
	}
	c.float(cohStar, r.CohStar)
	if c.items(len(r.VStar), 1, MaxDimensions, "/v_star") {
		for index, x := range r.VStar {
			if !isFinite(x) {
				c.finite(x, belowIndex("/v_star", index))
			}
		}
	}
	c.float(dHat, r.DHat)
	c.float(ratio, r.R)
	c.oneOf(r.Regime, regimes, "member_type", "/regime")
	c.float(budget, r.Budget)
	c.natural(r.Seed, 0, "/seed")
	c.natural(r.Attempt, 1, "/attempt")
	r.Ft.check(&c)
	r.checkNames(&c)
	if c.fault == nil {
		r.residual(&c, nil)
	}
	return c.fault
}

// checkCounts names the first of the wrong counts, in the order of their names.
func (r *Record) checkCounts(c *checking) {
	for _, name := range slices.Sorted(maps.Keys(r.NJ)) {
		c.among(r.NJ[name], 1, maxSafeInteger, below("/N_j", name))
	}
}

func (f *Ft) check(c *checking) {
	c.natural(f.OutboxSeq, 0, "/ft/outbox_seq")
	if c.items(len(f.Fallbacks), 0, MaxFallbacks, "/ft/fallbacks") {
		for index, fallback := range f.Fallbacks {
			c.size(fallback, 1, MaxFallbackBytes, belowIndex("/ft/fallbacks", index))
		}
	}
	c.among(f.ClockSkewMs, -MaxClockSkewMs, MaxClockSkewMs, "/ft/clock_skew_ms")
}

// checkNames checks what says which format and which signature a record has.
func (r *Record) checkNames(c *checking) {
	c.oneOf(r.Schema, []string{Schema}, "schema_unsupported", "/schema")
	c.oneOf(r.Version, []string{Version}, "schema_unsupported", "/version")
	if r.PcsID != "" {
		c.hex(r.PcsID, "/pcs_id")
	}
	if !isText(r.Sig) {
		c.add("string_surrogate", "/sig", "UTF-8")
	}
	if r.SigV != 0 && r.SigV != 2 {
		c.add("sig_version_unsupported", "/sig_v", "2, or no such member")
	}
	if r.Alg != "" {
		c.oneOf(r.Alg, algorithms, "alg_mismatch", "/alg")
	}
	if r.Kid != "" {
		c.size(r.Kid, 1, MaxNameBytes, "/kid")
	}
	if r.TenantID != "" {
		c.size(r.TenantID, 1, MaxNameBytes, "/tenant_id")
	}
	c.versionMembers(r.SigV != 0, func(name string) bool {
		switch name {
		case "alg":
			return r.Alg != ""
		case "kid":
			return r.Kid != ""
		}
		return r.TenantID != ""
	})
}

// versionMembers asks for the members that version 2 always carries, and refuses the one that
// it alone has (spec/formats.md 1.1).
func (c *checking) versionMembers(versioned bool, has func(name string) bool) {
	if !versioned {
		if has("tenant_id") {
			c.add("member_unknown", "/tenant_id", "no such member without sig_v")
		}
		return
	}
	for _, name := range version2Members {
		if !has(name) {
			c.add("member_missing", "/"+name, "this member with sig_v")
		}
	}
}

// residual asks what relates members, or items of one, to each other. `counted` are the names of
// N_j in the order in which they are looked at, nil for no order of their own.
func (r *Record) residual(c *checking, counted []string) {
	for index := 1; index < len(r.Scales); index++ {
		if r.Scales[index] <= r.Scales[index-1] {
			c.add("number_out_of_range", belowIndex("/scales", index), "strictly increasing scales")
		}
	}
	found := 0
	var room [20]byte
	for _, scale := range r.Scales {
		if _, ok := r.NJ[string(strconv.AppendInt(room[:0], scale, 10))]; ok {
			found++
		}
	}
	if found != len(r.Scales) || found != len(r.NJ) {
		r.compareCounts(c, counted)
	}
	var squares float64
	for _, x := range r.VStar {
		squares += x * x
	}
	if norm := math.Sqrt(squares); !(math.Abs(norm-1) <= normSlack) {
		c.add("number_out_of_range", "/v_star", "a vector of norm 1")
	}
}

// compareCounts names what N_j lacks, and what it has beside the scales.
func (r *Record) compareCounts(c *checking, counted []string) {
	scales := make([]string, len(r.Scales))
	for index, scale := range r.Scales {
		scales[index] = strconv.FormatInt(scale, 10)
	}
	if counted == nil {
		counted = slices.Sorted(maps.Keys(r.NJ))
	}
	for _, name := range slices.Sorted(slices.Values(scales)) {
		if _, ok := r.NJ[name]; !ok {
			c.add("member_missing", below("/N_j", name), "this member, a scale")
		}
	}
	for _, name := range counted {
		if !slices.Contains(scales, name) {
			c.add("member_unknown", below("/N_j", name), "only scales as names")
		}
	}
}
