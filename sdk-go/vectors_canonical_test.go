package fractal

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
)

func init() {
	reaches("canon.number", "members", numberByMembers)
	reaches("canon.number", "parts", numberByParts)
	reaches("canon.number", "record", numberByRecord)
	reaches("canon.number", "json", numberByJSON)
	reaches("canon.number", "jcs", numberByJCS)
	reaches("canon.string", "members", stringByMembers)
	reaches("canon.string", "record", stringByRecord)
	reaches("canon.string", "json", stringByJSON)
}

// smallMembers are BASE of the mutant list.
func smallMembers() SignedMembers {
	return SignedMembers{
		PcsID: strings.Repeat("a", 64), MerkleRoot: strings.Repeat("b", 64), Epoch: 1,
		ShardID: "s", DHat: 1.25, CohStar: 0.5, R: 0.25, Budget: 0.125,
	}
}

func (m *SignedMembers) set(name string, x float64) {
	switch name {
	case "D_hat":
		m.DHat = x
	case "budget":
		m.Budget = x
	case "coh_star":
		m.CohStar = x
	case "r":
		m.R = x
	}
}

func membersWith(args vectorArgs) SignedMembers {
	m := smallMembers()
	m.set(args.text("member"), args.double("f64"))
	return m
}

// numberIn cuts the text of a number out of a payload, and compares it with the parts.
func numberIn(payload []byte, args vectorArgs) (answer, error) {
	_, after, _ := bytes.Cut(payload, []byte(`"`+args.text("member")+`":`))
	text, _, _ := bytes.Cut(after, []byte(","))
	n := Nano(args.double("f64"))
	return answer{"text": string(text), "nano": strconv.FormatUint(n, 10)}, nil
}

func numberByMembers(args vectorArgs) (answer, error) {
	payload, err := membersWith(args).Payload()
	if err != nil {
		return nil, err
	}
	return numberIn(payload, args)
}

func numberByParts(args vectorArgs) (answer, error) {
	x := args.double("f64")
	index := slices.Index(floatNames[:], args.text("member"))
	if !(0 <= x && x <= floatsMax[index]) {
		return numberByMembers(args) // the parts do not judge the range
	}
	n := Nano(x)
	return answer{"text": NumberText(n), "nano": strconv.FormatUint(n, 10)}, nil
}

func numberByRecord(args vectorArgs) (answer, error) {
	seen, err := Canonicalize(wholeRecord(membersWith(args)), 1)
	if err != nil {
		return nil, err
	}
	return numberIn(seen.Payload, args)
}

// numberByJSON writes the double as a token with 17 digits, which reads as the same double.
func numberByJSON(args vectorArgs) (answer, error) {
	x := args.double("f64")
	if math.IsNaN(x) || math.IsInf(x, 0) {
		return numberByMembers(args) // no JSON text says so
	}
	text := smallJSON(args.text("member"), strconv.FormatFloat(x, 'e', 16, 64))
	document, err := Parse([]byte(text))
	if err != nil {
		return nil, err
	}
	seen, err := Canonicalize(document, 1)
	if err != nil {
		return nil, err
	}
	return numberIn(seen.Payload, args)
}

// smallJSON is BASE as JSON text with one member replaced.
func smallJSON(name, token string) string {
	members := map[string]string{
		"pcs_id": `"` + strings.Repeat(
			"a",
			64,
		) + `"`, "merkle_root": `"` + strings.Repeat("b", 64) + `"`,
		"epoch": "1", "shard_id": `"s"`, "D_hat": "1.25", "coh_star": "0.5", "r": "0.25",
		"budget": "0.125",
	}
	members[name] = token
	var parts []string
	for name, token := range members {
		parts = append(parts, `"`+name+`":`+token)
	}
	return "{" + strings.Join(parts, ",") + "}"
}

func numberByJCS(args vectorArgs) (answer, error) {
	got, err := numberByMembers(args)
	if err != nil {
		return nil, err
	}
	n, _ := strconv.ParseUint(got["nano"].(string), 10, 64)
	token := strconv.FormatFloat(fromNano(n), 'e', 16, 64)
	document, err := ParseValue([]byte("["+token+","+token+"]"), MaxRecordBytes)
	if err != nil {
		return nil, err
	}
	text, err := JCS(document)
	if want := fmt.Sprintf("[%s,%s]", got["text"], got["text"]); string(text) != want {
		return nil, fmt.Errorf("JCS wrote %s, not %s", text, want)
	}
	return got, err
}

// --- canon.string, canon.record -------------------------------------------------------------

func stringIn(payload []byte) (answer, error) {
	_, text, _ := bytes.Cut(payload, []byte(`"shard_id":`))
	return answer{"utf8": hex.EncodeToString(text[:len(text)-1])}, nil
}

func stringByMembers(args vectorArgs) (answer, error) {
	m := smallMembers()
	m.ShardID = fromUTF16(args.text("utf16"))
	payload, err := m.Payload()
	if err != nil {
		return nil, err
	}
	return stringIn(payload)
}

func stringByRecord(args vectorArgs) (answer, error) {
	m := smallMembers()
	m.ShardID = fromUTF16(args.text("utf16"))
	seen, err := Canonicalize(wholeRecord(m), 1)
	if err != nil {
		return nil, err
	}
	return stringIn(seen.Payload)
}

func stringByJSON(args vectorArgs) (answer, error) {
	var escaped strings.Builder
	for units := args.text("utf16"); units != ""; units = units[4:] {
		escaped.WriteString(`\u` + units[:4])
	}
	document, err := Parse([]byte(smallJSON("shard_id", `"`+escaped.String()+`"`)))
	if err != nil {
		return nil, err
	}
	seen, err := Canonicalize(document, 1)
	if err != nil {
		return nil, err
	}
	text, err := appendValue(nil, document.root.find("shard_id"))
	if got, _ := stringIn(seen.Payload); got["utf8"] != hex.EncodeToString(text) ||
		err != (*Error)(nil) {
		return nil, fmt.Errorf("JCS wrote %x", text)
	}
	return stringIn(seen.Payload)
}
