package fractal

// This file owns the two payloads and the forms that are hashed (spec/canonical.md 3.5, 4, 5).

import (
	"crypto/sha256"
	"encoding/hex"
	"math"
	"slices"
	"strconv"
)

// MaxShardIDBytes is the longest shard_id, in bytes of UTF-8 after unescaping
// (spec/canonical.md 3.1).
const MaxShardIDBytes = 256

// The signed numbers, in the order in which the payload has them, and the largest value of each
// (spec/canonical.md 3.1).
const (
	dHat = iota
	budget
	cohStar
	ratio
	signedFloats
)

var (
	floatNames = [signedFloats]string{"D_hat", "budget", "coh_star", "r"}
	floatsMax  = [signedFloats]float64{3.5, 1, 1.05, 1}
)

// Values are the four signed numbers as every later step must use them: n / 10^9
// (spec/canonical.md 3.8(4)).
type Values struct{ DHat, Budget, CohStar, R float64 }

// SignedMembers are the eight members that every signature covers.
type SignedMembers struct {
	DHat, Budget, CohStar, R   float64
	Epoch                      uint64
	MerkleRoot, PcsID, ShardID string
}

// Payload gives the bytes whose SHA-256 version 1 signs (spec/canonical.md 3.5).
func (m SignedMembers) Payload() ([]byte, error) {
	signed := signedMembers{
		epoch: m.Epoch, merkleRoot: m.MerkleRoot, pcsID: m.PcsID, shardID: m.ShardID,
	}
	for index, x := range [signedFloats]float64{m.DHat, m.Budget, m.CohStar, m.R} {
		n, err := signedNano(index, x)
		if err != nil {
			return nil, err
		}
		signed.nanos[index] = n
	}
	if m.Epoch > maxSafeInteger {
		return nil, epochFault("epoch_invalid")
	}
	for index, name := range textNames {
		if err := checkSignedText(name, *signed.texts()[index]); err != nil {
			return nil, err
		}
	}
	return signed.appendPayload(nil, ""), nil
}

// signedMembers are the eight members, checked and rounded.
type signedMembers struct {
	nanos                      [signedFloats]uint64
	epoch                      uint64
	merkleRoot, pcsID, shardID string
}

// textNames are the signed strings, in the order in which they are read.
var textNames = [...]string{"merkle_root", "pcs_id", "shard_id"}

func (s *signedMembers) texts() [len(textNames)]*string {
	return [...]*string{&s.merkleRoot, &s.pcsID, &s.shardID}
}

// signedNano rounds a signed number; its range is tested before (spec/canonical.md 3.2(2)).
func signedNano(index int, x float64) (uint64, *Error) {
	if x >= 0 && x <= floatsMax[index] {
		return Nano(x), nil
	}
	code := "number_out_of_range"
	if math.IsNaN(x) || math.IsInf(x, 0) {
		code = "number_not_finite"
	}
	name := floatNames[index]
	return 0, newError(code, "%s: expected 0 <= x <= %v, got %v", name, floatsMax[index], x).
		at("/" + name)
}

func epochFault(code string) *Error {
	return newError(code, "epoch: expected an integer from 0 to 2^53 - 1").at("/epoch")
}

// checkSignedText holds one of the three signed strings to its domain.
func checkSignedText(name, text string) *Error {
	if name != "shard_id" {
		if !isHex(text, 64) {
			return newError(
				"hex_invalid",
				"%s: expected 64 characters 0-9 a-f",
				name,
			).at("/" + name)
		}
		return nil
	}
	if !isText(text) {
		return newError("string_surrogate", "shard_id: expected UTF-8").at("/shard_id")
	}
	if size := len(text); size < 1 || size > MaxShardIDBytes {
		return newError("string_length", "shard_id: expected 1 to %d bytes, got %d",
			MaxShardIDBytes, size).at("/shard_id")
	}
	return nil
}

// isHex says whether a text is so many lower-case hexadecimal digits.
func isHex(text string, length int) bool {
	if len(text) != length {
		return false
	}
	for index := range len(text) {
		if c := text[index]; (c < '0' || '9' < c) && (c < 'a' || 'f' < c) {
			return false
		}
	}
	return true
}

// appendPayload writes the payload of version 2 with the hash `body`, of version 1 without one.
func (s *signedMembers) appendPayload(to []byte, body string) []byte {
	to = appendNano(append(to, `{"D_hat":`...), s.nanos[dHat])
	if body != "" {
		to = append(append(append(to, `,"body":"`...), body...), '"')
	}
	to = appendNano(append(to, `,"budget":`...), s.nanos[budget])
	to = appendNano(append(to, `,"coh_star":`...), s.nanos[cohStar])
	to = strconv.AppendUint(append(to, `,"epoch":`...), s.epoch, 10)
	to = append(append(to, `,"merkle_root":"`...), s.merkleRoot...)
	to = append(append(to, `","pcs_id":"`...), s.pcsID...)
	to = appendNano(append(to, `","r":`...), s.nanos[ratio])
	to = appendString(append(to, `,"shard_id":`...), s.shardID)
	if body != "" {
		to = append(to, `,"sig_v":2`...)
	}
	return append(to, '}')
}

func (s *signedMembers) values() Values {
	return Values{
		DHat: fromNano(s.nanos[dHat]), Budget: fromNano(s.nanos[budget]),
		CohStar: fromNano(s.nanos[cohStar]), R: fromNano(s.nanos[ratio]),
	}
}

// --- one record, read once ------------------------------------------------------------------

// RecordSource is what can be signed: a Record, or a *Document with the members of one.
type RecordSource interface {
	// canonical reads a record for one signature version. A head that is not nil takes the place
	// of the members that carried a signature before.
	canonical(sigV int, head *signatureHead) (*Canonical, *Error)
	// submittable says what a client asks beyond the signed members: the whole format, and the
	// derived pcs_id.
	submittable() *Error
}

// signatureHead holds the members that version 2 signs beside those of the record; of version 1,
// those that say who signed. "" is a member that is absent.
type signatureHead struct {
	sigV             int // 0: absent
	alg, kid, tenant string
}

// Canonical holds what is derived from the text of one record.
type Canonical struct {
	// Payload are the bytes whose SHA-256, Digest, is signed.
	Payload []byte
	Digest  [sha256.Size]byte
	// Body is the hash of the whole record, 64 hexadecimal digits; "" in version 1, which signs
	// eight members and evaluates no other number.
	Body   string
	Values Values

	members []member // of a document: without sig, the four numbers rounded
	text    *recordText
	pcsID   string
}

// Canonicalize reads a record for signature version 1 or 2 (spec/canonical.md 3, 4).
func Canonicalize(record RecordSource, sigV int) (*Canonical, error) {
	if sigV != 1 && sigV != 2 {
		return nil, versionFault("expected version 1 or 2")
	}
	seen, err := record.canonical(sigV, nil)
	if err != nil {
		return nil, err
	}
	return seen, nil
}

func versionFault(what string) *Error {
	return newError("sig_version_unsupported", "sig_v: %s", what).at("/sig_v")
}

// Content hashes what the record holds, not how it came: 64 hexadecimal digits, the same for
// every signature, and the idempotency key (spec/canonical.md 5). Its only error is
// number_out_of_range.
func (c *Canonical) Content() (string, error) {
	text, err := c.recordText()
	if err != nil {
		return "", err
	}
	return text.content(), nil
}

// derive fills in payload and digest.
func (c *Canonical) derive(signed *signedMembers, sigV int) *Error {
	c.Values, c.pcsID = signed.values(), signed.pcsID
	if sigV == 2 {
		text, err := c.recordText()
		if err != nil {
			return err
		}
		c.Body = text.body()
	}
	c.Payload = signed.appendPayload(make([]byte, 0, 352+len(signed.shardID)), c.Body)
	c.Digest = sha256.Sum256(c.Payload)
	return nil
}

func (c *Canonical) recordText() (*recordText, *Error) {
	if c.text != nil {
		return c.text, nil
	}
	text := recordText{json: []byte{'{'}}
	for _, next := range sorted(c.members) {
		start := len(text.json)
		var err *Error
		text.json = append(appendString(text.json, next.name), ':')
		if text.json, err = appendValue(text.json, &next.value); err != nil {
			return nil, err
		}
		text.json = append(text.json, ',')
		if slices.Contains(notContent[:], next.name) {
			text.cutFrom(start)
		}
		if compareNames(next.name, "sig") < 0 {
			text.sigAt = len(text.json)
		}
	}
	c.text = text.end()
	return c.text, nil
}

// canonical reads the eight members of a document; the others are evaluated only for version 2.
func (d *Document) canonical(sigV int, head *signatureHead) (*Canonical, *Error) {
	signed, err := d.signedMembers()
	if err != nil {
		return nil, err
	}
	seen := &Canonical{members: make([]member, 0, len(d.root.in)+4)}
	for _, next := range d.root.in {
		if next.name == "sig" || (head != nil && slices.Contains(headNames[:], next.name)) {
			continue
		}
		if index := slices.Index(floatNames[:], next.name); index >= 0 {
			next.value = value{kind: doubleKind, text: NumberText(signed.nanos[index])}
		}
		seen.members = append(seen.members, next)
	}
	if head != nil {
		seen.members = append(seen.members, head.members()...)
	}
	if err := seen.derive(signed, sigV); err != nil {
		return nil, err
	}
	return seen, nil
}

// headNames are the members of a signatureHead.
var headNames = [...]string{"alg", "kid", "sig_v", "tenant_id"}

func (h *signatureHead) members() []member {
	var members []member
	for index, text := range [...]string{h.alg, h.kid, "", h.tenant} {
		if text != "" {
			held := value{kind: stringKind, text: text}
			members = append(members, member{name: headNames[index], value: held})
		}
	}
	if h.sigV != 0 {
		held := value{kind: integerKind, text: strconv.Itoa(h.sigV)}
		members = append(members, member{name: "sig_v", value: held})
	}
	return members
}

// signedMembers reads the eight members (spec/canonical.md 3.1).
func (d *Document) signedMembers() (*signedMembers, *Error) {
	var signed signedMembers
	for index, name := range floatNames {
		found, err := d.required(name)
		if err != nil {
			return nil, err
		}
		if !found.isNumber() {
			return nil, typeFault(name, "a number")
		}
		// A token cannot be infinite, only too large.
		x := max(min(found.double(), math.MaxFloat64), -math.MaxFloat64)
		if signed.nanos[index], err = signedNano(index, x); err != nil {
			return nil, err
		}
	}
	epoch, err := d.required("epoch")
	if err != nil {
		return nil, err
	}
	if !epoch.isNumber() {
		return nil, epochFault("member_type")
	}
	n, ok := epoch.integer()
	if !ok || n < 0 {
		return nil, epochFault("epoch_invalid")
	}
	signed.epoch = uint64(n)
	for index, name := range textNames {
		found, err := d.required(name)
		if err != nil {
			return nil, err
		}
		if found.kind != stringKind {
			return nil, typeFault(name, "a string")
		}
		if err := checkSignedText(name, found.text); err != nil {
			return nil, err
		}
		*signed.texts()[index] = found.text
	}
	return &signed, nil
}

func (d *Document) required(name string) (*value, *Error) {
	found := d.root.find(name)
	if found == nil {
		return nil, newError("member_missing", "%s is missing", name).at("/" + name)
	}
	return found, nil
}

func typeFault(name, expected string) *Error {
	return newError("member_type", "%s: expected %s", name, expected).at("/" + name)
}

// --- the text of a record -------------------------------------------------------------------

// notContent are the members that say how a record was delivered (spec/canonical.md 5.1).
var notContent = [...]string{
	"alg", "attempt", "ft", "kid", "sent_at", "sig", "sig_v", "tenant_id",
}

// recordText is a record without sig in RFC 8785 form, written once for everything that needs
// it: the hash of all of it, the hash of its content, and the text that is sent.
type recordText struct {
	json  []byte
	sigAt int // where the member sig stands in order
	cuts  [len(notContent)]struct{ start, end int }
	cut   int // how many cuts there are
}

// cutFrom says that what was written since start is not content.
func (t *recordText) cutFrom(start int) {
	t.cuts[t.cut].start, t.cuts[t.cut].end = start, len(t.json)
	t.cut++
}

// end closes the object, whose last member has left a comma.
func (t *recordText) end() *recordText {
	t.json = endContainer(t.json, '}')
	return t
}

func (t *recordText) body() string { return hashText(t.json) }

func (t *recordText) content() string {
	var room [1024]byte // most records fit, and need no memory that is collected
	kept := room[:0]
	start := 0
	for _, cut := range t.cuts[:t.cut] {
		kept = append(kept, t.json[start:cut.start]...)
		start = cut.end
	}
	kept = append(kept, t.json[start:]...)
	kept[len(kept)-1] = '}' // the comma of the member before, if the last one was cut
	return hashText(kept)
}

// hashText is a SHA-256 in lower-case hexadecimal.
func hashText(text []byte) string {
	sum := sha256.Sum256(text)
	var digits [2 * sha256.Size]byte
	hex.Encode(digits[:], sum[:])
	return string(digits[:])
}

// signed writes the record that is sent.
func (t *recordText) signed(sig string) []byte {
	text := make([]byte, 0, len(t.json)+len(sig)+len(`,"sig":""`))
	text = append(text, t.json[:t.sigAt]...)
	text = append(append(append(text, `"sig":"`...), sig...), '"')
	if t.sigAt == len(t.json) {
		text[t.sigAt-1] = ','
		return append(text, '}')
	}
	return append(append(text, ','), t.json[t.sigAt:]...)
}
