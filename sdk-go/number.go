package fractal

// This file owns rounding and the text of numbers (spec/canonical.md 3.2). Nothing else in this
// package rounds a number or writes one that is signed.

import (
	"bytes"
	"math"
	"strconv"
)

// nanosPerOne is the 10^9 of spec/canonical.md 3.2(3).
const nanosPerOne = 1_000_000_000

// maxSafeInteger is the largest magnitude of an integer that every JSON reader keeps exactly.
const maxSafeInteger = 1<<53 - 1

// Nano rounds x to whole billionths, ties away from zero (spec/canonical.md 3.2(3), 3.2(4)). The
// domain is 0 <= x <= 3.5, which it does not test.
func Nano(x float64) uint64 {
	// The conversion forbids fusing the product with what math.Round does to it.
	return uint64(math.Round(float64(x * 1e9)))
}

// fromNano gives the double that is transmitted and used for n billionths (3.7).
func fromNano(n uint64) float64 { return float64(n) / 1e9 }

// NumberText writes n billionths as RFC 8785 does (spec/canonical.md 3.2(5)).
func NumberText(n uint64) string { return string(appendNano(nil, n)) }

func appendNano(to []byte, n uint64) []byte {
	if n < 1000 && n > 0 {
		return appendTiny(to, n)
	}
	to = strconv.AppendUint(to, n/nanosPerOne, 10)
	fraction := n % nanosPerOne
	if fraction == 0 {
		return to
	}
	var digits [10]byte
	for place := 9; place > 0; place-- {
		digits[place] = byte('0' + fraction%10)
		fraction /= 10
	}
	digits[0] = '.'
	return append(to, bytes.TrimRight(digits[:], "0")...)
}

// appendTiny writes 1 to 999 billionths, which ECMAScript writes with an exponent.
func appendTiny(to []byte, n uint64) []byte {
	var room [3]byte
	digits := strconv.AppendUint(room[:0], n, 10)
	exponent := byte('0' + 10 - len(digits))
	digits = bytes.TrimRight(digits, "0")
	to = append(to, digits[0])
	if len(digits) > 1 {
		to = append(to, '.')
		to = append(to, digits[1:]...)
	}
	return append(to, 'e', '-', exponent)
}

// appendDouble writes any finite double as ECMAScript does (RFC 8785 section 3.2.2.3).
func appendDouble(to []byte, x float64) []byte {
	magnitude := math.Abs(x)
	if magnitude == 0 {
		return append(to, '0') // also for -0
	}
	if 1e-6 <= magnitude && magnitude < 1e21 {
		return strconv.AppendFloat(to, x, 'f', -1, 64)
	}
	to = strconv.AppendFloat(to, x, 'e', -1, 64)
	if end := len(to); to[end-4] == 'e' && to[end-2] == '0' { // e-07 is e-7
		to[end-2] = to[end-1]
		to = to[:end-1]
	}
	return to
}
