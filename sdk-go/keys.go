package fractal

// This file owns the algorithms, strict base64, and what counts as a usable key
// (spec/canonical.md 3.6, 3.8, 3.10). The algorithm of a check is the key's, and there is no
// algorithm `none`.

import (
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"slices"
	"strings"
)

// The only spellings of alg.
const (
	HMAC    = "HMAC"
	Ed25519 = "Ed25519"
)

const (
	// MinHMACKeyBytes is the shortest HMAC key in production (spec/canonical.md 3.6(4)).
	MinHMACKeyBytes = 32

	// Ed25519KeyBytes is the length of an Ed25519 seed, and of a public key.
	Ed25519KeyBytes = ed25519.SeedSize
)

var algorithms = []string{HMAC, Ed25519}

// signatureBytes gives the length of a signature.
func signatureBytes(alg string) int {
	if alg == HMAC {
		return sha256.Size
	}
	return ed25519.SignatureSize
}

// smallOrder holds the y coordinates of the points of order 1, 2, 4 and 8 in every encoding, the
// sign bit of the last byte left out. Under such a key one signature fits many messages.
var smallOrder = []string{
	strings.Repeat("\x00", 32),
	"\x01" + strings.Repeat("\x00", 31),
	"\x26\xe8\x95\x8f\xc2\xb2\x27\xb0\x45\xc3\xf4\x89\xf2\xef\x98\xf0" +
		"\xd5\xdf\xac\x05\xd3\xc6\x33\x39\xb1\x38\x02\x88\x6d\x53\xfc\x05",
	"\xc7\x17\x6a\x70\x3d\x4d\xd8\x4f\xba\x3c\x0b\x76\x0d\x10\x67\x0f" +
		"\x2a\x20\x53\xfa\x2c\x39\xcc\xc6\x4e\xc7\xfd\x77\x92\xac\x03\x7a",
	"\xec" + strings.Repeat("\xff", 30) + "\x7f",
	"\xed" + strings.Repeat("\xff", 30) + "\x7f",
	"\xee" + strings.Repeat("\xff", 30) + "\x7f",
}

// Key is one key of a verifier: an HMAC key, or an Ed25519 public key. Tenant is "" for a key of
// no tenant. AllowShortKey is for tests.
type Key struct {
	Kid           string
	Alg           string
	Key           Secret
	Tenant        string
	AllowShortKey bool
}

// Keyring indexes the keys of a verifier by kid. Use NewKeyring to make one.
type Keyring map[string]Key

// NewKeyring indexes keys; a kid, or the bytes of a key, may occur once. Bytes that are an HMAC
// key here and the seed of an Ed25519 key there are refused too (spec/canonical.md 3.6(4)).
func NewKeyring(keys ...Key) (Keyring, error) {
	ring := make(Keyring, len(keys))
	seen := make(map[string]bool, len(keys))
	for _, key := range keys {
		if err := key.check(); err != nil {
			return nil, err
		}
		if _, twice := ring[key.Kid]; twice {
			return nil, newError("config_invalid", "keyring: the kid %q occurs twice", key.Kid)
		}
		if seen[string(key.Key.Reveal())] {
			return nil, newError("key_unusable", "keyring: the key of %q is used twice", key.Kid)
		}
		ring[key.Kid] = key
		seen[string(key.Key.Reveal())] = true
	}
	for _, key := range keys {
		if key.Alg != HMAC || len(key.Key.Reveal()) != Ed25519KeyBytes {
			continue
		}
		public := ed25519.NewKeyFromSeed(key.Key.Reveal())[Ed25519KeyBytes:]
		if seen[string(public)] {
			return nil, newError("key_unusable", "keyring: %q is also a seed", key.Kid)
		}
	}
	return ring, nil
}

// check refuses a key that no check can be made with.
func (k *Key) check() *Error {
	if !isName(k.Kid) {
		return kidFault()
	}
	if err := checkAlg(k.Alg); err != nil {
		return err
	}
	key := k.Key.Reveal()
	if k.Alg == HMAC {
		return checkHMACKey(key, k.AllowShortKey)
	}
	if len(key) != Ed25519KeyBytes {
		return newError("key_unusable", "key: expected a public key of %d bytes, got %d bytes",
			Ed25519KeyBytes, len(key))
	}
	y := slices.Clone(key)
	y[Ed25519KeyBytes-1] &= 0x7F
	if slices.Contains(smallOrder, string(y)) {
		return newError("key_unusable", "key: expected no point of small order")
	}
	return nil
}

func kidFault() *Error {
	return newError("config_invalid", "kid: expected 1 to %d bytes of UTF-8", MaxNameBytes)
}

// isName says whether a text can be a kid or a tenant_id (spec/formats.md 1.12).
func isName(text string) bool {
	return 1 <= len(text) && len(text) <= MaxNameBytes && isText(text)
}

func checkAlg(alg string) *Error {
	if !slices.Contains(algorithms, alg) {
		return newError("config_invalid", "alg: expected HMAC or Ed25519, got %q", alg)
	}
	return nil
}

func checkHMACKey(key []byte, allowShort bool) *Error {
	if len(key) < MinHMACKeyBytes && !allowShort {
		return newError("key_unusable", "key: expected at least %d bytes, got %d bytes",
			MinHMACKeyBytes, len(key))
	}
	return nil
}

// --- signatures -----------------------------------------------------------------------------

// SignatureText writes a signature as RFC 4648 base64 with padding (spec/canonical.md 3.6(3)).
func SignatureText(signature []byte) string { return base64.StdEncoding.EncodeToString(signature) }

// CheckSignature refuses a signature that is not the one of digest under key: its codes are
// signature_malformed, signature_invalid and key_unusable (spec/canonical.md 3.8(3)).
func CheckSignature(key Key, digest []byte, sig string) error {
	if err := key.check(); err != nil {
		return err
	}
	if key.Alg == HMAC {
		mac := hmac.New(sha256.New, key.Key.Reveal())
		mac.Write(digest)
		expected := SignatureText(mac.Sum(nil))
		if subtle.ConstantTimeCompare([]byte(expected), []byte(sig)) == 1 {
			return nil
		}
	}
	raw, err := decodeSignature(key.Alg, sig)
	if err != nil {
		return err
	}
	// The standard library refuses an S that is not below L.
	if key.Alg == Ed25519 && ed25519.Verify(key.Key.Reveal(), digest, raw) {
		return nil
	}
	return newError("signature_invalid", "sig: expected the signature of this record").at("/sig")
}

// decodeSignature reads base64 that is written again to the same text, and has the length of
// the algorithm; that leaves no second spelling of a signature.
func decodeSignature(alg, sig string) ([]byte, error) {
	raw, err := base64.StdEncoding.DecodeString(sig)
	if err != nil || len(raw) != signatureBytes(alg) || SignatureText(raw) != sig {
		return nil, newError("signature_malformed", "sig: expected %d bytes in canonical base64",
			signatureBytes(alg)).at("/sig")
	}
	return raw, nil
}
