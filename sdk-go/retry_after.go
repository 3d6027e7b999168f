package fractal

// This file reads Retry-After (spec/retry.md 21 to 26).

import (
	"strconv"
	"strings"
	"time"
)

const (
	// maxRetryAfterMs is the longest Retry-After that is told apart; a longer one counts as this.
	maxRetryAfterMs = maxSafeInteger

	// maxSecondsDigits is the longest whole part of a Retry-After that can be below the limit.
	maxSecondsDigits = 16

	blanks = " \t"
)

// ParseRetryAfter reads all Retry-After fields of a response; the largest counts. A date is
// measured against `date`, the response's own clock, or nowMs (Unix) if that is "" or cannot be
// read. Negative and past are 0; what cannot be read is absent.
func ParseRetryAfter(values []string, date string, nowMs int64) (ms int64, ok bool) {
	referenceMs := nowMs
	if statedMs, readable := parseDate(strings.Trim(date, blanks), nowMs); readable {
		referenceMs = statedMs
	}
	for _, field := range values {
		waitMs, readable := parseWait(strings.Trim(field, blanks), referenceMs, nowMs)
		if readable {
			ms, ok = max(ms, waitMs), true
		}
	}
	return ms, ok
}

func parseWait(field string, referenceMs, nowMs int64) (ms int64, ok bool) {
	if waitMs, ok := parseSeconds(field); ok {
		return waitMs, true
	}
	dateMs, ok := parseDate(field, nowMs)
	return max(0, dateMs-referenceMs), ok
}

// parseSeconds reads `-?[0-9]+(\.[0-9]+)?` as milliseconds, rounded up: never earlier than asked.
func parseSeconds(field string) (ms int64, ok bool) {
	number, negative := strings.CutPrefix(field, "-")
	whole, fraction, hasFraction := strings.Cut(number, ".")
	if whole == "" || !isDigits(whole) || !isDigits(fraction) || hasFraction && fraction == "" {
		return 0, false
	}
	if negative {
		return 0, true
	}
	whole = strings.TrimLeft(whole, "0")
	if len(whole) > maxSecondsDigits {
		return maxRetryAfterMs, true
	}
	thousandths := (fraction + "000")[:3]
	ms, err := strconv.ParseInt(whole+thousandths, 10, 64)
	if err != nil || ms >= maxRetryAfterMs {
		return maxRetryAfterMs, true
	}
	if len(fraction) > 3 && strings.Trim(fraction[3:], "0") != "" {
		ms++
	}
	return ms, true
}

// dateForms are the three forms of an HTTP date behind the name of the day (spec/retry.md 23),
// and where in them the numbers begin. In a form 0 is a digit, _ a digit or a blank, A any byte.
var dateForms = [...]struct {
	dayLetters              int // of the name of the day; 0: all of them
	behind, form            string
	day, month, year, clock int
	yearDigits              int
}{
	{3, ",", "00 AAA 0000 00:00:00 GMT", 0, 3, 7, 12, 4},
	{0, ",", "00-AAA-00 00:00:00 GMT", 0, 3, 7, 10, 2},
	{3, "", "AAA _0 00:00:00 0000", 4, 0, 16, 7, 4},
}

// parseDate reads an HTTP date as Unix milliseconds.
func parseDate(text string, nowMs int64) (ms int64, ok bool) {
	dayName, rest, _ := strings.Cut(text, " ")
	for _, form := range dateForms {
		if !isDayName(dayName, form.dayLetters, form.behind) || !hasForm(rest, form.form) {
			continue
		}
		number := func(start, digits int) int {
			n, _ := strconv.Atoi(strings.TrimLeft(rest[start:start+digits], " ")) // has the form
			return n
		}
		year, month := number(form.year, form.yearDigits), monthOf(rest[form.month:][:3])
		if form.yearDigits == 2 {
			year = fullYear(year, nowMs)
		}
		day, hour := number(form.day, 2), number(form.clock, 2)
		minute, second := number(form.clock+3, 2), number(form.clock+6, 2)
		if !isMoment(year, month, day, hour, minute, second) {
			return 0, false
		}
		moment := time.Date(year, time.Month(month), day, hour, minute, second, 0, time.UTC)
		return moment.UnixMilli(), true
	}
	return 0, false
}

// isDayName says whether a text is the name of a day, cut to so many letters (0: whole), with
// something behind it. Which day it is, is not compared with the date.
func isDayName(text string, letters int, behind string) bool {
	for day := time.Sunday; day <= time.Saturday; day++ {
		name := day.String()
		if letters > 0 {
			name = name[:letters]
		}
		if text == name+behind {
			return true
		}
	}
	return false
}

// monthOf gives the number of a month's three letters, 0 for none.
func monthOf(letters string) int {
	for month := time.January; month <= time.December; month++ {
		if month.String()[:3] == letters {
			return int(month)
		}
	}
	return 0
}

func hasForm(text, form string) bool {
	if len(text) != len(form) {
		return false
	}
	for index := range len(form) {
		digit := '0' <= text[index] && text[index] <= '9'
		switch form[index] {
		case 'A':
		case '0':
			if !digit {
				return false
			}
		case '_':
			if !digit && text[index] != ' ' {
				return false
			}
		default:
			if text[index] != form[index] {
				return false
			}
		}
	}
	return true
}

// fullYear completes two digits to a year at most 50 years from now (spec/retry.md 24).
func fullYear(shortYear int, nowMs int64) int {
	thisYear := time.UnixMilli(nowMs).UTC().Year()
	year := thisYear - thisYear%100 + shortYear
	if year > thisYear+50 {
		return year - 100
	}
	return year
}
