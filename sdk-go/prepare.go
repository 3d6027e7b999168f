package fractal

// This file turns what a caller submits into frozen bytes: checked whole, with its derived id, and
// signed as the client was told. Pure but for the caller's Signer.

// Submittable is what a client submits: a Record, a *Document with the members of one, or a
// *SignedRecord, which goes out byte for byte.
type Submittable interface {
	// signedBy checks a record and signs a copy of it; a signed one stays as it is.
	signedBy(s *settings) (*SignedRecord, error)
}

// prepare checks and signs a copy of a record; a signed one stays as it is.
func (c *Client) prepare(record Submittable) (*SignedRecord, error) {
	if record == nil {
		return nil, newError("member_type", "record: expected a record, got nil").at("")
	}
	signed, err := record.signedBy(c.settings)
	if err != nil {
		return nil, err
	}
	if limit := c.settings.maxRecordBytes; len(signed.Body) > limit {
		return nil, newError("payload_too_large",
			"record: expected at most %d bytes, got %d", limit, len(signed.Body))
	}
	return signed, nil
}

func (r Record) signedBy(s *settings) (*SignedRecord, error) {
	if err := r.submittable(); err != nil {
		return nil, err
	}
	if s.signer != nil {
		return signAs(r, s.signer, s.sigVersion, s.tenant)
	}
	if r.Sig == "" {
		return nil, notSigned()
	}
	text, err := r.JSON()
	if err != nil {
		return nil, err
	}
	return ParseSigned(text)
}

func (d *Document) signedBy(s *settings) (*SignedRecord, error) {
	if d == nil {
		return nil, newError("member_type", "record: expected a record, got nil").at("")
	}
	d = d.withID()
	if err := d.submittable(); err != nil {
		return nil, err
	}
	if s.signer != nil {
		return s.sign(d)
	}
	if !d.Has("sig") {
		return nil, notSigned()
	}
	text, err := JCS(d)
	if err != nil {
		return nil, err
	}
	return ParseSigned(text)
}

// withID derives the pcs_id of a record that has none.
func (d *Document) withID() *Document {
	root, isRoot := d.Text("merkle_root")
	epoch, isEpoch := d.Integer("epoch")
	shard, isShard := d.Text("shard_id")
	if d.Has("pcs_id") || !isRoot || !isEpoch || !isShard || epoch < 0 {
		return d
	}
	pcsID := DerivePcsID(root, uint64(epoch), shard)
	id := member{"pcs_id", value{kind: stringKind, text: pcsID}}
	all := append([]member{id}, d.root.in...)
	return &Document{value{kind: objectKind, in: all}}
}

// signedBy reads the bytes again: whoever made the value, they are what counts.
func (r *SignedRecord) signedBy(*settings) (*SignedRecord, error) {
	if r == nil {
		return nil, newError("member_type", "record: expected a record, got nil").at("")
	}
	document, err := Parse(r.Body)
	if err != nil {
		return nil, err
	}
	if err := document.submittable(); err != nil {
		return nil, err
	}
	return ParseSigned(r.Body)
}

func (s *settings) sign(document *Document) (*SignedRecord, error) {
	return signAs(document, s.signer, s.sigVersion, s.tenant)
}

func notSigned() *Error {
	return newError("member_missing", "sig is missing, and the client has no signer").at("")
}
