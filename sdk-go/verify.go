package fractal

// This file owns the order in which a verifier asks (spec/canonical.md 3.8, 3.10). The message
// names a key; what that key can do is the keyring's word, and keys are never tried in turn.

import "slices"

// version2Members are those that version 2 always carries (spec/canonical.md 4.3).
var version2Members = []string{"alg", "kid", "tenant_id"}

// VerifyOption changes what Verify takes.
type VerifyOption func(*verifyOptions)

type verifyOptions struct {
	strict     bool
	defaultKid string
	minVersion int
}

// WithStrict refuses a number that is not n / 10^9 (spec/canonical.md 3.8(4)).
func WithStrict() VerifyOption { return func(o *verifyOptions) { o.strict = true } }

// WithDefaultKid names the key of version-1 records without a kid.
func WithDefaultKid(kid string) VerifyOption {
	return func(o *verifyOptions) { o.defaultKid = kid }
}

// WithMinSigVersion refuses records of a lower version; it is 1 unless set.
func WithMinSigVersion(version int) VerifyOption {
	return func(o *verifyOptions) { o.minVersion = version }
}

// Verified holds a record whose signature was checked. The four numbers of Record, and Values,
// are the signed ones.
type Verified struct {
	Record    *Document
	Values    Values
	Key       Key
	SigV      int
	Canonical *Canonical
}

// Verify checks the signature of a record's JSON text. Its errors are of ErrValidation for text
// or members outside the specification, ErrAuth tenant_mismatch, and ErrSignature for everything
// about keys and signatures.
func Verify(recordJSON []byte, ring Keyring, options ...VerifyOption) (*Verified, error) {
	o := verifyOptions{minVersion: 1}
	for _, option := range options {
		option(&o)
	}
	document, fault := parseObject(recordJSON, MaxRecordBytes)
	if fault != nil {
		return nil, fault
	}
	verified, fault := document.verify(ring, &o)
	if fault != nil {
		return nil, fault
	}
	if err := CheckSignature(
		verified.Key, verified.Canonical.Digest[:], document.text("sig"),
	); err != nil {
		return nil, err
	}
	if fault := verified.settle(document, o.strict); fault != nil {
		return nil, fault
	}
	return verified, nil
}

// verify does what comes before the signature itself.
func (d *Document) verify(ring Keyring, o *verifyOptions) (*Verified, *Error) {
	sig, fault := d.required("sig")
	if fault != nil {
		return nil, fault
	}
	if sig.kind != stringKind {
		return nil, typeFault("sig", "a string")
	}
	version, fault := d.signatureVersion()
	if fault != nil {
		return nil, fault
	}
	if version < o.minVersion {
		return nil, versionFault("a later version is required")
	}
	key, fault := d.chooseKey(version, ring, o.defaultKid)
	if fault != nil {
		return nil, fault
	}
	seen, fault := d.canonical(version, nil)
	if fault != nil {
		return nil, fault
	}
	return &Verified{Values: seen.Values, Key: key, SigV: version, Canonical: seen}, nil
}

// signatureVersion is 1 without sig_v, and 2 with the integer token 2 (spec/canonical.md 4.5).
func (d *Document) signatureVersion() (int, *Error) {
	claimed := d.root.find("sig_v")
	if claimed == nil {
		return 1, nil
	}
	if claimed.kind == integerKind && claimed.text == "2" {
		return 2, nil
	}
	return 0, versionFault("expected 2, or no such member")
}

// chooseKey finds the one key of a record and holds alg and tenant_id against it.
func (d *Document) chooseKey(version int, ring Keyring, defaultKid string) (Key, *Error) {
	named := map[string]string{}
	for _, name := range version2Members {
		found, fault := d.required(name)
		switch {
		case fault != nil && version == 2:
			return Key{}, fault
		case fault == nil && found.kind != stringKind:
			return Key{}, typeFault(name, "a string")
		case fault == nil:
			named[name] = found.text
		}
	}
	kid, ok := named["kid"]
	if !ok {
		kid = defaultKid
	}
	key, known := ring[kid]
	if !known {
		return Key{}, newError("kid_unknown", "kid: expected a known key").at("/kid")
	}
	if alg, ok := named["alg"]; ok && alg != key.Alg {
		return Key{}, newError("alg_mismatch", "alg: expected %s", key.Alg).at("/alg")
	}
	if tenant, ok := named["tenant_id"]; ok && (tenant == "" || tenant != key.Tenant) {
		return Key{}, newError("tenant_mismatch", "tenant_id: expected the tenant of the key").
			at("/tenant_id")
	}
	return key, nil
}

// settle puts the signed numbers in the place of the received ones.
func (v *Verified) settle(document *Document, strict bool) *Error {
	root := document.root
	root.in = slices.Clone(root.in)
	values := [signedFloats]float64{v.Values.DHat, v.Values.Budget, v.Values.CohStar, v.Values.R}
	for index, name := range floatNames {
		received := root.find(name)
		if strict && received.double() != values[index] {
			return newError("number_out_of_range", "%s: expected %v", name, values[index]).
				at("/" + name)
		}
		*received = value{kind: doubleKind, text: NumberText(Nano(values[index]))}
	}
	v.Record = &Document{root}
	return nil
}
