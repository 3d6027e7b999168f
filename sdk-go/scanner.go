package fractal

// This file owns the strict JSON profile (spec/canonical.md 3.9). encoding/json reads no record:
// it ignores the case of names, takes duplicates and bad UTF-8, and turns null into zero.

import (
	"unicode/utf16"
	"unicode/utf8"
)

const (
	// MaxRecordBytes is the longest JSON text of one record (spec/canonical.md 3.9(1)).
	MaxRecordBytes = 65_536

	// MaxDepth is the deepest nesting of arrays and objects, the outermost counted
	// (spec/canonical.md 3.9(2)).
	MaxDepth = 32

	// fewMembers is up to how many members names are compared one by one for duplicates.
	fewMembers = 16
)

// kind says which JSON value a value is; integer and double are told apart by their token.
type kind uint8

const (
	nullKind    kind = iota
	falseKind        // `false`
	trueKind         // `true`
	integerKind      // a number without `.`, `e` and `E`, and not `-0` (3.9(6))
	doubleKind       // any other number
	stringKind
	arrayKind
	objectKind
)

// value is one JSON value. A number stays its token: nothing is evaluated that is not used.
type value struct {
	kind kind
	text string   // a string as it reads, a number as it is written
	in   []member // what an array (without names) or an object holds, in the order of the text
}

type member struct {
	name string
	value
}

// find gives the value of a member, nil for an object that has none of this name.
func (v *value) find(name string) *value {
	for index := range v.in {
		if v.in[index].name == name {
			return &v.in[index].value
		}
	}
	return nil
}

type scanner struct {
	text  string
	at    int
	depth int
	open  []member // what the containers hold that have not ended yet
}

// scan reads one JSON text. Strings without escapes share the memory of the one copy of data.
func scan(data []byte, maxBytes int) (value, *Error) {
	if len(data) > maxBytes {
		return value{}, newError("payload_too_large",
			"the JSON text must be at most %d bytes, got %d", maxBytes, len(data))
	}
	if !utf8.Valid(data) {
		return value{}, newError("json_malformed", "the JSON text is not UTF-8")
	}
	s := scanner{text: string(data)}
	s.skip()
	found, err := s.value()
	if err != nil {
		return value{}, err
	}
	if s.skip(); s.at != len(s.text) {
		return value{}, s.malformed("text after the value")
	}
	return found, nil
}

func (s *scanner) malformed(what string) *Error {
	return newError("json_malformed", "%s at byte %d", what, s.at)
}

// peek gives the next byte, 0 at the end: no byte of JSON outside of strings is 0.
func (s *scanner) peek() byte {
	if s.at < len(s.text) {
		return s.text[s.at]
	}
	return 0
}

func (s *scanner) skip() {
	for s.at < len(s.text) {
		switch s.text[s.at] {
		case ' ', '\t', '\n', '\r':
			s.at++
		default:
			return
		}
	}
}

func (s *scanner) value() (value, *Error) {
	switch next := s.peek(); next {
	case '{':
		return s.container(objectKind, '}')
	case '[':
		return s.container(arrayKind, ']')
	case '"':
		text, err := s.string()
		return value{kind: stringKind, text: text}, err
	case 't':
		return s.word("true", trueKind)
	case 'f':
		return s.word("false", falseKind)
	case 'n':
		return s.word("null", nullKind)
	default:
		return s.number()
	}
}

func (s *scanner) word(word string, kind kind) (value, *Error) {
	if len(s.text)-s.at < len(word) || s.text[s.at:s.at+len(word)] != word {
		return value{}, s.malformed("no JSON value")
	}
	s.at += len(word)
	return value{kind: kind}, nil
}

// container reads an array or an object. Its members gather above those of the containers
// around it, and are copied once their number is known.
func (s *scanner) container(kind kind, end byte) (value, *Error) {
	if s.depth == MaxDepth {
		return value{}, newError("json_limit", "more than %d nested arrays and objects", MaxDepth)
	}
	s.depth++
	s.at++
	first := len(s.open)
	var names map[string]bool
	s.skip()
	for more := s.peek() != end; more; {
		var next member
		var err *Error
		if kind == objectKind {
			if next.name, err = s.memberName(first, &names); err != nil {
				return value{}, err
			}
		}
		if next.value, err = s.value(); err != nil {
			return value{}, err
		}
		s.open = append(s.open, next)
		s.skip()
		switch s.peek() {
		case ',':
			s.at++
			s.skip()
		case end:
			more = false
		default:
			return value{}, s.malformed("neither a comma nor the end of a container")
		}
	}
	s.at++
	s.depth--
	in := append([]member(nil), s.open[first:]...)
	s.open = s.open[:first]
	return value{kind: kind, in: in}, nil
}

// memberName reads a name and its colon. The name must differ from those since `first`; of many
// members the names are kept in a map, so that a hostile text costs no quadratic time.
func (s *scanner) memberName(first int, names *map[string]bool) (string, *Error) {
	if s.peek() != '"' {
		return "", s.malformed("no member name")
	}
	name, err := s.string()
	if err != nil {
		return "", err
	}
	repeated := false
	if others := s.open[first:]; len(others) <= fewMembers {
		for index := range others {
			repeated = repeated || others[index].name == name
		}
	} else {
		if *names == nil {
			*names = make(map[string]bool, 2*len(others))
			for index := range others {
				(*names)[others[index].name] = true
			}
		}
		repeated = (*names)[name]
		(*names)[name] = true
	}
	if repeated {
		return "", newError("member_duplicate", "the member name %q stands twice", name)
	}
	s.skip()
	if s.peek() != ':' {
		return "", s.malformed("no colon")
	}
	s.at++
	s.skip()
	return name, nil
}

// string reads a string, whose opening quote is next.
func (s *scanner) string() (string, *Error) {
	s.at++
	for start := s.at; s.at < len(s.text); s.at++ {
		switch next := s.text[s.at]; {
		case next == '"':
			s.at++
			return s.text[start : s.at-1], nil
		case next == '\\':
			return s.escaped(s.text[start:s.at])
		case next < ' ':
			return "", s.malformed("a control character")
		}
	}
	return "", s.malformed("a string without an end")
}

// escaped reads the rest of a string from its first backslash on.
func (s *scanner) escaped(before string) (string, *Error) {
	read := []byte(before)
	for s.at < len(s.text) {
		next := s.text[s.at]
		switch {
		case next == '"':
			s.at++
			return string(read), nil
		case next < ' ':
			return "", s.malformed("a control character")
		case next != '\\':
			read = append(read, next)
			s.at++
			continue
		}
		character, err := s.escape()
		if err != nil {
			return "", err
		}
		read = utf8.AppendRune(read, character)
	}
	return "", s.malformed("a string without an end")
}

// escape reads one escape, a surrogate pair being one.
func (s *scanner) escape() (rune, *Error) {
	s.at++
	short := s.peek()
	s.at++
	switch short {
	case '"', '\\', '/':
		return rune(short), nil
	case 'b':
		return '\b', nil
	case 't':
		return '\t', nil
	case 'n':
		return '\n', nil
	case 'f':
		return '\f', nil
	case 'r':
		return '\r', nil
	case 'u':
		return s.codePoint()
	}
	return 0, s.malformed("no escape")
}

func (s *scanner) codePoint() (rune, *Error) {
	unit, err := s.codeUnit()
	if err != nil || !utf16.IsSurrogate(unit) {
		return unit, err
	}
	if unit < 0xDC00 && s.at+1 < len(s.text) && s.text[s.at:s.at+2] == `\u` {
		s.at += 2
		low, err := s.codeUnit()
		if err != nil {
			return 0, err
		}
		if pair := utf16.DecodeRune(unit, low); pair != utf8.RuneError {
			return pair, nil
		}
	}
	return 0, newError("string_surrogate", "an unpaired surrogate escape before byte %d", s.at)
}

// codeUnit reads the four hexadecimal digits of an escape.
func (s *scanner) codeUnit() (rune, *Error) {
	var unit rune
	for range 4 {
		digit := s.peek()
		switch {
		case '0' <= digit && digit <= '9':
			unit = unit<<4 | rune(digit-'0')
		case 'a' <= digit|0x20 && digit|0x20 <= 'f':
			unit = unit<<4 | rune(digit|0x20-'a'+10)
		default:
			return 0, s.malformed("no hexadecimal digit")
		}
		s.at++
	}
	return unit, nil
}

// number reads `-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?`.
func (s *scanner) number() (value, *Error) {
	start, kind := s.at, integerKind
	if s.peek() == '-' {
		s.at++
	}
	switch first := s.at; {
	case s.digits() == 0:
		return value{}, s.malformed("no JSON value")
	case s.text[first] == '0' && s.at > first+1:
		return value{}, s.malformed("a number with a leading zero")
	}
	if s.peek() == '.' {
		kind = doubleKind
		if s.at++; s.digits() == 0 {
			return value{}, s.malformed("no digit after a point")
		}
	}
	if s.peek()|0x20 == 'e' {
		kind = doubleKind
		if s.at++; s.peek() == '+' || s.peek() == '-' {
			s.at++
		}
		if s.digits() == 0 {
			return value{}, s.malformed("no digit in an exponent")
		}
	}
	token := s.text[start:s.at]
	if token == "-0" {
		kind = doubleKind // no integer is written so, and no integer is negative zero
	}
	return value{kind: kind, text: token}, nil
}

// digits skips decimal digits and says how many.
func (s *scanner) digits() int {
	start := s.at
	for '0' <= s.peek() && s.peek() <= '9' {
		s.at++
	}
	return s.at - start
}
