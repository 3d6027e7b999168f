package fractal

// This file owns how key bytes and tokens are held so that nothing prints them by accident.

import (
	"bytes"
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"log/slog"
)

const mask = "***"

// Secret wraps bytes that must not be printed, logged or written. The only way to them is
// Reveal, which is easy to search for.
//
// The bytes are held by a function, because a printer that walks through unexported fields
// calls no method of theirs and would show a slice.
type Secret struct{ reveal func() []byte }

// NewSecret wraps a copy of value.
func NewSecret(value []byte) Secret {
	kept := bytes.Clone(value)
	return Secret{reveal: func() []byte { return kept }}
}

// Reveal gives the bytes, which the caller must not change.
func (s Secret) Reveal() []byte {
	if s.reveal == nil {
		return nil
	}
	return s.reveal()
}

// Equal compares in constant time.
func (s Secret) Equal(other Secret) bool {
	return subtle.ConstantTimeCompare(s.Reveal(), other.Reveal()) == 1
}

// String masks the bytes.
func (s Secret) String() string { return mask }

// GoString masks the bytes.
func (s Secret) GoString() string { return "fractal.Secret(" + mask + ")" }

// Format masks the bytes under every verb.
func (s Secret) Format(state fmt.State, _ rune) { _, _ = io.WriteString(state, mask) }

// LogValue masks the bytes.
func (s Secret) LogValue() slog.Value { return slog.StringValue(mask) }

// MarshalJSON masks the bytes.
func (s Secret) MarshalJSON() ([]byte, error) { return []byte(`"` + mask + `"`), nil }

// MarshalText masks the bytes.
func (s Secret) MarshalText() ([]byte, error) { return []byte(mask), nil }

// GobEncode refuses: a secret does not travel.
func (s Secret) GobEncode() ([]byte, error) {
	return nil, errors.New("fractal: a Secret cannot be encoded")
}
