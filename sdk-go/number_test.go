package fractal

import (
	"encoding/json"
	"math"
	"math/rand/v2"
	"strconv"
	"testing"
)

func TestNumberTextIsThatOfECMAScript(t *testing.T) {
	for n, want := range map[uint64]string{
		0: "0", 1: "1e-9", 9: "9e-9", 10: "1e-8", 12: "1.2e-8", 100: "1e-7", 120: "1.2e-7",
		123: "1.23e-7", 999: "9.99e-7", 1000: "0.000001", 1001: "0.000001001",
		99_999: "0.000099999", 500_000_000: "0.5", 999_999_999: "0.999999999",
		1_000_000_000: "1", 1_410_000_000: "1.41", 3_500_000_000: "3.5",
	} {
		if got := NumberText(n); got != want {
			t.Errorf("%d: expected %s, got %s", n, want, got)
		}
	}
}

func TestRoundingIsHalfAwayOnTheRoundedProduct(t *testing.T) {
	for bits, want := range map[uint64]uint64{
		0x3e012e0be826d694: 0,       // floor(p + 0.5) gives 1
		0x3e012e0be826d695: 1,       // half to even gives 0
		0x3f50000000000000: 976_563, // 2^-10, exactly half way
		0x3e19c511dc3a41df: 2,       // below the tie, its product is on it
		0x3e401b2b29a4692b: 7,       // its shortest decimal is on the tie, its product is not
		0x3e2e1094d643f784: 4,       // a fused multiply-add gives 3
		0x8000000000000000: 0,       // -0
		0x400c000000000000: 3_500_000_000,
	} {
		if got := Nano(math.Float64frombits(bits)); got != want {
			t.Errorf("%016x: expected %d, got %d", bits, want, got)
		}
	}
}

// drawn gives numbers of the domain, most of them where rounding rules differ.
func drawn(source *rand.Rand) float64 {
	switch source.IntN(4) {
	case 0:
		return float64(source.Uint64N(35_000_000_000)*10+5) / 1e11
	case 1:
		return float64(source.Uint64N(3584)) / 1024
	case 2:
		return (fromNano(source.Uint64N(3_500_000_000)) + fromNano(source.Uint64N(1000))) / 2
	}
	return source.Float64() * 3.5
}

func TestRoundingIsIdempotentAndNear(t *testing.T) {
	source := rand.New(rand.NewPCG(1, 9))
	for range 100_000 {
		x := min(drawn(source), 3.5)
		n := Nano(x)
		if Nano(fromNano(n)) != n || math.Abs(float64(n)-float64(x*1e9)) > 0.5 {
			t.Fatalf("%v: %d", x, n)
		}
	}
}

// encoding/json writes a double as ECMAScript does, by other code; it is no part of signing.
func TestNumberTextIsTheTextOfTheDouble(t *testing.T) {
	source := rand.New(rand.NewPCG(2, 9))
	for round := range 100_000 {
		n := uint64(round)
		if round > 2000 {
			n = source.Uint64N(3_500_000_001)
		}
		want, err := json.Marshal(fromNano(n))
		if err != nil {
			t.Fatal(err)
		}
		if got := NumberText(n); got != string(want) {
			t.Fatalf("%d: expected %s, got %s", n, want, got)
		}
		if read, err := strconv.ParseFloat(NumberText(n), 64); err != nil || read != fromNano(n) {
			t.Fatalf("%d: read as %v", n, read)
		}
	}
}

func TestEveryDoubleHasTheTextOfECMAScript(t *testing.T) {
	source := rand.New(rand.NewPCG(3, 9))
	for range 100_000 {
		x := math.Float64frombits(source.Uint64())
		if !isFinite(x) || x == 0 {
			continue
		}
		want, err := json.Marshal(x)
		if err != nil {
			t.Fatal(err)
		}
		if got := string(appendDouble(nil, x)); got != string(want) {
			t.Fatalf("%v: expected %s, got %s", x, want, got)
		}
	}
}
