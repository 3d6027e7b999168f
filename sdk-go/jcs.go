package fractal

// This file owns the one JSON text of RFC 8785, in which everything that is hashed is written.

import (
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// JCS writes a document in the one form of RFC 8785. Its only error is `number_out_of_range`: a
// number that is no finite double, or an integer beyond 2^53 - 1 (spec/canonical.md 4.4).
func JCS(document *Document) ([]byte, error) {
	text, err := appendValue(nil, &document.root)
	if err != nil {
		return nil, err
	}
	return text, nil
}

func appendValue(to []byte, v *value) ([]byte, *Error) {
	switch v.kind {
	case nullKind:
		return append(to, "null"...), nil
	case falseKind:
		return append(to, "false"...), nil
	case trueKind:
		return append(to, "true"...), nil
	case stringKind:
		return appendString(to, v.text), nil
	case integerKind:
		if _, ok := v.integer(); !ok {
			return nil, newError("number_out_of_range", "an integer must lie within +-(2^53 - 1)")
		}
		return append(to, v.text...), nil
	case doubleKind:
		x := v.double()
		if math.IsInf(x, 0) {
			return nil, newError("number_out_of_range", "a number must be a finite double")
		}
		return appendDouble(to, x), nil
	case arrayKind:
		return appendArray(to, v)
	}
	return appendObject(to, v)
}

func appendArray(to []byte, v *value) ([]byte, *Error) {
	to = append(to, '[')
	for index := range v.in {
		var err *Error
		if to, err = appendValue(to, &v.in[index].value); err != nil {
			return nil, err
		}
		to = append(to, ',')
	}
	return endContainer(to, ']'), nil
}

func appendObject(to []byte, v *value) ([]byte, *Error) {
	to = append(to, '{')
	for _, next := range sorted(v.in) {
		var err *Error
		to = append(appendString(to, next.name), ':')
		if to, err = appendValue(to, &next.value); err != nil {
			return nil, err
		}
		to = append(to, ',')
	}
	return endContainer(to, '}'), nil
}

// endContainer puts the end in the place of the last comma.
func endContainer(to []byte, end byte) []byte {
	if last := len(to) - 1; to[last] == ',' {
		to[last] = end
		return to
	}
	return append(to, end)
}

// sorted gives members in the order of RFC 8785; those of the caller stay as they are.
func sorted(members []member) []member {
	if !slices.IsSortedFunc(members, byName) {
		members = slices.Clone(members)
		slices.SortFunc(members, byName)
	}
	return members
}

func byName(a, b member) int { return compareNames(a.name, b.name) }

// compareNames orders by UTF-16 code units. In UTF-8 that is the order of bytes, but for U+E000
// to U+FFFF (first byte EE or EF), which come after the pairs of all larger code points.
func compareNames(a, b string) int {
	for index := range min(len(a), len(b)) {
		x, y := a[index], b[index]
		if x == y {
			continue
		}
		if x >= 0xEE && y >= 0xEE && (x >= 0xF0) != (y >= 0xF0) {
			x, y = y, x
		}
		return int(x) - int(y)
	}
	return len(a) - len(b)
}

// integer evaluates a lexical integer within +-(2^53 - 1).
func (v *value) integer() (int64, bool) {
	if v.kind != integerKind || len(v.text) > len("-9007199254740991") {
		return 0, false
	}
	n, err := strconv.ParseInt(v.text, 10, 64)
	return n, err == nil && -maxSafeInteger <= n && n <= maxSafeInteger
}

// double evaluates a number; a token beyond every double is infinite.
func (v *value) double() float64 {
	x, _ := strconv.ParseFloat(v.text, 64) // the scanner let nothing through but a number
	return x
}

// mustEscape tells the bytes that a JSON string cannot hold as they are (3.4(4)).
var mustEscape = func() (marks [256]bool) {
	for control := range ' ' {
		marks[control] = true
	}
	marks['"'], marks['\\'] = true, true
	return marks
}()

// appendString writes a string as spec/canonical.md 3.4(4) says. The text must be UTF-8.
func appendString(to []byte, text string) []byte {
	to = append(to, '"')
	start := 0
	for index := range len(text) {
		if mustEscape[text[index]] {
			to = appendEscape(append(to, text[start:index]...), text[index])
			start = index + 1
		}
	}
	return append(append(to, text[start:]...), '"')
}

func appendEscape(to []byte, control byte) []byte {
	const digits = "0123456789abcdef"
	if short := strings.IndexByte("\b\t\n\f\r\"\\", control); short >= 0 {
		return append(to, '\\', `btnfr"\`[short])
	}
	return append(to, '\\', 'u', '0', '0', digits[control>>4], digits[control&0xF])
}

// isText says whether a string of the caller is UTF-8. What is not has no JSON text; where other
// languages have unpaired surrogates, Go has bytes that are no UTF-8 (3.4(1)).
func isText(text string) bool { return utf8.ValidString(text) }
