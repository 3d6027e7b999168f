package fractal

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode/utf16"
)

const rfc8785 = "../golden/third_party/rfc8785/"

func TestTheDocumentsOfRFC8785(t *testing.T) {
	for _, name := range []string{"arrays", "french", "structures", "unicode", "values", "weird"} {
		input, err := os.ReadFile(rfc8785 + "input/" + name + ".json")
		if err != nil {
			t.Fatal(err)
		}
		want, err := os.ReadFile(rfc8785 + "output/" + name + ".json")
		if err != nil {
			t.Fatal(err)
		}
		document, err := ParseValue(input, len(input))
		if err != nil {
			t.Fatal(err)
		}
		if got, err := JCS(document); err != nil || !bytes.Equal(got, bytes.TrimRight(want, "\n")) {
			t.Errorf("%s: %s (%v)", name, got, err)
		}
	}
}

// corpus are the published hashes of the number corpus after so many lines.
var corpus = map[int]string{
	1_000:     "be18b62b6f69cdab33a7e0dae0d9cfa869fda80ddc712221570f9f40a5878687",
	10_000:    "b9f7a8e75ef22a835685a52ccba7f7d6bdc99e34b010992cbc5864cd12be6892",
	100_000:   "22776e6d4b49fa294a0d0f349268e5c28808fe7e0cb2bcbe28f63894e494d4c7",
	1_000_000: "49415fee2c56c77864931bd3624faad425c3c577d6d74e89a83bc725506dad16",
}

// corpusBits gives the doubles of the number corpus, one after the other.
func corpusBits(t *testing.T, use func(bits uint64) (more bool)) {
	static, err := os.ReadFile(rfc8785 + "es6-static-bits.txt")
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range strings.Fields(string(static)) {
		bits, err := strconv.ParseUint(text, 16, 64)
		if err != nil {
			t.Fatal(err)
		}
		use(bits)
	}
	for bits := uint64(0x0010000000000000); bits < 0x0010000000000000+2000; bits++ {
		use(bits)
	}
	block := [32]byte{}
	for {
		block = sha256.Sum256(block[:])
		for at := 0; at < len(block); at += 8 {
			bits := binary.LittleEndian.Uint64(block[at:])
			if x := math.Float64frombits(bits); isFinite(x) && x != 0 && !use(bits) {
				return
			}
		}
	}
}

func TestNumbersHaveThePublishedHashes(t *testing.T) {
	lines := 1_000_000
	if testing.Short() {
		lines = 10_000
	}
	digest, seen := sha256.New(), 0
	corpusBits(t, func(bits uint64) bool {
		seen++
		text := appendDouble(nil, math.Float64frombits(bits))
		fmt.Fprintf(digest, "%x,%s\n", bits, text)
		if want, published := corpus[seen]; published {
			if got := hex.EncodeToString(digest.Sum(nil)); got != want {
				t.Fatalf("%d lines: expected %s, got %s", seen, want, got)
			}
		}
		return seen < lines
	})
}

func TestNamesAreInTheOrderOfUTF16(t *testing.T) {
	source := rand.New(rand.NewPCG(4, 9))
	alphabet := []rune("ab\x00\x7f\u00e9\u07ff\u0800\ud7ff\ue000\ufffd\uffff\U00010000\U0010ffff")
	text := func() string {
		var drawn []rune
		for range source.IntN(4) {
			drawn = append(drawn, alphabet[source.IntN(len(alphabet))])
		}
		return string(drawn)
	}
	for range 100_000 {
		a, b := text(), text()
		want := slices.Compare(utf16.Encode([]rune(a)), utf16.Encode([]rune(b)))
		if got := compareNames(a, b); got > 0 != (want > 0) || got < 0 != (want < 0) {
			t.Fatalf("%q, %q: expected %d, got %d", a, b, want, got)
		}
	}
}

func TestWhatHasNoCanonicalFormIsRefused(t *testing.T) {
	for _, text := range []string{
		"9007199254740992", "-9007199254740992", "[1,9007199254740993]", `{"a":{"b":1e400}}`,
		"-1e999", strings.Repeat("9", 5000),
	} {
		document, err := ParseValue([]byte(text), len(text))
		if err != nil {
			t.Fatal(err)
		}
		if got, err := JCS(document); errorCode(err) != "number_out_of_range" {
			t.Errorf("%.40s: %s (%v)", text, got, err)
		}
	}
}
