package fractal

// Every published vector goes through every public entry that can reach it. The files say what
// to do (`op`), with what (`args`), and what must come out (`expect`); the entries stand in
// vectors_signing_test.go and vectors_exchange_test.go, and beside what they reach.

import (
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"unicode/utf16"
	"unicode/utf8"
)

type (
	vectorArgs  map[string]any
	answer      map[string]any
	vectorEntry struct {
		name string
		run  func(args vectorArgs) (answer, error)
	}
	vectorCase struct {
		ID     string
		Flags  []string
		Args   vectorArgs
		Result string
		Expect answer
	}
	vectorSuite struct {
		Op    string
		Flags map[string]struct{ Axis string }
		Cases []vectorCase
	}
)

// vectorEntries is filled by the files that know an operation.
var vectorEntries = map[string][]vectorEntry{}

func reaches(op, name string, run func(args vectorArgs) (answer, error)) {
	vectorEntries[op] = append(vectorEntries[op], vectorEntry{name, run})
}

// playedElsewhere are operations of servers, those that need a scripted server (the conformance
// harness drives them through the testee), and those that outbox_format_test.go and the package
// ring play.
func playedElsewhere(op string) bool {
	switch op, _, _ := strings.Cut(op, "."); op {
	case "client", "outbox", "checksum", "log", "ring":
		return true
	}
	return op == "http.submit" || op == "http.batch"
}

// policies are what this SDK chose where the specification leaves a choice.
var policies = map[string]string{
	"verify.off_grid":         "accept",
	"hmac.short_key":          "reject",
	"ed25519.small_order_key": "reject",
	"ed25519.equation":        "cofactorless",
}

func readVectors(t testing.TB) map[string]vectorSuite {
	t.Helper()
	paths, err := filepath.Glob("../golden/vectors/*/*.json")
	if err != nil || len(paths) == 0 {
		t.Fatalf("no vectors: %v", err)
	}
	suites := map[string]vectorSuite{}
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		var suite vectorSuite
		if err := json.Unmarshal(text, &suite); err != nil {
			t.Fatal(err)
		}
		suites[strings.TrimPrefix(filepath.ToSlash(path), "../golden/vectors/")] = suite
	}
	return suites
}

// expected gives what must come out: of an acceptable case, what the declared policy says.
func (s *vectorSuite) expected(c *vectorCase) answer {
	if c.Result != "acceptable" {
		return c.Expect
	}
	for _, flag := range c.Flags {
		if axis := s.Flags[flag].Axis; axis != "" {
			return c.Expect[policies[axis]].(map[string]any)
		}
	}
	return nil
}

func TestEveryVectorGivesWhatItSays(t *testing.T) {
	seen := map[string]int{}
	for path, suite := range readVectors(t) {
		entries := vectorEntries[suite.Op]
		if len(suite.Cases) == 0 || len(entries) == 0 && !playedElsewhere(suite.Op) {
			t.Errorf("%s: no case, or no entry for the operation %s", path, suite.Op)
		}
		for _, entry := range entries {
			t.Run(path+"/"+entry.name, func(t *testing.T) {
				for index := range suite.Cases {
					c := &suite.Cases[index]
					got, err := entry.run(c.Args)
					if err != nil {
						got = answer{"code": codeOf(err)}
					}
					if want := suite.expected(c); !sameAnswer(want, got) {
						t.Errorf("%s: expected %v, got %v (%v)", c.ID, want, got, err)
					}
					seen[suite.Op]++
				}
			})
		}
	}
	t.Log(seen)
}

// sameAnswer compares what JSON would make of both.
func sameAnswer(want, got answer) bool {
	text, err := json.Marshal(got)
	if err != nil {
		return false
	}
	var read answer
	return json.Unmarshal(text, &read) == nil && reflect.DeepEqual(want, read)
}

func codeOf(err error) string {
	var fault *Error
	if errors.As(err, &fault) {
		return fault.Code
	}
	return "not a code: " + err.Error()
}

// --- reading arguments ----------------------------------------------------------------------

func (a vectorArgs) text(name string) string {
	text, _ := a[name].(string)
	return text
}

func (a vectorArgs) bytes(name string) []byte { return fromHex(a.text(name)) }

func (a vectorArgs) number(name string) int64 {
	n, err := strconv.ParseInt(a.text(name), 10, 64)
	if err != nil {
		panic(name + ": " + err.Error())
	}
	return n
}

func (a vectorArgs) double(name string) float64 { return double(a.text(name)) }

func (a vectorArgs) under(name string) vectorArgs { return a[name].(map[string]any) }

func (a vectorArgs) list(name string) []vectorArgs {
	var list []vectorArgs
	for _, item := range a[name].([]any) {
		list = append(list, item.(map[string]any))
	}
	return list
}

func (a vectorArgs) pairs(name string) [][2]string {
	var pairs [][2]string
	for _, item := range a[name].([]any) {
		pair := item.([]any)
		pairs = append(pairs, [2]string{pair[0].(string), pair[1].(string)})
	}
	return pairs
}

func fromHex(text string) []byte {
	raw, err := hex.DecodeString(text)
	if err != nil {
		panic(err)
	}
	return raw
}

func double(bits string) float64 {
	return math.Float64frombits(binary.BigEndian.Uint64(fromHex(bits)))
}

func bits(x float64) string {
	return hex.EncodeToString(binary.BigEndian.AppendUint64(nil, math.Float64bits(x)))
}

// fromUTF16 gives unpaired surrogates the bytes that UTF-8 would give them, which makes the
// string no UTF-8: the nearest that a caller in Go can come to one.
func fromUTF16(units string) string {
	raw := fromHex(units)
	var text []byte
	for len(raw) > 0 {
		unit := rune(binary.BigEndian.Uint16(raw))
		raw = raw[2:]
		if utf16.IsSurrogate(unit) && len(raw) > 0 {
			low := rune(binary.BigEndian.Uint16(raw))
			if pair := utf16.DecodeRune(unit, low); pair != utf8.RuneError {
				text = utf8.AppendRune(text, pair)
				raw = raw[2:]
				continue
			}
		}
		if utf16.IsSurrogate(unit) {
			text = append(text, 0xE0|byte(unit>>12), 0x80|byte(unit>>6)&0x3F, 0x80|byte(unit)&0x3F)
			continue
		}
		text = utf8.AppendRune(text, unit)
	}
	return string(text)
}
