package fractal

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strconv"
)

func init() {
	reaches("canon.record", "values", recordByValues)
	reaches("canon.record", "record", recordByRecord)
	reaches("canon.record", "sign", recordBySign)
	reaches("record.parse", "check", parseByDocument)
	reaches("record.parse", "record", parseByRecord)
	reaches("jcs.document", "document", jcsByDocument)
	reaches("jcs.document", "body", jcsByBody)
	reaches("id.derive", "values", idByValues)
	reaches("id.derive", "sign", idBySign)
	reaches("sign.hmac", "json", signedBy(hmacSigner))
	reaches("sign.hmac", "record", signedAsRecord(hmacSigner))
	reaches("sign.ed25519", "json", signedBy(ed25519Signer))
	reaches("sign.ed25519", "record", signedAsRecord(ed25519Signer))
	reaches("verify", "verify", verified)
}

// wholeRecord is a record in every member that the eight-member vectors do not have.
func wholeRecord(m SignedMembers) Record {
	return Record{
		MerkleRoot: m.MerkleRoot, Epoch: m.Epoch, ShardID: m.ShardID, PcsID: m.PcsID,
		DHat: m.DHat, Budget: m.Budget, CohStar: m.CohStar, R: m.R,
		SentAt: "2026-01-15T12:00:00Z", Scales: []int64{2, 4},
		NJ: map[string]int64{"2": 4, "4": 16}, VStar: []float64{0.6, 0.8}, Regime: Mixed,
	}
}

func canonicalAnswer(record RecordSource, version int) (answer, error) {
	seen, err := Canonicalize(record, version)
	if err != nil {
		return nil, err
	}
	got := answer{
		"payload": hex.EncodeToString(seen.Payload), "sha256": hex.EncodeToString(seen.Digest[:]),
	}
	if version == 2 {
		got["body_sha256"] = seen.Body
	}
	return got, nil
}

// typedMembers gives the values of a typed case their types; what no uint64 holds is no epoch.
func typedMembers(args vectorArgs) (SignedMembers, error) {
	values := args.under("values")
	epoch, err := strconv.ParseUint(values.text("epoch"), 10, 64)
	if err != nil {
		return SignedMembers{}, epochFault("epoch_invalid")
	}
	return SignedMembers{
		DHat: values.double("D_hat"), Budget: values.double("budget"),
		CohStar: values.double("coh_star"), R: values.double("r"), Epoch: epoch,
		MerkleRoot: fromUTF16(values.text("merkle_root")), PcsID: fromUTF16(values.text("pcs_id")),
		ShardID: fromUTF16(values.text("shard_id")),
	}, nil
}

func recordByValues(args vectorArgs) (answer, error) {
	if args.text("entry") == "typed" {
		m, err := typedMembers(args)
		if err != nil {
			return nil, err
		}
		payload, err := m.Payload()
		if err != nil {
			return nil, err
		}
		digest := sha256.Sum256(payload)
		return answer{
			"payload": hex.EncodeToString(payload), "sha256": hex.EncodeToString(digest[:]),
		}, nil
	}
	document, err := Parse(args.bytes("json"))
	if err != nil {
		return nil, err
	}
	return canonicalAnswer(document, int(args.number("sig_v")))
}

func recordByRecord(args vectorArgs) (answer, error) {
	if args.text("entry") != "typed" {
		return recordByValues(args)
	}
	m, err := typedMembers(args)
	if err != nil {
		return nil, err
	}
	if m.PcsID == "" {
		return recordByValues(args) // in a Record it is derived
	}
	return canonicalAnswer(wholeRecord(m), 1)
}

// recordBySign sees that a signer gets the digest of the same payload.
func recordBySign(args vectorArgs) (answer, error) {
	got, err := recordByValues(args)
	if err != nil || args.text("entry") == "typed" || args.text("sig_v") != "1" {
		return got, err
	}
	document, err := Parse(args.bytes("json"))
	if err != nil {
		return nil, err
	}
	if _, err := JCS(document); err != nil {
		return got, nil // it has a payload, but no form in which it could travel
	}
	var digest []byte
	signer, err := NewFuncSigner(HMAC, "", func(given []byte) ([]byte, error) {
		digest = slices.Clone(given)
		return make([]byte, 32), nil
	})
	if err != nil {
		return nil, err
	}
	if _, err := SignV1(document, signer); err != nil {
		return nil, err
	}
	got["sha256"] = hex.EncodeToString(digest)
	return got, nil
}

// --- record.parse, jcs.document, id.derive --------------------------------------------------

func parseByDocument(args vectorArgs) (answer, error) {
	document, err := Parse(args.bytes("json"))
	if err != nil {
		return nil, err
	}
	if _, fault := document.record(false); fault != nil {
		return nil, fault
	}
	return answer{}, nil
}

// parseByRecord also sees that a typed record has the text of the document it was read from.
func parseByRecord(args vectorArgs) (answer, error) {
	record, err := ParseRecord(args.bytes("json"))
	if err != nil {
		return nil, err
	}
	text, err := record.JSON()
	if err != nil {
		return nil, err
	}
	document, err := Parse(args.bytes("json"))
	if err != nil {
		return nil, err
	}
	if want, err := JCS(document); err != nil || !bytes.Equal(want, text) {
		return nil, fmt.Errorf("JSON wrote %s, not %s (%v)", text, want, err)
	}
	return answer{}, nil
}

func jcsByDocument(args vectorArgs) (answer, error) {
	document, err := ParseValue(args.bytes("json"), MaxRecordBytes)
	if err != nil {
		return nil, err
	}
	text, err := JCS(document)
	if err != nil {
		return nil, err
	}
	return answer{"utf8": hex.EncodeToString(text)}, nil
}

// jcsByBody: inside a version-2 record a document has the same form, and the same faults.
func jcsByBody(args vectorArgs) (answer, error) {
	found, fault := scan(args.bytes("json"), MaxRecordBytes)
	if fault != nil {
		return nil, fault
	}
	document, err := Parse([]byte(smallJSON("budget", "0.125")))
	if err != nil {
		return nil, err
	}
	document.root.in = append(document.root.in, member{name: "x", value: found})
	seen, err := Canonicalize(document, 2)
	if err != nil {
		return nil, err
	}
	_, text, _ := bytes.Cut(seen.text.signed("s"), []byte(`,"x":`))
	return answer{"utf8": hex.EncodeToString(text[:len(text)-1])}, nil
}

func idByValues(args vectorArgs) (answer, error) {
	document, err := Parse(args.bytes("json"))
	if err != nil {
		return nil, err
	}
	content, err := ContentDigest(document)
	if err != nil {
		return nil, err
	}
	epoch, _ := document.Integer("epoch")
	id := DerivePcsID(document.text("merkle_root"), uint64(epoch), document.text("shard_id"))
	return answer{"pcs_id": id, "content": content}, nil
}

func idBySign(args vectorArgs) (answer, error) {
	got, err := idByValues(args)
	if err != nil {
		return nil, err
	}
	document, err := Parse(args.bytes("json"))
	if err != nil {
		return nil, err
	}
	signer, err := NewHMACSigner(make([]byte, 32), "any")
	if err != nil {
		return nil, err
	}
	made, err := Sign(document, signer, "any")
	if err != nil {
		return nil, err
	}
	got["content"] = made.Content
	return got, nil
}

// --- sign, verify ---------------------------------------------------------------------------

func hmacSigner(args vectorArgs) (Signer, error) {
	var options []HMACOption
	if args.text("allow_short_key") == "true" {
		options = append(options, WithShortKey())
	}
	return NewHMACSigner(args.bytes("key"), args.text("kid"), options...)
}

func ed25519Signer(args vectorArgs) (Signer, error) {
	return NewEd25519Signer(args.bytes("seed"), args.text("kid"))
}

func signBy(
	make func(vectorArgs) (Signer, error), args vectorArgs, record RecordSource,
) (*SignedRecord, error) {
	signer, err := make(args)
	if err != nil {
		return nil, err
	}
	if args.text("sig_v") == "1" {
		return SignV1(record, signer)
	}
	return Sign(record, signer, args.text("tenant"))
}

func signedAnswer(made *SignedRecord) (answer, error) {
	document, err := Parse(made.Body)
	if err != nil {
		return nil, err
	}
	if text, err := JCS(document); err != nil || !bytes.Equal(text, made.Body) {
		return nil, fmt.Errorf("the body is not in RFC 8785 form: %s", made.Body)
	}
	if document.text("sig") != made.Sig || document.text("kid") != made.Kid ||
		document.text("tenant_id") != made.Tenant || document.text("pcs_id") != made.PcsID {
		return nil, fmt.Errorf("the signed record says other than its body: %+v", made)
	}
	return answer{"sig": made.Sig, "record": hex.EncodeToString(made.Body)}, nil
}

func signedBy(make func(vectorArgs) (Signer, error)) func(vectorArgs) (answer, error) {
	return func(args vectorArgs) (answer, error) {
		document, err := Parse(args.bytes("json"))
		if err != nil {
			return nil, err
		}
		before, _ := JCS(document)
		made, err := signBy(make, args, document)
		if err != nil {
			return nil, err
		}
		if after, _ := JCS(document); !bytes.Equal(before, after) {
			return nil, fmt.Errorf("signing changed the caller's record")
		}
		return signedAnswer(made)
	}
}

// signedAsRecord is the typed way, where the record is a whole one; its bytes are the same.
func signedAsRecord(make func(vectorArgs) (Signer, error)) func(vectorArgs) (answer, error) {
	byJSON := signedBy(make)
	return func(args vectorArgs) (answer, error) {
		record, err := ParseRecord(args.bytes("json"))
		if err != nil {
			return byJSON(args) // eight members are no whole record
		}
		made, err := signBy(make, args, record)
		if err != nil {
			return nil, err
		}
		again, err := ParseSigned(made.Body)
		if err != nil {
			return nil, err
		}
		if first, second := fmt.Sprint(*made), fmt.Sprint(*again); first != second {
			return nil, fmt.Errorf("read again: %s, not %s", second, first)
		}
		return signedAnswer(made)
	}
}

func verified(args vectorArgs) (answer, error) {
	var keys []Key
	for _, key := range args.list("keyring") {
		keys = append(keys, Key{
			Kid: key.text("kid"), Alg: key.text("alg"), Key: NewSecret(key.bytes("key")),
			Tenant: key.text("tenant"), AllowShortKey: true,
		})
	}
	ring, err := NewKeyring(keys...)
	if err != nil {
		return nil, err
	}
	options := []VerifyOption{WithDefaultKid(args.text("v1_default_kid"))}
	if args.text("strict") == "true" {
		options = append(options, WithStrict())
	}
	if args.text("min_version") != "" {
		options = append(options, WithMinSigVersion(int(args.number("min_version"))))
	}
	seen, err := Verify(args.bytes("json"), ring, options...)
	if err != nil {
		return nil, err
	}
	values := answer{}
	for index, x := range [signedFloats]float64{
		seen.Values.DHat, seen.Values.Budget, seen.Values.CohStar, seen.Values.R,
	} {
		values[floatNames[index]] = bits(x)
		if kept, _ := seen.Record.Number(floatNames[index]); bits(kept) != bits(x) {
			return nil, fmt.Errorf("the record keeps what was not signed: %v", kept)
		}
	}
	return answer{"values": values}, nil
}
