package fractal

// This file owns the typed record: its members, and its text. What a record must hold is in
// record_check.go.

import (
	"slices"
	"strconv"
)

// The constants of the format (spec/formats.md 1.2, 1.8).
const (
	Schema  = "fractal-lba-kakeya"
	Version = "0.1"

	Sticky    = "sticky"
	Mixed     = "mixed"
	NonSticky = "non_sticky"
)

// Ft holds the delivery conditions of a record; they are not part of its content.
type Ft struct {
	OutboxSeq   uint64
	Degraded    bool
	Fallbacks   []string
	ClockSkewMs int64
}

// Record holds one Proof-of-Computation Summary. It is checked whenever it is signed or written,
// and never changed by this package.
//
// Four members may be left zero, which none of them can be in the format: Schema, Version and
// Attempt have one usual value, and PcsID is derived. The last five belong to a signed record;
// zero is absent. Every other zero is a value.
type Record struct {
	MerkleRoot string
	Epoch      uint64
	ShardID    string
	SentAt     string
	Scales     []int64
	NJ         map[string]int64
	CohStar    float64
	VStar      []float64
	DHat       float64
	R          float64
	Regime     string
	Budget     float64
	Seed       uint64
	Attempt    uint64
	Ft         Ft
	Schema     string
	Version    string
	PcsID      string

	Sig      string
	SigV     int
	Alg      string
	Kid      string
	TenantID string
}

// ParseRecord reads a record from JSON text. Its errors are those of Parse, and those of the
// format with the JSON pointer of the member at fault.
func ParseRecord(data []byte) (Record, error) {
	document, err := parseObject(data, MaxRecordBytes)
	if err != nil {
		return Record{}, err
	}
	record, err := document.record(false)
	if err != nil {
		return Record{}, err
	}
	return *record, nil
}

// JSON writes the record in RFC 8785 form, its numbers as they are.
func (r Record) JSON() ([]byte, error) {
	if err := r.complete(); err != nil {
		return nil, err
	}
	text := r.text(nil)
	if r.Sig == "" {
		return text.json, nil
	}
	return text.signed(r.Sig), nil
}

// complete fills in what was left zero, and checks the rest. The receiver is a copy of the
// caller's record.
func (r *Record) complete() *Error {
	if r.Schema == "" {
		r.Schema = Schema
	}
	if r.Version == "" {
		r.Version = Version
	}
	if r.Attempt == 0 {
		r.Attempt = 1
	}
	if err := r.check(); err != nil {
		return err
	}
	if r.PcsID == "" {
		r.PcsID = DerivePcsID(r.MerkleRoot, r.Epoch, r.ShardID)
	}
	return nil
}

func (r Record) canonical(sigV int, head *signatureHead) (*Canonical, *Error) {
	if head != nil {
		r.Sig, r.SigV = "", head.sigV
		r.Alg, r.Kid, r.TenantID = head.alg, head.kid, head.tenant
	}
	if err := r.complete(); err != nil {
		return nil, err
	}
	signed := signedMembers{
		nanos: [signedFloats]uint64{
			dHat: Nano(r.DHat), budget: Nano(r.Budget), cohStar: Nano(r.CohStar), ratio: Nano(r.R),
		},
		epoch: r.Epoch, merkleRoot: r.MerkleRoot, pcsID: r.PcsID, shardID: r.ShardID,
	}
	seen := &Canonical{text: r.text(&signed)}
	return seen, seen.derive(&signed, sigV)
}

func (r Record) submittable() *Error {
	if err := r.complete(); err != nil {
		return err
	}
	return checkPcsID(r.PcsID, r.MerkleRoot, r.Epoch, r.ShardID)
}

// text writes a record that was checked, without sig: the members in the order of RFC 8785, the
// four signed numbers as they were rounded, if they were.
func (r *Record) text(signed *signedMembers) *recordText {
	size := 768 + len(r.ShardID) + 24*len(r.VStar) + 32*len(r.Scales)
	text := &recordText{json: make([]byte, 0, size)}
	number := func(index int, x float64) {
		if signed == nil {
			text.json = appendDouble(text.json, x)
		} else {
			text.json = appendNano(text.json, signed.nanos[index])
		}
	}
	put := func(literal string) { text.json = append(text.json, literal...) }
	put(`{"D_hat":`)
	number(dHat, r.DHat)
	put(`,"N_j":`)
	text.json = appendCounts(text.json, r.NJ)
	put(`,`)
	text.delivery(`"alg":`, r.Alg)
	start := len(text.json)
	put(`"attempt":`)
	text.json = append(strconv.AppendUint(text.json, r.Attempt, 10), ',')
	text.cutFrom(start)
	put(`"budget":`)
	number(budget, r.Budget)
	put(`,"coh_star":`)
	number(cohStar, r.CohStar)
	put(`,"epoch":`)
	text.json = append(strconv.AppendUint(text.json, r.Epoch, 10), ',')
	start = len(text.json)
	text.json = r.Ft.appendTo(text.json)
	text.cutFrom(start)
	text.delivery(`"kid":`, r.Kid)
	put(`"merkle_root":"`)
	put(r.MerkleRoot)
	put(`","pcs_id":"`)
	put(r.PcsID)
	put(`","r":`)
	number(ratio, r.R)
	put(`,"regime":"`)
	put(r.Regime)
	put(`","scales":`)
	text.json = appendIntegers(text.json, r.Scales)
	put(`,"schema":"`)
	put(r.Schema)
	put(`","seed":`)
	text.json = append(strconv.AppendUint(text.json, r.Seed, 10), ',')
	text.delivery(`"sent_at":`, r.SentAt)
	put(`"shard_id":`)
	text.json = append(appendString(text.json, r.ShardID), ',')
	text.sigAt = len(text.json)
	if r.SigV != 0 {
		put(`"sig_v":2,`)
		text.cutFrom(text.sigAt)
	}
	text.delivery(`"tenant_id":`, r.TenantID)
	put(`"v_star":`)
	text.json = appendDoubles(text.json, r.VStar)
	put(`,"version":"`)
	put(r.Version)
	put(`"}`)
	return text
}

// delivery writes a string that is no content, unless it is absent.
func (t *recordText) delivery(name, held string) {
	if held == "" {
		return
	}
	start := len(t.json)
	t.json = append(appendString(append(t.json, name...), held), ',')
	t.cutFrom(start)
}

// appendTo writes the member ft with the comma behind it.
func (f *Ft) appendTo(to []byte) []byte {
	to = append(to, `"ft":{"clock_skew_ms":`...)
	to = strconv.AppendInt(to, f.ClockSkewMs, 10)
	to = append(to, `,"degraded":`...)
	to = strconv.AppendBool(to, f.Degraded)
	to = append(to, `,"fallbacks":[`...)
	for index, fallback := range f.Fallbacks {
		if index > 0 {
			to = append(to, ',')
		}
		to = appendString(to, fallback)
	}
	to = append(to, `],"outbox_seq":`...)
	to = strconv.AppendUint(to, f.OutboxSeq, 10)
	return append(to, '}', ',')
}

func appendCounts(to []byte, counts map[string]int64) []byte {
	var room [MaxScales]string
	names := room[:0]
	for name := range counts {
		names = append(names, name)
	}
	slices.Sort(names)
	to = append(to, '{')
	for _, name := range names {
		to = append(append(append(to, '"'), name...), '"', ':')
		to = append(strconv.AppendInt(to, counts[name], 10), ',')
	}
	return endContainer(to, '}')
}

func appendIntegers(to []byte, integers []int64) []byte {
	to = append(to, '[')
	for _, n := range integers {
		to = append(strconv.AppendInt(to, n, 10), ',')
	}
	return endContainer(to, ']')
}

func appendDoubles(to []byte, doubles []float64) []byte {
	to = append(to, '[')
	for _, x := range doubles {
		to = append(appendDouble(to, x), ',')
	}
	return endContainer(to, ']')
}
