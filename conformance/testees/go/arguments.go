package main

import (
	"encoding/binary"
	"encoding/hex"
	"math"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"
)

// What the harness sends is right, or this program ends: a panic is a crash, never an answer.

func must[T any](value T, err error) T {
	if err != nil {
		panic(err)
	}
	return value
}

func (m members) has(name string) bool { _, given := m[name]; return given }

func (m members) text(name string) string { text, _ := m[name].(string); return text }

func (m members) flag(name string) bool { return m.text(name) == "true" }

func (m members) bytes(name string) []byte { return must(hex.DecodeString(m.text(name))) }

func (m members) number(name string) int64 {
	return must(strconv.ParseInt(m.text(name), 10, 64))
}

func (m members) double(name string) float64 {
	return math.Float64frombits(binary.BigEndian.Uint64(m.bytes(name)))
}

func (m members) under(name string) members { return m[name].(map[string]any) }

func (m members) texts(name string) []string {
	texts := []string{}
	for _, item := range m[name].([]any) {
		texts = append(texts, item.(string))
	}
	return texts
}

func (m members) list(name string) []members {
	list := []members{}
	for _, item := range m[name].([]any) {
		list = append(list, item.(map[string]any))
	}
	return list
}

func (m members) fields(name string) [][2]string {
	fields := [][2]string{}
	for _, item := range m[name].([]any) {
		pair := item.([]any)
		fields = append(fields, [2]string{pair[0].(string), pair[1].(string)})
	}
	return fields
}

func bits(x float64) string {
	return hex.EncodeToString(binary.BigEndian.AppendUint64(nil, math.Float64bits(x)))
}

func decimal[N int | int64 | uint64](n N) string {
	if n < 0 {
		return strconv.FormatInt(int64(n), 10)
	}
	return strconv.FormatUint(uint64(n), 10)
}

// utf16 gives a text of UTF-16 code units as a Go string. An unpaired surrogate becomes the bytes
// that UTF-8 would give it: the nearest that a caller in Go can come to one, and no UTF-8.
func (m members) utf16(name string) string {
	raw := m.bytes(name)
	text := []byte{}
	for len(raw) > 0 {
		unit := rune(binary.BigEndian.Uint16(raw))
		raw = raw[2:]
		if !utf16.IsSurrogate(unit) {
			text = utf8.AppendRune(text, unit)
			continue
		}
		if len(raw) > 0 {
			low := rune(binary.BigEndian.Uint16(raw))
			if pair := utf16.DecodeRune(unit, low); pair != utf8.RuneError {
				text, raw = utf8.AppendRune(text, pair), raw[2:]
				continue
			}
		}
		text = append(text, 0xE0|byte(unit>>12), 0x80|byte(unit>>6)&0x3F, 0x80|byte(unit)&0x3F)
	}
	return string(text)
}
