package fractal

import (
	"fmt"
	"math"
	"math/rand/v2"
	"reflect"
	"strconv"
	"strings"
	"testing"
)

// fullMembers are a whole record as JSON text, member by member, in an order of their own.
var fullMembers = [][2]string{
	{"schema", `"fractal-lba-kakeya"`}, {"version", `"0.1"`},
	{"pcs_id", `"747ed8d569ff038929e8d9a740df0d2180afeaaddd80ac64c9b256aa10761e08"`},
	{"merkle_root", `"` + strings.Repeat("c3", 32) + `"`}, {"epoch", "7"},
	{"shard_id", `"shard-001"`}, {"attempt", "1"}, {"sent_at", `"2026-01-15T12:00:00Z"`},
	{"seed", "0"}, {"scales", "[2,4,8,16]"}, {"N_j", `{"2":4,"4":16,"8":64,"16":256}`},
	{"v_star", "[0.6,0.8]"}, {"D_hat", "2"}, {"coh_star", "0.5"}, {"r", "0.5"},
	{"regime", `"mixed"`}, {"budget", "0.35"},
	{"ft", `{"outbox_seq":0,"degraded":false,"fallbacks":[],"clock_skew_ms":0}`},
}

// fullJSON is a whole record with members replaced, added, or removed (a token of "").
func fullJSON(changes ...string) string {
	changed := map[string]string{}
	for at := 0; at < len(changes); at += 2 {
		changed[changes[at]] = changes[at+1]
	}
	var parts []string
	for _, m := range fullMembers {
		token, replaced := changed[m[0]]
		if !replaced {
			token = m[1]
		}
		if token != "" {
			parts = append(parts, strconv.Quote(m[0])+":"+token)
		}
		delete(changed, m[0])
	}
	for at := 0; at < len(changes); at += 2 {
		if token := changed[changes[at]]; token != "" {
			parts = append(parts, strconv.Quote(changes[at])+":"+token)
		}
		delete(changed, changes[at])
	}
	return "{" + strings.Join(parts, ",") + "}"
}

func ftWith(name, token string) string {
	members := map[string]string{
		"outbox_seq": "0", "degraded": "false", "fallbacks": "[]", "clock_skew_ms": "0", name: token,
	}
	var parts []string
	for name, token := range members {
		if token != "" {
			parts = append(parts, strconv.Quote(name)+":"+token)
		}
	}
	return "{" + strings.Join(parts, ",") + "}"
}

func TestAFaultHasACodeAndAPointer(t *testing.T) {
	// tidy: long because it is one table
	long := func(text string, count int) string { return `"` + strings.Repeat(text, count) + `"` }
	list := func(item string, count int) string {
		return "[" + strings.TrimSuffix(strings.Repeat(item+",", count), ",") + "]"
	}
	version2 := func(more ...string) []string {
		return append(
			[]string{"sig_v", "2", "alg", `"HMAC"`, "kid", `"k"`, "tenant_id", `"t"`},
			more...)
	}
	for _, c := range []struct {
		place   string // "" is no fault
		changes []string
	}{
		{"", nil},
		{"", version2()},
		{"member_unknown /x~1y~0z", []string{"x/y~z", "1"}},
		{"member_unknown /tenant_id", []string{"tenant_id", `"t"`}},
		{"member_missing /tenant_id", version2("tenant_id", "")},
		{"member_missing /alg", version2("alg", "")},
		{"member_missing /kid", version2("alg", "", "kid", "")}, // of the signature, last
		{"member_missing /regime", []string{"regime", "", "ft", ""}},
		{"sig_version_unsupported /sig_v", version2("sig_v", "1")},
		{"sig_version_unsupported /sig_v", version2("sig_v", `"2"`)},
		{"sig_version_unsupported /sig_v", version2("sig_v", "2.0")},
		{"alg_mismatch /alg", []string{"alg", `"none"`}},
		{"member_type /alg", []string{"alg", "1"}},
		{"string_length /kid", []string{"kid", `""`}},
		{"", []string{"kid", long("k", 64)}},
		{"string_length /kid", []string{"kid", long("k", 65)}},
		{"string_length /kid", []string{"kid", long("\u00e9", 33)}},
		{"member_type /sig", []string{"sig", "1"}},
		{"epoch_invalid /epoch", []string{"epoch", "1.0"}},
		{"epoch_invalid /epoch", []string{"epoch", "-1"}},
		{"epoch_invalid /epoch", []string{"epoch", "9007199254740992"}},
		{"", []string{"epoch", "9007199254740991"}},
		{"member_type /epoch", []string{"epoch", "true"}},
		{"member_type /attempt", []string{"attempt", "1.0"}},
		{"member_type /attempt", []string{"attempt", "-0"}},
		{"number_out_of_range /attempt", []string{"attempt", "0"}},
		{"", []string{"attempt", "9007199254740991"}},
		{"number_out_of_range /attempt", []string{"attempt", "9007199254740992"}},
		{"number_out_of_range /seed", []string{"seed", "-1"}},
		{"number_out_of_range /seed", []string{"seed", strings.Repeat("9", 5000)}},
		{"number_out_of_range /r", []string{"r", "1e400"}},
		{"number_out_of_range /r", []string{"r", "1.0000000000000002"}},
		{"", []string{"r", "-0"}},
		{"number_out_of_range /D_hat", []string{"D_hat", "-5e-324"}},
		{"", []string{"coh_star", "1.05"}},
		{"number_out_of_range /coh_star", []string{"coh_star", "1.0500000000000003"}},
		{"member_type /r", []string{"r", `"0.5"`}},
		{"schema_unsupported /schema", []string{"schema", `"pcs"`}},
		{"schema_unsupported /version", []string{"version", `"0.2"`, "r", "9"}},
		{"number_out_of_range /r", []string{"alg", `"none"`, "r", "9"}},
		{"member_type /version", []string{"version", "0.1"}},
		{"member_type /regime", []string{"regime", `"sticky "`}},
		{"member_type /regime", []string{"regime", "1"}},
		{"member_type /sent_at", []string{"sent_at", "1"}},
		{"member_type /sent_at", []string{"sent_at", `"2023-02-29T00:00:00Z"`}},
		{"", []string{"sent_at", `"2024-02-29T23:59:59.123456789Z"`}},
		{"member_type /shard_id", []string{"shard_id", "1"}},
		{"string_length /shard_id", []string{"shard_id", long("\u00e9", 129)}},
		{"", []string{"shard_id", long("s", 256)}},
		{"number_out_of_range /scales/2", []string{"scales", "[2,4,4,8]"}},
		{"number_out_of_range /scales/0", []string{"scales", "[0,4]"}},
		{"number_out_of_range /scales/1", []string{"scales", "[1,2147483648]"}},
		{"", []string{"scales", "[1,2147483647]", "N_j", `{"1":1,"2147483647":1}`}},
		{"member_type /scales/2", []string{"scales", `[2,4,"8"]`}},
		{"member_type /scales", []string{"scales", `"2,4"`}},
		{"string_length /scales", []string{"scales", "[2]"}},
		{"string_length /scales", []string{"scales", list("1", 33)}},
		{"member_missing /N_j/16", []string{"N_j", `{"2":4,"4":16,"8":64}`}},
		{"member_unknown /N_j/a~1b", []string{"N_j", `{"2":4,"4":16,"8":64,"16":256,"a/b":1}`}},
		{"member_unknown /N_j/z", []string{"N_j", `{"z":1,"2":4,"4":16,"a":1,"8":64,"16":256}`}},
		{"member_missing /N_j/16", []string{"N_j", `{"2":4,"4":16,"8":64,"016":256}`}},
		{"number_out_of_range /N_j/16", []string{"N_j", `{"2":4,"4":16,"8":64,"16":0}`}},
		{"", []string{"N_j", `{"2":9007199254740991,"4":16,"8":64,"16":1}`}},
		{"member_type /N_j", []string{"N_j", "[4]"}},
		{"member_type /v_star/1", []string{"v_star", `[0.6,"0.8"]`}},
		{"member_type /v_star/1", []string{"v_star", "[0.6,true]"}},
		{"number_out_of_range /v_star/1", []string{"v_star", "[0.6,1e400]"}},
		{"number_out_of_range /v_star", []string{"v_star", "[0.6,0.7]"}},
		{"", []string{"v_star", "[0.6,-0.8]"}},
		{"", []string{"v_star", "[0,1]"}},
		{"", []string{"v_star", "[1.00000099]"}},
		{"number_out_of_range /v_star", []string{"v_star", "[0.99999899]"}},
		{"number_out_of_range /v_star", []string{"v_star", "[1e300,1e300]"}},
		{"number_out_of_range /v_star", []string{"v_star", "[1e-300]"}},
		{"string_length /v_star", []string{"v_star", "[]"}},
		{"", []string{"v_star", "[1," + list("0", 2047)[1:]}},
		{"string_length /v_star", []string{"v_star", "[1," + list("0", 2048)[1:]}},
		{"member_type /v_star", []string{"v_star", "1"}},
		{"member_type /ft", []string{"ft", "[]"}},
		{"member_missing /ft/outbox_seq", []string{"ft", "{}"}},
		{"number_out_of_range /ft/outbox_seq", []string{"ft", ftWith("outbox_seq", "-1")}},
		{"member_type /ft/degraded", []string{"ft", ftWith("degraded", "0")}},
		{"", []string{"ft", ftWith("degraded", "true")}},
		{"member_type /ft/fallbacks/0", []string{"ft", ftWith("fallbacks", "[1]")}},
		{"string_length /ft/fallbacks/1", []string{"ft", ftWith("fallbacks", `["a",""]`)}},
		{"", []string{"ft", ftWith("fallbacks", list(long("f", 64), 16))}},
		{"string_length /ft/fallbacks", []string{"ft", ftWith("fallbacks", list(`"f"`, 17))}},
		{"member_type /ft/fallbacks", []string{"ft", ftWith("fallbacks", "{}")}},
		{"", []string{"ft", ftWith("clock_skew_ms", "-86400000")}},
		{"number_out_of_range /ft/clock_skew_ms", []string{"ft", ftWith("clock_skew_ms", "86400001")}},
		{"member_unknown /ft/x", []string{"ft", ftWith("x", "1")}},
		{"hex_invalid /pcs_id", []string{"pcs_id", long("A", 64)}},
		{"hex_invalid /merkle_root", []string{"merkle_root", long("a", 65)}},
		{"member_type /merkle_root", []string{"merkle_root", "1"}},
	} {
		_, err := ParseRecord([]byte(fullJSON(c.changes...)))
		if got := errorPlace(err); got != c.place {
			t.Errorf("%.120q: expected %q, got %q", c.changes, c.place, got)
		}
	}
}

func TestATimeOfARecordIsARealOne(t *testing.T) {
	for text, real := range map[string]bool{
		"2026-01-15T12:00:00Z": true, "0001-01-01T00:00:00Z": true, "9999-12-31T23:59:59.1Z": true,
		"2000-02-29T00:00:00Z": true, "1900-02-29T00:00:00Z": false, "0000-01-01T00:00:00Z": false,
		"2026-00-15T12:00:00Z": false, "2026-13-15T12:00:00Z": false, "2026-04-31T12:00:00Z": false,
		"2026-01-00T12:00:00Z": false, "2026-01-15T24:00:00Z": false, "2026-01-15T12:60:00Z": false,
		"2026-01-15T12:00:60Z": false, "2026-01-15T12:00:00": false, "2026-01-15T12:00:00.Z": false,
		"2026-01-15T12:00:00.1234567890Z": false, "2026-01-15T12:00:00.12x4Z": false,
		"2026-01-15 12:00:00Z": false, "2026-01-15T12:00:00z": false, "2026-1-15T12:00:00Z": false,
		"+026-01-15T12:00:00Z": false, "2026-01-15T12:00:00+0Z": false, "Z": false, "": false,
		"2026-01-15T12:00:00Z\n": false, "\u0662026-01-15T12:00:0Z": false,
	} {
		if isTime(text) != real {
			t.Errorf("%q: expected %t", text, real)
		}
	}
}

// typedRecord is the record of fullMembers as a value.
func typedRecord() Record {
	return Record{
		MerkleRoot: strings.Repeat("c3", 32), Epoch: 7, ShardID: "shard-001",
		SentAt: "2026-01-15T12:00:00Z", Scales: []int64{2, 4, 8, 16},
		NJ: map[string]int64{"2": 4, "4": 16, "8": 64, "16": 256}, CohStar: 0.5,
		VStar: []float64{0.6, 0.8}, DHat: 2, R: 0.5, Regime: Mixed, Budget: 0.35,
	}
}

func TestATypedFaultHasACodeAndAPointer(t *testing.T) {
	nan := math.NaN()
	for _, c := range []struct {
		place  string
		change func(r *Record)
	}{
		{"", func(r *Record) {}},
		{"number_not_finite /r", func(r *Record) { r.R = nan }},
		{"number_not_finite /D_hat", func(r *Record) { r.DHat = math.Inf(1) }},
		{"number_not_finite /budget", func(r *Record) { r.Budget = math.Inf(-1) }},
		{"number_out_of_range /coh_star", func(r *Record) { r.CohStar = math.Nextafter(1.05, 2) }},
		{"number_out_of_range /r", func(r *Record) { r.R = -5e-324 }},
		{"", func(r *Record) { r.R = math.Copysign(0, -1) }},
		{"", func(r *Record) { r.DHat, r.R, r.CohStar, r.Budget, r.Epoch, r.Seed = 0, 0, 0, 0, 0, 0 }},
		{"epoch_invalid /epoch", func(r *Record) { r.Epoch = 1 << 53 }},
		{"", func(r *Record) { r.Epoch = 1<<53 - 1 }},
		{"number_out_of_range /seed", func(r *Record) { r.Seed = 1 << 53 }},
		{"number_out_of_range /attempt", func(r *Record) { r.Attempt = math.MaxUint64 }},
		{"member_type /sent_at", func(r *Record) { r.SentAt = "" }},
		{"string_length /shard_id", func(r *Record) { r.ShardID = "" }},
		{"string_length /shard_id", func(r *Record) { r.ShardID = strings.Repeat("s", 257) }},
		{"string_surrogate /shard_id", func(r *Record) { r.ShardID = "\xed\xa0\x80" }},
		{"hex_invalid /merkle_root", func(r *Record) { r.MerkleRoot = "" }},
		{"hex_invalid /pcs_id", func(r *Record) { r.PcsID = strings.Repeat("A", 64) }},
		{"", func(r *Record) { r.PcsID = strings.Repeat("a", 64) }},
		{"string_length /scales", func(r *Record) { r.Scales = nil }},
		{"number_out_of_range /scales/1", func(r *Record) { r.Scales = []int64{2, 1 << 31} }},
		{"number_out_of_range /scales/1", func(r *Record) { r.Scales = []int64{4, 2, 8, 16} }},
		{"member_missing /N_j/16", func(r *Record) { r.NJ = nil }},
		{"number_out_of_range /N_j/2", func(r *Record) { r.NJ["2"], r.NJ["4"] = 0, 0 }},
		{"member_unknown /N_j/32", func(r *Record) { r.NJ["32"], r.NJ["64"] = 1, 1 }},
		{"string_length /v_star", func(r *Record) { r.VStar = []float64{} }},
		{"number_not_finite /v_star/1", func(r *Record) { r.VStar = []float64{1, nan} }},
		{"number_out_of_range /v_star", func(r *Record) { r.VStar = []float64{0.6, 0.7} }},
		{"member_type /regime", func(r *Record) { r.Regime = "" }},
		{"schema_unsupported /schema", func(r *Record) { r.Schema, r.R = "other", nan }},
		{"schema_unsupported /version", func(r *Record) { r.Version = "0.2" }},
		{"number_out_of_range /ft/outbox_seq", func(r *Record) { r.Ft.OutboxSeq = 1 << 53 }},
		{"number_out_of_range /ft/clock_skew_ms", func(r *Record) { r.Ft.ClockSkewMs = -86_400_001 }},
		{"string_length /ft/fallbacks", func(r *Record) { r.Ft.Fallbacks = make([]string, 17) }},
		{"string_length /ft/fallbacks/0", func(r *Record) { r.Ft.Fallbacks = []string{""} }},
		{"string_surrogate /ft/fallbacks/0", func(r *Record) { r.Ft.Fallbacks = []string{"\xff"} }},
		{"string_surrogate /sig", func(r *Record) { r.Sig = "\xff" }},
		{"sig_version_unsupported /sig_v", func(r *Record) { r.SigV, r.Alg, r.Kid, r.TenantID = 3, HMAC, "k", "t" }},
		{"member_missing /alg", func(r *Record) { r.SigV, r.Kid, r.TenantID = 2, "k", "t" }},
		{"member_missing /kid", func(r *Record) { r.SigV, r.Alg, r.TenantID = 2, HMAC, "t" }},
		{"member_unknown /tenant_id", func(r *Record) { r.TenantID = "t" }},
		{"alg_mismatch /alg", func(r *Record) { r.Alg = "none" }},
		{"string_length /kid", func(r *Record) { r.Kid = strings.Repeat("k", 65) }},
		{"string_length /tenant_id", func(r *Record) { r.SigV, r.Alg, r.Kid, r.TenantID = 2, HMAC, "k", strings.Repeat("t", 65) }},
	} {
		record := typedRecord()
		c.change(&record)
		for _, err := range []error{errorIn(record.JSON()), errorIn(Canonicalize(record, 1))} {
			if got := errorPlace(err); got != c.place {
				t.Errorf("expected %q, got %q", c.place, got)
			}
		}
	}
}

func errorIn[T any](_ T, err error) error { return err }

func TestARecordSurvivesEveryWayRound(t *testing.T) {
	record, err := ParseRecord([]byte(fullJSON("kid", `"k"`, "alg", `"HMAC"`, "sig", `"s"`)))
	if err != nil {
		t.Fatal(err)
	}
	text, err := record.JSON()
	if err != nil {
		t.Fatal(err)
	}
	again, err := ParseRecord(text)
	if err != nil || !reflect.DeepEqual(again, record) {
		t.Errorf("%+v, then %+v (%v)", record, again, err)
	}
	plain, err := ParseRecord([]byte(fullJSON()))
	if err != nil {
		t.Fatal(err)
	}
	typed := typedRecord()
	if fault := typed.complete(); fault != nil || !reflect.DeepEqual(typed, plain) {
		t.Errorf("%+v, not %+v (%v)", typed, plain, fault)
	}
}

func TestTheRecordOfTheCallerStaysAsItIs(t *testing.T) {
	record := typedRecord()
	record.R = 0.12345678951
	before := fmt.Sprintf("%#v", record)
	made, err := Sign(record, testSigner(t, "k"), "t")
	if err != nil {
		t.Fatal(err)
	}
	if fmt.Sprintf("%#v", record) != before {
		t.Error("the record was changed")
	}
	if !strings.Contains(string(made.Body), `"r":0.12345679,`) {
		t.Errorf("sent is not what was signed: %s", made.Body)
	}
}

// drawnRecord is a valid record of any shape.
func drawnRecord(source *rand.Rand) Record {
	record := typedRecord()
	record.Epoch, record.Seed = source.Uint64N(1<<53), source.Uint64N(1<<53)
	record.Attempt = 1 + source.Uint64N(1<<53-1)
	record.DHat, record.R = source.Float64()*3.5, source.Float64()
	record.Budget, record.CohStar = source.Float64(), source.Float64()*1.05
	record.ShardID = string(
		[]rune{rune(1 + source.IntN(0xD7FF)), '"', rune(0x10000 + source.IntN(9))},
	)
	record.Scales, record.NJ = nil, map[string]int64{}
	for scale := int64(1); len(record.Scales) < 2+source.IntN(31); scale += 1 + source.Int64N(9) {
		record.Scales = append(record.Scales, scale)
		record.NJ[strconv.FormatInt(scale, 10)] = 1 + source.Int64N(1<<53-1)
	}
	angle := source.Float64() * 7
	record.VStar = []float64{math.Cos(angle), math.Sin(angle)}
	record.Ft = Ft{
		OutboxSeq: source.Uint64N(1 << 53), Degraded: source.IntN(2) == 0,
		Fallbacks: []string{"a\n", "\u2028"}[:source.IntN(3)], ClockSkewMs: source.Int64N(99) - 50,
	}
	return record
}

// A typed record has two ways to its bytes: directly, and by way of its text and a document.
func TestBothWaysOfARecordGiveTheSameBytes(t *testing.T) {
	source := rand.New(rand.NewPCG(5, 9))
	signer := testSigner(t, "k")
	for range 2000 {
		record := drawnRecord(source)
		text, err := record.JSON()
		if err != nil {
			t.Fatal(err)
		}
		document := mustParse(t, string(text))
		if written, err := JCS(document); err != nil || string(written) != string(text) {
			t.Fatalf("%s, not %s (%v)", written, text, err)
		}
		for _, sign := range []func(RecordSource) (*SignedRecord, error){
			func(r RecordSource) (*SignedRecord, error) { return Sign(r, signer, "t") },
			func(r RecordSource) (*SignedRecord, error) { return SignV1(r, signer) },
		} {
			typed, err := sign(record)
			if err != nil {
				t.Fatal(err)
			}
			raw, err := sign(document)
			if err != nil || !reflect.DeepEqual(typed, raw) {
				t.Fatalf("%+v, not %+v (%v)", raw, typed, err)
			}
			if _, err := ParseRecord(typed.Body); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func TestOnlyTheDerivedIDIsSubmitted(t *testing.T) {
	record := typedRecord()
	if err := record.submittable(); err != nil {
		t.Error(err)
	}
	record.PcsID = strings.Repeat("a", 64)
	if err := record.submittable(); err == nil || errorPlace(err) != "pcs_id_mismatch /pcs_id" {
		t.Error(err)
	}
	record.R = 2
	if err := record.submittable(); err == nil || err.Code != "number_out_of_range" {
		t.Error(err)
	}
	for text, place := range map[string]string{
		fullJSON(): "",
		fullJSON("pcs_id", `"`+strings.Repeat("a", 64)+`"`): "pcs_id_mismatch /pcs_id",
		fullJSON("x", "1"): "member_unknown /x",
	} {
		fault := mustParse(t, text).submittable()
		if fault == nil && place == "" {
			continue
		}
		if fault == nil || errorPlace(fault) != place {
			t.Errorf("%s: %v", place, fault)
		}
	}
}
