// Command naive_go signs as a day's work in Go looks: the right rounding, and encoding/json for
// everything else. A real program, wrong on purpose: see family I of list.toml.
package main

import (
	"bufio"
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"math"
	"os"
	"regexp"
	"runtime"
	"strconv"
	"unicode/utf16"
)

type object = map[string]any

var (
	floats  = []string{"D_hat", "budget", "coh_star", "r"}
	bounds  = map[string]float64{"D_hat": 3.5, "budget": 1, "coh_star": 1.05, "r": 1}
	isHex64 = regexp.MustCompile(`^[0-9a-f]{64}$`)
)

// record is what a program declares that wants the eight members and no more.
type record struct {
	DHat       float64 `json:"D_hat"`
	Body       string  `json:"body,omitempty"`
	Budget     float64 `json:"budget"`
	CohStar    float64 `json:"coh_star"`
	Epoch      int64   `json:"epoch"`
	MerkleRoot string  `json:"merkle_root"`
	PcsID      string  `json:"pcs_id"`
	R          float64 `json:"r"`
	ShardID    string  `json:"shard_id"`
	SigV       int     `json:"sig_v,omitempty"`
}

func (r *record) float(name string) *float64 {
	members := map[string]*float64{
		"D_hat": &r.DHat, "budget": &r.Budget, "coh_star": &r.CohStar, "r": &r.R,
	}
	return members[name]
}

func rounded(name string, x float64) (float64, error) {
	if math.IsNaN(x) || math.IsInf(x, 0) {
		return 0, errors.New("number_not_finite")
	}
	if x < 0 || x > bounds[name] {
		return 0, errors.New("number_out_of_range")
	}
	p := float64(x * 1e9)
	n := math.Floor(p)
	if p-n >= 0.5 {
		n++
	}
	if n == 0 {
		return x * 0, nil // keeps the sign of zero, as nobody notices
	}
	return n / 1e9, nil
}

func (r *record) check() error {
	for _, name := range floats {
		value, err := rounded(name, *r.float(name))
		if err != nil {
			return err
		}
		*r.float(name) = value
	}
	if r.Epoch < 0 || r.Epoch >= 1<<53 {
		return errors.New("epoch_invalid")
	}
	if !isHex64.MatchString(r.MerkleRoot) || !isHex64.MatchString(r.PcsID) {
		return errors.New("hex_invalid")
	}
	if len(r.ShardID) < 1 || len(r.ShardID) > 256 {
		return errors.New("string_length")
	}
	return nil
}

func encode(value any) []byte {
	var out bytes.Buffer
	encoder := json.NewEncoder(&out)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(value); err != nil {
		panic(err)
	}
	return bytes.TrimSuffix(out.Bytes(), []byte("\n"))
}

func (r *record) payload(whole object, version string) ([]byte, error) {
	if err := r.check(); err != nil {
		return nil, err
	}
	if version == "2" {
		for _, name := range floats {
			whole[name] = *r.float(name)
		}
		delete(whole, "sig")
		sum := sha256.Sum256(encode(whole))
		r.Body, r.SigV = hex.EncodeToString(sum[:]), 2
	}
	return encode(r), nil
}

func loads(text string) (*record, object, error) {
	data, _ := hex.DecodeString(text)
	if len(data) > 65536 {
		return nil, nil, errors.New("payload_too_large")
	}
	var whole object
	if err := json.Unmarshal(data, &whole); err != nil || whole == nil {
		return nil, nil, errors.New("json_malformed")
	}
	r := new(record)
	if err := json.Unmarshal(data, r); err != nil {
		return nil, nil, errors.New("member_type")
	}
	r.Body, r.SigV = "", 0
	return r, whole, nil
}

func double(bits string) float64 {
	data, _ := hex.DecodeString(bits)
	return math.Float64frombits(binary.BigEndian.Uint64(data))
}

func text(units string) string {
	data, _ := hex.DecodeString(units)
	found := make([]uint16, len(data)/2)
	for i := range found {
		found[i] = binary.BigEndian.Uint16(data[2*i:])
	}
	return string(utf16.Decode(found))
}

func number(args object) (any, error) {
	value, err := rounded(args["member"].(string), double(args["f64"].(string)))
	if err != nil {
		return nil, err
	}
	nano := strconv.FormatInt(int64(math.Round(value*1e9)), 10)
	return object{"text": string(encode(value)), "nano": nano}, nil
}

func str(args object) (any, error) {
	value := text(args["utf16"].(string))
	if len(value) < 1 || len(value) > 256 {
		return nil, errors.New("string_length")
	}
	return object{"utf8": hex.EncodeToString(encode(value))}, nil
}

func canon(args object) (any, error) {
	r, whole, err := new(record), object(nil), error(nil)
	if args["entry"] == "typed" {
		values := args["values"].(object)
		for _, name := range floats {
			*r.float(name) = double(values[name].(string))
		}
		r.MerkleRoot = text(values["merkle_root"].(string))
		r.PcsID = text(values["pcs_id"].(string))
		r.ShardID = text(values["shard_id"].(string))
		if r.Epoch, err = strconv.ParseInt(values["epoch"].(string), 10, 64); err != nil {
			return nil, errors.New("epoch_invalid")
		}
	} else if r, whole, err = loads(args["json"].(string)); err != nil {
		return nil, err
	}
	version, _ := args["sig_v"].(string)
	made, err := r.payload(whole, version)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(made)
	answer := object{"payload": hex.EncodeToString(made), "sha256": hex.EncodeToString(sum[:])}
	if version == "2" {
		answer["body_sha256"] = r.Body
	}
	return answer, nil
}

func mac(key string, made []byte) []byte {
	raw, _ := hex.DecodeString(key)
	sum, found := sha256.Sum256(made), hmac.New(sha256.New, raw)
	found.Write(sum[:])
	return found.Sum(nil)
}

func sign(args object) (any, error) {
	r, whole, err := loads(args["json"].(string))
	if err != nil {
		return nil, err
	}
	if len(args["key"].(string)) < 64 && args["allow_short_key"] == nil {
		return nil, errors.New("key_unusable")
	}
	if kid, ok := args["kid"]; ok {
		whole["alg"], whole["kid"] = "HMAC", kid
	}
	if args["sig_v"] == "2" {
		whole["sig_v"], whole["tenant_id"] = 2, args["tenant"]
	}
	made, err := r.payload(whole, args["sig_v"].(string))
	if err != nil {
		return nil, err
	}
	for _, name := range floats {
		whole[name] = *r.float(name)
	}
	whole["sig"] = base64.StdEncoding.EncodeToString(mac(args["key"].(string), made))
	return object{"sig": whole["sig"], "record": hex.EncodeToString(encode(whole))}, nil
}

func verify(args object) (any, error) {
	r, whole, err := loads(args["json"].(string))
	if err != nil {
		return nil, err
	}
	sig, ok := whole["sig"].(string)
	if !ok {
		return nil, errors.New("member_missing")
	}
	version := "1"
	if found, ok := whole["sig_v"]; ok {
		if version = "2"; found != 2.0 {
			return nil, errors.New("sig_version_unsupported")
		}
	}
	if least, ok := args["min_version"].(string); ok && version < least {
		return nil, errors.New("sig_version_unsupported")
	}
	kid, ok := whole["kid"]
	if !ok {
		kid = args["v1_default_kid"]
	}
	for _, each := range args["keyring"].([]any) {
		key := each.(object)
		if key["kid"] != kid {
			continue
		}
		if alg, ok := whole["alg"]; ok && alg != key["alg"] {
			return nil, errors.New("alg_mismatch")
		}
		made, err := r.payload(whole, version)
		if err != nil {
			return nil, err
		}
		raw, err := base64.StdEncoding.DecodeString(sig)
		if err != nil {
			return nil, errors.New("signature_malformed")
		}
		if !hmac.Equal(raw, mac(key["key"].(string), made)) {
			return nil, errors.New("signature_invalid")
		}
		values := object{}
		for _, name := range floats {
			var data [8]byte
			binary.BigEndian.PutUint64(data[:], math.Float64bits(*r.float(name)))
			values[name] = hex.EncodeToString(data[:])
		}
		return object{"values": values}, nil
	}
	return nil, errors.New("kid_unknown")
}

var ops = map[string]func(object) (any, error){
	"canon.number": number, "canon.string": str, "canon.record": canon,
	"sign.hmac": sign, "verify": verify,
}

func greeting() object {
	names := []string{}
	for name := range ops {
		names = append(names, name)
	}
	return object{
		"protocol": 1, "ops": names, "levels": []string{"core"}, "in_flight": 64,
		"testee": object{
			"name": "naive-go", "version": "0", "language": "go",
			"runtime": runtime.Version(), "os": runtime.GOOS,
		},
		"policies": object{
			"verify.off_grid": "accept", "hmac.short_key": "reject",
			"ed25519.small_order_key": "reject", "ed25519.equation": "cofactorless",
		},
	}
}

func answer(message object) object {
	op, ok := ops[message["op"].(string)]
	if !ok {
		return object{"seq": message["seq"], "skip": object{"reason": "not tried"}}
	}
	found, err := op(message["args"].(object))
	if err != nil {
		problem := object{"code": err.Error(), "message": "refused"}
		return object{"seq": message["seq"], "err": problem}
	}
	return object{"seq": message["seq"], "ok": found}
}

func main() {
	in := bufio.NewScanner(os.Stdin)
	in.Buffer(make([]byte, 1<<21), 1<<21)
	for in.Scan() {
		var message object
		if err := json.Unmarshal(in.Bytes(), &message); err != nil {
			os.Exit(1)
		}
		said := object(nil)
		switch message["cmd"] {
		case "bye":
			return
		case "hello":
			said = greeting()
		default:
			said = answer(message)
		}
		os.Stdout.Write(append(encode(said), '\n'))
	}
}
