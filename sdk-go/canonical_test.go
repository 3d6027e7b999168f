package fractal

import (
	"crypto/sha256"
	"encoding/hex"
	"maps"
	"slices"
	"strings"
	"testing"
)

func mustParse(t testing.TB, text string) *Document {
	t.Helper()
	document, err := Parse([]byte(text))
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return document
}

func TestTheFirstValuesOfTheSpecification(t *testing.T) {
	signer, err := NewHMACSigner([]byte("testsecret"), "", WithShortKey())
	if err != nil {
		t.Fatal(err)
	}
	id := DerivePcsID(strings.Repeat("a", 64), 1, "shard-001")
	if id != "a687cafc6f56b4da5a9854606076663877ea5e3660cd739af9147d0904665da2" {
		t.Error(id)
	}
	seed := smallMembers()
	seed.DHat, seed.Budget, seed.CohStar, seed.R = 1.41, 0.42, 0.73, 0.87
	seed.MerkleRoot, seed.PcsID, seed.ShardID = strings.Repeat("a", 64), id, "shard-001"
	for _, first := range []struct {
		members     SignedMembers
		digest, sig string
	}{
		{smallMembers(), "9cf51a7c3ceec78159e373f045ea5636dcde60a8dd3781b1b6672cacd3b77efc",
			"UkUZ2Y0HFY8Ff/lTG+bY0Z6gILnhBtr4bw6Jt0VX6a4="},
		{seed, "b426cc3bccb6a1cb92a723cd46db840f0964ecb3a35e82ffcb9ee90a792bd80a",
			"NTiQIl9mwhSTvJpIJ/4tShR1buANQjhXoefZzBUQDIM="},
	} {
		payload, err := first.members.Payload()
		if err != nil {
			t.Fatal(err)
		}
		digest := sha256.Sum256(payload)
		if got := hex.EncodeToString(digest[:]); got != first.digest {
			t.Errorf("digest %s", got)
		}
		raw, err := signer.Sign(digest[:])
		if err != nil || SignatureText(raw) != first.sig {
			t.Errorf("sig %s (%v)", SignatureText(raw), err)
		}
	}
}

func TestASignedMemberOutsideItsDomainIsRefused(t *testing.T) {
	for _, c := range []struct{ member, token, code string }{
		{"r", "1e400", "number_out_of_range"},
		{"r", "-1e400", "number_out_of_range"},
		{"r", "1.0000000000000002", "number_out_of_range"},
		{"r", "-5e-324", "number_out_of_range"},
		{"r", "true", "member_type"},
		{"r", `"0.5"`, "member_type"},
		{"r", "null", "member_type"},
		{"epoch", "1.0", "epoch_invalid"},
		{"epoch", "-0", "epoch_invalid"},
		{"epoch", "9007199254740992", "epoch_invalid"},
		{"epoch", "-1", "epoch_invalid"},
		{"epoch", "true", "member_type"},
		{"pcs_id", `"` + strings.Repeat("A", 64) + `"`, "hex_invalid"},
		{"pcs_id", `"` + strings.Repeat("a", 64) + `\n"`, "hex_invalid"},
		{"merkle_root", "5", "member_type"},
		{"shard_id", `""`, "string_length"},
		{"shard_id", `"` + strings.Repeat("\u65e5", 86) + `"`, "string_length"},
		{"shard_id", "7", "member_type"},
	} {
		_, err := Canonicalize(mustParse(t, smallJSON(c.member, c.token)), 1)
		if got := errorPlace(err); got != c.code+" /"+c.member {
			t.Errorf("%s %s: %s", c.member, c.token, got)
		}
	}
}

func TestAMissingSignedMemberIsNamed(t *testing.T) {
	for _, name := range append(floatNames[:], "epoch", "merkle_root", "pcs_id", "shard_id") {
		document := mustParse(t, smallJSON(name, "1"))
		document.root.in = slices.DeleteFunc(document.root.in, func(m member) bool {
			return m.name == name
		})
		_, err := Canonicalize(document, 1)
		if got := errorPlace(err); got != "member_missing /"+name {
			t.Errorf("%s: %s", name, got)
		}
	}
}

func TestVersionsAreOneAndTwo(t *testing.T) {
	for _, version := range []int{-1, 0, 3} {
		_, err := Canonicalize(mustParse(t, smallJSON("r", "1")), version)
		if errorCode(err) != "sig_version_unsupported" {
			t.Errorf("%d: %v", version, err)
		}
	}
}

// with adds members to BASE.
func with(members string) string {
	return strings.TrimSuffix(smallJSON("r", "0.25"), "}") + "," + members + "}"
}

func TestContentLeavesOutHowARecordCame(t *testing.T) {
	digests := map[string]bool{}
	for _, text := range []string{
		smallJSON("r", "0.25"),
		smallJSON("r", "2500000000e-10"),
		smallJSON("r", "0.2500000000000001"),
		with(`"attempt":3,"sent_at":"x","ft":{},"sig":"s","alg":"HMAC","kid":"k"`),
		with(`"sig_v":2,"tenant_id":"t"`),
	} {
		digest, err := ContentDigest(mustParse(t, text))
		if err != nil {
			t.Fatal(err)
		}
		digests[digest] = true
	}
	if len(digests) != 1 {
		t.Error(slices.Collect(maps.Keys(digests)))
	}
	for _, text := range []string{
		with(`"seed":1`), smallJSON("r", "0.2500000005"), with(`"zz":"t"`),
	} {
		digest, err := ContentDigest(mustParse(t, text))
		if err != nil || digests[digest] {
			t.Errorf("%s: %s (%v)", text, digest, err)
		}
	}
}

func TestWhatIsNoRecordHasNoContent(t *testing.T) {
	for _, source := range []RecordSource{mustParse(t, smallJSON("r", "2")), Record{}} {
		if digest, err := ContentDigest(source); err == nil || digest != "" {
			t.Errorf("%s (%v)", digest, err)
		}
	}
	if _, err := ParseRecord([]byte("{")); errorCode(err) != "json_malformed" {
		t.Error(err)
	}
}

func TestVersion2CoversEveryMemberAndVersion1Eight(t *testing.T) {
	base, err := Canonicalize(mustParse(t, smallJSON("r", "0.25")), 1)
	if err != nil {
		t.Fatal(err)
	}
	bodies := map[string]bool{}
	for _, extra := range []string{
		`"x":1`, `"x":2`, `"x":"1"`, `"X":1`, `"sent_at":"x"`, `"x":[1]`,
	} {
		document := mustParse(t, with(extra))
		one, err := Canonicalize(document, 1)
		if err != nil || string(one.Payload) != string(base.Payload) || one.Body != "" {
			t.Errorf("%s: %s (%v)", extra, one.Payload, err)
		}
		two, err := Canonicalize(document, 2)
		if err != nil || bodies[two.Body] ||
			!strings.HasSuffix(string(two.Payload), `,"sig_v":2}`) {
			t.Errorf("%s: %+v (%v)", extra, two, err)
		}
		bodies[two.Body] = true
	}
	huge := mustParse(t, with(`"x":1e400`))
	if one, err := Canonicalize(huge, 1); err != nil ||
		string(one.Payload) != string(base.Payload) {
		t.Errorf("version 1 looks at other numbers: %v", err)
	} else if _, err := one.Content(); errorCode(err) != "number_out_of_range" {
		t.Errorf("content: %v", err)
	}
	if _, err := Canonicalize(huge, 2); errorCode(err) != "number_out_of_range" {
		t.Errorf("version 2: %v", err)
	}
}

func TestTheSignatureStandsInOrder(t *testing.T) {
	for _, text := range []string{
		smallJSON("r", "0.25"), with(`"sif":1`), with(`"sih":1`), with(`"zz":1`), with(`"A":1`),
		with(`"\u00e9":1,"sig":"old"`),
	} {
		made, err := SignV1(mustParse(t, text), testSigner(t, ""))
		if err != nil {
			t.Fatal(err)
		}
		if again, err := JCS(mustParse(t, string(made.Body))); err != nil ||
			string(again) != string(made.Body) {
			t.Errorf("%s (%v)", made.Body, err)
		}
	}
}

func testSigner(t testing.TB, kid string) *HMACSigner {
	t.Helper()
	signer, err := NewHMACSigner(testKey, kid)
	if err != nil {
		t.Fatal(err)
	}
	return signer
}

var testKey = []byte("0123456789abcdef0123456789abcdef")
