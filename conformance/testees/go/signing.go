package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"strconv"
	"strings"

	fractal "fractal-lba.example/sdk-go"
)

func init() {
	operations["canon.number"] = canonNumber
	operations["canon.string"] = canonString
	operations["canon.record"] = canonRecord
	operations["record.parse"] = recordParse
	operations["jcs.document"] = jcsDocument
	operations["id.derive"] = idDerive
	operations["sign.hmac"] = signHMAC
	operations["sign.ed25519"] = signEd25519
	operations["verify"] = verify
}

// small are the eight members of which canon.number and canon.string vary one.
func small() fractal.SignedMembers {
	return fractal.SignedMembers{
		PcsID: strings.Repeat("a", 64), MerkleRoot: strings.Repeat("b", 64), Epoch: 1,
		ShardID: "s", DHat: 1.25, CohStar: 0.5, R: 0.25, Budget: 0.125,
	}
}

func canonNumber(args members) (members, error) {
	signed, x := small(), args.double("f64")
	*map[string]*float64{
		"D_hat": &signed.DHat, "budget": &signed.Budget, "coh_star": &signed.CohStar,
		"r": &signed.R,
	}[args.text("member")] = x
	payload, err := signed.Payload()
	if err != nil {
		return nil, err
	}
	_, rest, _ := bytes.Cut(payload, []byte(`"`+args.text("member")+`":`))
	text, _, _ := bytes.Cut(rest, []byte(","))
	return members{"text": string(text), "nano": decimal(fractal.Nano(x))}, nil
}

func canonString(args members) (members, error) {
	signed := small()
	signed.ShardID = args.utf16("utf16")
	payload, err := signed.Payload()
	if err != nil {
		return nil, err
	}
	_, text, _ := bytes.Cut(payload, []byte(`"shard_id":`))
	return members{"utf8": hex.EncodeToString(text[:len(text)-1])}, nil
}

func canonRecord(args members) (members, error) {
	if args.text("entry") == "typed" {
		return canonTyped(args.under("values"))
	}
	record, err := fractal.Parse(args.bytes("json"))
	if err != nil {
		return nil, err
	}
	version := must(strconv.Atoi(args.text("sig_v")))
	seen, err := fractal.Canonicalize(record, version)
	if err != nil {
		return nil, err
	}
	answer := members{
		"payload": hex.EncodeToString(seen.Payload), "sha256": hex.EncodeToString(seen.Digest[:]),
	}
	if version == 2 {
		answer["body_sha256"] = seen.Body
	}
	return answer, nil
}

func canonTyped(values members) (members, error) {
	epoch, err := strconv.ParseUint(values.text("epoch"), 10, 64)
	if err != nil { // no caller in Go can pass what is no uint64
		return nil, &fractal.Error{Code: "epoch_invalid", Message: "epoch: expected a uint64"}
	}
	payload, err := fractal.SignedMembers{
		DHat: values.double("D_hat"), Budget: values.double("budget"),
		CohStar: values.double("coh_star"), R: values.double("r"), Epoch: epoch,
		MerkleRoot: values.utf16("merkle_root"), PcsID: values.utf16("pcs_id"),
		ShardID: values.utf16("shard_id"),
	}.Payload()
	if err != nil {
		return nil, err
	}
	digest := sha256.Sum256(payload)
	return members{
		"payload": hex.EncodeToString(payload), "sha256": hex.EncodeToString(digest[:]),
	}, nil
}

func recordParse(args members) (members, error) {
	_, err := fractal.ParseRecord(args.bytes("json"))
	return members{}, err
}

func jcsDocument(args members) (members, error) {
	document, err := fractal.ParseValue(args.bytes("json"), fractal.MaxRecordBytes)
	if err != nil {
		return nil, err
	}
	text, err := fractal.JCS(document)
	return members{"utf8": hex.EncodeToString(text)}, err
}

func idDerive(args members) (members, error) {
	record, err := fractal.Parse(args.bytes("json"))
	if err != nil {
		return nil, err
	}
	content, err := fractal.ContentDigest(record)
	root, _ := record.Text("merkle_root")
	epoch, _ := record.Integer("epoch")
	shard, _ := record.Text("shard_id")
	id := fractal.DerivePcsID(root, uint64(epoch), shard)
	return members{"pcs_id": id, "content": content}, err
}

func signHMAC(args members) (members, error) {
	options := []fractal.HMACOption{}
	if args.flag("allow_short_key") {
		options = append(options, fractal.WithShortKey())
	}
	signer, err := fractal.NewHMACSigner(args.bytes("key"), args.text("kid"), options...)
	if err != nil {
		return nil, err
	}
	return sign(args, signer)
}

func signEd25519(args members) (members, error) {
	signer, err := fractal.NewEd25519Signer(args.bytes("seed"), args.text("kid"))
	if err != nil {
		return nil, err
	}
	return sign(args, signer)
}

func sign(args members, signer fractal.Signer) (members, error) {
	record, err := fractal.Parse(args.bytes("json"))
	if err != nil {
		return nil, err
	}
	var made *fractal.SignedRecord
	if args.text("sig_v") == "1" {
		made, err = fractal.SignV1(record, signer)
	} else {
		made, err = fractal.Sign(record, signer, args.text("tenant"))
	}
	if err != nil {
		return nil, err
	}
	return members{"sig": made.Sig, "record": hex.EncodeToString(made.Body)}, nil
}

func verify(args members) (members, error) {
	keys := []fractal.Key{}
	for _, key := range args.list("keyring") {
		keys = append(keys, fractal.Key{
			Kid: key.text("kid"), Alg: key.text("alg"), Tenant: key.text("tenant"),
			Key: fractal.NewSecret(key.bytes("key")), AllowShortKey: true,
		})
	}
	ring, err := fractal.NewKeyring(keys...)
	if err != nil {
		return nil, err
	}
	options := []fractal.VerifyOption{fractal.WithDefaultKid(args.text("v1_default_kid"))}
	if args.flag("strict") {
		options = append(options, fractal.WithStrict())
	}
	if args.has("min_version") {
		options = append(options, fractal.WithMinSigVersion(int(args.number("min_version"))))
	}
	seen, err := fractal.Verify(args.bytes("json"), ring, options...)
	if err != nil {
		return nil, err
	}
	return members{"values": members{
		"D_hat": bits(seen.Values.DHat), "budget": bits(seen.Values.Budget),
		"coh_star": bits(seen.Values.CohStar), "r": bits(seen.Values.R),
	}}, nil
}
