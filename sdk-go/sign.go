package fractal

// This file owns which members carry a signature, and how one is made (spec/canonical.md 3.6,
// 3.7, 4.3). Keys are in keys.go, the order in which a verifier asks in verify.go.

import (
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"
	"io"
	"sync"
)

// Signer signs 32-byte digests with one key. Kid is "" for a key without a name. A signer is
// used by many goroutines at once.
type Signer interface {
	Alg() string
	Kid() string
	Sign(digest []byte) ([]byte, error)
}

// keyless is what every signer shows: its algorithm and the name of its key, never the key.
type keyless struct{ alg, kid string }

// Alg names the algorithm.
func (s keyless) Alg() string { return s.alg }

// Kid names the key, "" for a key without a name.
func (s keyless) Kid() string { return s.kid }

// String names the algorithm and the key.
func (s keyless) String() string { return fmt.Sprintf("Signer(***, alg=%q, kid=%q)", s.alg, s.kid) }

// GoString is String.
func (s keyless) GoString() string { return s.String() }

// Format is String under every verb.
func (s keyless) Format(state fmt.State, _ rune) { _, _ = io.WriteString(state, s.String()) }

func checkKid(kid string) *Error {
	if kid != "" && !isName(kid) {
		return kidFault()
	}
	return nil
}

// HMACSigner signs with HMAC-SHA256.
type HMACSigner struct {
	keyless
	prepared *sync.Pool // of MACs: a key schedule costs as much as a signature
}

// HMACOption changes what keys NewHMACSigner takes.
type HMACOption func(*hmacOptions)

type hmacOptions struct{ allowShortKey bool }

// WithShortKey takes a key of fewer than 32 bytes, for tests.
func WithShortKey() HMACOption { return func(o *hmacOptions) { o.allowShortKey = true } }

// NewHMACSigner makes a signer. The bytes of the key are used verbatim, never trimmed or
// decoded; kid may be "".
func NewHMACSigner(key []byte, kid string, options ...HMACOption) (*HMACSigner, error) {
	var o hmacOptions
	for _, option := range options {
		option(&o)
	}
	if err := checkKid(kid); err != nil {
		return nil, err
	}
	if err := checkHMACKey(key, o.allowShortKey); err != nil {
		return nil, err
	}
	kept := NewSecret(key)
	prepared := &sync.Pool{New: func() any { return hmac.New(sha256.New, kept.Reveal()) }}
	return &HMACSigner{keyless{HMAC, kid}, prepared}, nil
}

// SignerFromEnv takes the key from PCS_HMAC_KEY (hexadecimal) and the kid from PCS_KID. A program
// passes os.Getenv.
func SignerFromEnv(getenv func(name string) string) (*HMACSigner, error) {
	text := getenv("PCS_HMAC_KEY")
	if text == "" {
		return nil, newError("config_invalid", "PCS_HMAC_KEY: expected a key in hex, got none")
	}
	key, err := hex.DecodeString(text)
	if err != nil { // the cause would carry the text of the key
		return nil, newError("key_unusable", "PCS_HMAC_KEY: expected hex digits")
	}
	return NewHMACSigner(key, getenv("PCS_KID"))
}

// Sign gives the 32 bytes of the MAC.
func (s *HMACSigner) Sign(digest []byte) ([]byte, error) {
	mac := s.prepared.Get().(hash.Hash)
	mac.Reset()
	mac.Write(digest)
	sum := mac.Sum(make([]byte, 0, sha256.Size))
	s.prepared.Put(mac)
	return sum, nil
}

// Ed25519Signer signs with Ed25519 (RFC 8032).
type Ed25519Signer struct {
	keyless
	private Secret
}

// NewEd25519Signer makes a signer from a seed of 32 bytes; kid may be "".
func NewEd25519Signer(seed []byte, kid string) (*Ed25519Signer, error) {
	if err := checkKid(kid); err != nil {
		return nil, err
	}
	if len(seed) != Ed25519KeyBytes {
		return nil, newError("key_unusable", "key: expected a seed of %d bytes, got %d bytes",
			Ed25519KeyBytes, len(seed))
	}
	private := NewSecret(ed25519.NewKeyFromSeed(seed))
	return &Ed25519Signer{keyless{Ed25519, kid}, private}, nil
}

// PublicKey gives the 32 bytes to register with the server.
func (s *Ed25519Signer) PublicKey() []byte {
	return append([]byte(nil), s.private.Reveal()[Ed25519KeyBytes:]...)
}

// Sign gives the 64 bytes of the signature.
func (s *Ed25519Signer) Sign(digest []byte) ([]byte, error) {
	return ed25519.Sign(s.private.Reveal(), digest), nil
}

// funcSigner signs through a function.
type funcSigner struct {
	keyless
	sign func(digest []byte) ([]byte, error)
}

// NewFuncSigner makes a signer of a function, for keys in a KMS or HSM; it gets the 32-byte
// digest.
func NewFuncSigner(alg, kid string, sign func(digest []byte) ([]byte, error)) (Signer, error) {
	if err := checkKid(kid); err != nil {
		return nil, err
	}
	if err := checkAlg(alg); err != nil {
		return nil, err
	}
	return &funcSigner{keyless{alg, kid}, sign}, nil
}

func (s *funcSigner) Sign(digest []byte) ([]byte, error) { return s.sign(digest) }

// --- signing --------------------------------------------------------------------------------

// SignedRecord holds the frozen bytes of a signed record: what every attempt sends.
type SignedRecord struct {
	Body    []byte
	PcsID   string
	Content string // the content digest, which is the idempotency key
	Sig     string
	Kid     string // "" if the record names no key
	Tenant  string // "" if the record names no tenant
}

// Sign signs a copy of a record with version 2, which covers every member. It needs a signer
// with a kid, and the tenant of that key.
//
// What is sent is what was signed: the four numbers go out as n / 10^9. A signature that the
// record had is replaced.
func Sign(record RecordSource, signer Signer, tenant string) (*SignedRecord, error) {
	return signAs(record, signer, 2, tenant)
}

// SignV1 signs a copy of a record with version 1, which covers eight members. It adds alg and
// kid if the signer has a kid.
func SignV1(record RecordSource, signer Signer) (*SignedRecord, error) {
	return signAs(record, signer, 1, "")
}

func signAs(
	record RecordSource, signer Signer, version int, tenant string,
) (*SignedRecord, error) {
	var head signatureHead
	if version == 2 {
		if err := checkVersion2(signer, tenant); err != nil {
			return nil, err
		}
		head.sigV, head.tenant = 2, tenant
	}
	if kid := signer.Kid(); kid != "" {
		head.alg, head.kid = signer.Alg(), kid
	}
	seen, fault := record.canonical(version, &head)
	if fault != nil {
		return nil, fault
	}
	text, fault := seen.recordText()
	if fault != nil {
		return nil, fault
	}
	raw, err := signer.Sign(seen.Digest[:])
	if err != nil {
		return nil, err
	}
	if expected := signatureBytes(signer.Alg()); len(raw) != expected {
		return nil, newError("signature_malformed", "signer: expected %d bytes, got %d",
			expected, len(raw))
	}
	sig := SignatureText(raw)
	return &SignedRecord{
		Body: text.signed(sig), PcsID: seen.pcsID, Content: text.content(), Sig: sig,
		Kid: head.kid, Tenant: head.tenant,
	}, nil
}

// ParseSigned takes a record that somebody else signed; its bytes stay as they are. The form is
// checked, the signature is not: that needs the key.
func ParseSigned(body []byte) (*SignedRecord, error) {
	document, fault := parseObject(body, MaxRecordBytes)
	if fault != nil {
		return nil, fault
	}
	record, fault := document.record(true)
	if fault != nil {
		return nil, fault
	}
	content, err := ContentDigest(document)
	if err != nil {
		return nil, err
	}
	return &SignedRecord{
		Body: append([]byte(nil), body...), PcsID: record.PcsID, Content: content,
		Sig: record.Sig, Kid: record.Kid, Tenant: record.TenantID,
	}, nil
}

// checkVersion2 refuses version 2 without what it signs.
func checkVersion2(signer Signer, tenant string) error {
	if signer.Kid() == "" {
		return newError("config_invalid", "signature version 2: expected a signer with a kid")
	}
	if !isName(tenant) {
		return newError("config_invalid", "signature version 2: expected a tenant of 1 to 64 bytes")
	}
	return nil
}
