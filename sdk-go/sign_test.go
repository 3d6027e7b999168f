package fractal

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"math/big"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
)

var testSeed = []byte("fedcba9876543210fedcba9876543210")

// pair is a signer, and the ring that verifies what it signs.
type pair struct {
	signer Signer
	ring   Keyring
}

func pairs(t testing.TB) []pair {
	t.Helper()
	private, err := NewEd25519Signer(testSeed, "e")
	if err != nil {
		t.Fatal(err)
	}
	return []pair{
		{
			testSigner(t, "h"),
			ringOf(t, Key{Kid: "h", Alg: HMAC, Key: NewSecret(testKey), Tenant: "t"}),
		},
		{private, ringOf(t, Key{
			Kid: "e", Alg: Ed25519, Key: NewSecret(private.PublicKey()), Tenant: "t",
		})},
	}
}

func ringOf(t testing.TB, keys ...Key) Keyring {
	t.Helper()
	ring, err := NewKeyring(keys...)
	if err != nil {
		t.Fatal(err)
	}
	return ring
}

func signed(t testing.TB, record RecordSource, signer Signer, version int) *SignedRecord {
	t.Helper()
	made, err := signAs(record, signer, version, "t")
	if err != nil {
		t.Fatal(err)
	}
	return made
}

func TestWhatIsSignedVerifies(t *testing.T) {
	for _, p := range pairs(t) {
		for version := 1; version <= 2; version++ {
			made := signed(t, typedRecord(), p.signer, version)
			seen, err := Verify(made.Body, p.ring, WithStrict(), WithMinSigVersion(version))
			if err != nil {
				t.Fatal(err)
			}
			content, err := seen.Canonical.Content()
			if err != nil || content != made.Content || seen.SigV != version ||
				seen.Key.Kid != p.signer.Kid() || seen.Values != (Values{2, 0.35, 0.5, 0.5}) {
				t.Errorf("%+v (%v)", seen, err)
			}
		}
	}
}

func TestSigningAgainReplacesTheSignature(t *testing.T) {
	both := pairs(t)
	first := signed(t, typedRecord(), both[0].signer, 2)
	for _, p := range both {
		for version := 1; version <= 2; version++ {
			again := signed(t, mustParse(t, string(first.Body)), p.signer, version)
			fresh := signed(t, typedRecord(), p.signer, version)
			if string(again.Body) != string(fresh.Body) || again.Content != fresh.Content {
				t.Errorf("%s, not %s", again.Body, fresh.Body)
			}
			record, err := ParseRecord(first.Body)
			if err != nil {
				t.Fatal(err)
			}
			if typed := signed(t, record, p.signer, version); string(
				typed.Body,
			) != string(
				fresh.Body,
			) {
				t.Errorf("%s, not %s", typed.Body, fresh.Body)
			}
		}
	}
}

func TestVersion1NamesKeyAndAlgorithmOnlyWithAKid(t *testing.T) {
	bare := mustParse(t, string(signed(t, typedRecord(), testSigner(t, ""), 1).Body))
	named := mustParse(t, string(signed(t, typedRecord(), testSigner(t, "h"), 1).Body))
	for _, name := range version2Members {
		if bare.Has(name) || named.Has(name) != (name != "tenant_id") {
			t.Errorf("%s: %t, %t", name, bare.Has(name), named.Has(name))
		}
	}
}

func TestVersion2NeedsKidAndTenant(t *testing.T) {
	for _, c := range []struct{ kid, tenant string }{
		{"", "t"}, {"h", ""}, {"h", strings.Repeat("t", 65)}, {"h", "\xff"},
	} {
		if _, err := Sign(typedRecord(), testSigner(t, c.kid), c.tenant); errorCode(
			err,
		) != "config_invalid" {
			t.Errorf("%+v: %v", c, err)
		}
	}
}

func TestForeignBytesStayAsTheyAre(t *testing.T) {
	made := signed(t, typedRecord(), testSigner(t, "h"), 2)
	spaced := strings.Replace(string(made.Body), ",", " , ", 1)
	again, err := ParseSigned([]byte(spaced))
	if err != nil || string(again.Body) != spaced || again.Content != made.Content ||
		again.Kid != "h" || again.Tenant != "t" || again.PcsID != made.PcsID {
		t.Errorf("%+v (%v)", again, err)
	}
	for text, place := range map[string]string{
		fullJSON(): "member_missing /sig", "[]": "json_malformed",
		fullJSON("sig", `"s"`, "r", "9"): "number_out_of_range /r", fullJSON("sig", `"s"`): "",
	} {
		if _, err := ParseSigned([]byte(text)); errorPlace(err) != place {
			t.Errorf("%.60s: expected %q, got %v", text, place, err)
		}
	}
}

func TestASignerThatFailsSignsNothing(t *testing.T) {
	down := errors.New("the KMS is down")
	for _, c := range []struct {
		raw  []byte
		err  error
		code string
	}{
		{nil, down, "not a code: the KMS is down"}, {make([]byte, 31), nil, "signature_malformed"},
		{make([]byte, 32), nil, ""},
	} {
		signer, err := NewFuncSigner(
			HMAC,
			"h",
			func([]byte) ([]byte, error) { return c.raw, c.err },
		)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := SignV1(typedRecord(), signer); errorCode(err) != c.code {
			t.Errorf("%v", err)
		}
	}
	record := typedRecord()
	record.R = 2
	never, err := NewFuncSigner(HMAC, "h", func([]byte) ([]byte, error) {
		return nil, errors.New("a record outside its domain was signed")
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, source := range []RecordSource{record, mustParse(t, with(`"x":1e400`))} {
		if _, err := SignV1(source, never); errorCode(err) != "number_out_of_range" {
			t.Error(err)
		}
	}
}

func TestOneSignerServesManyGoroutines(t *testing.T) {
	for _, p := range pairs(t) {
		want := string(signed(t, typedRecord(), p.signer, 2).Body)
		var group sync.WaitGroup
		for range 8 {
			group.Go(func() {
				for range 50 {
					if made, err := Sign(typedRecord(), p.signer, "t"); err != nil ||
						string(made.Body) != want {
						t.Errorf("%v (%v)", made, err)
					}
				}
			})
		}
		group.Wait()
	}
}

// --- verifying ------------------------------------------------------------------------------

func TestAVerifierAsksInOrder(t *testing.T) {
	ring := pairs(t)[0].ring
	two := string(signed(t, typedRecord(), testSigner(t, "h"), 2).Body)
	one := string(signed(t, typedRecord(), testSigner(t, ""), 1).Body)
	change := func(text, from, to string) string {
		if !strings.Contains(text, from) {
			t.Fatalf("no %s in %s", from, text)
		}
		return strings.Replace(text, from, to, 1)
	}
	for _, c := range []struct {
		place, text string
		options     []VerifyOption
	}{
		{"", two, nil},
		{"", one, []VerifyOption{WithDefaultKid("h")}},
		{"kid_unknown /kid", one, nil},
		{"kid_unknown /kid", one, []VerifyOption{WithDefaultKid("other")}},
		{"sig_version_unsupported /sig_v", one, []VerifyOption{WithDefaultKid("h"), WithMinSigVersion(2)}},
		{"json_malformed", two + "x", nil},
		{"member_missing /sig", fullJSON(), nil},
		{"member_type /sig", fullJSON("sig", "1"), nil},
		{"sig_version_unsupported /sig_v", change(two, `"sig_v":2`, `"sig_v":2.0`), nil},
		{"sig_version_unsupported /sig_v", change(two, `"sig_v":2`, `"sig_v":3`), nil},
		{"member_missing /alg", change(two, `"alg":"HMAC",`, ""), nil},
		{"member_type /kid", change(two, `"kid":"h"`, `"kid":1`), nil},
		{"kid_unknown /kid", change(two, `"kid":"h"`, `"kid":"i"`), nil},
		{"alg_mismatch /alg", change(two, `"alg":"HMAC"`, `"alg":"none"`), nil},
		{"tenant_mismatch /tenant_id", change(two, `"tenant_id":"t"`, `"tenant_id":"u"`), nil},
		{"tenant_mismatch /tenant_id", change(two, `"tenant_id":"t"`, `"tenant_id":""`), nil},
		{"number_out_of_range /r", change(two, `"r":0.5`, `"r":1.5`), nil},
		{"number_out_of_range", change(two, `"seed":0`, `"seed":1e400`), nil},
		{"signature_invalid /sig", change(two, `"r":0.5`, `"r":0.6`), nil},
		{"signature_invalid /sig", change(two, `"seed":0`, `"seed":1`), nil},
		{"signature_invalid /sig", change(two, `"sig_v":2,`, ""), nil},
		{"", change(two, `"r":0.5`, `"r":0.50000000001`), nil},
		{"number_out_of_range /r", change(two, `"r":0.5`, `"r":0.50000000001`), []VerifyOption{WithStrict()}},
	} {
		if _, err := Verify([]byte(c.text), ring, c.options...); errorPlace(err) != c.place {
			t.Errorf("expected %q, got %q: %s", c.place, errorPlace(err), c.text)
		}
	}
}

func TestAVerifierGivesTheSignedValues(t *testing.T) {
	p := pairs(t)[0]
	text := strings.Replace(string(signed(t, typedRecord(), p.signer, 2).Body),
		`"r":0.5`, `"r":0.50000000001`, 1)
	seen, err := Verify([]byte(text), p.ring)
	if err != nil {
		t.Fatal(err)
	}
	if r, _ := seen.Record.Number("r"); r != 0.5 || seen.Values.R != 0.5 {
		t.Errorf("r is %v, %v", r, seen.Values.R)
	}
}

func TestASignatureHasOneSpelling(t *testing.T) {
	digest := make([]byte, 32)
	for _, p := range pairs(t) {
		key := p.ring[p.signer.Kid()]
		raw, err := p.signer.Sign(digest)
		if err != nil {
			t.Fatal(err)
		}
		sig := SignatureText(raw)
		if err := CheckSignature(key, digest, sig); err != nil {
			t.Fatal(err)
		}
		last := sig[:len(sig)-3]
		for _, other := range []string{
			"", " " + sig, sig + "\n", sig + "=", strings.TrimRight(sig, "="), "!" + sig,
			hex.EncodeToString(raw), sig[:20] + "\n" + sig[20:], base64.URLEncoding.EncodeToString(
				slices.Repeat([]byte{0xFB, 0xFF}, len(raw)/2)),
			last + string(sig[len(last)]+1) + sig[len(last)+1:], // unused bits, or another byte
			SignatureText(raw[:31]), SignatureText(append(slices.Clone(raw), 0)), "\xff\xfe",
		} {
			code := errorCode(CheckSignature(key, digest, other))
			if code != "signature_malformed" && code != "signature_invalid" {
				t.Errorf("%s: %q: %q", key.Alg, other, code)
			}
		}
		for bit := range len(raw) * 8 {
			flipped := slices.Clone(raw)
			flipped[bit/8] ^= 1 << (bit % 8)
			code := errorCode(CheckSignature(key, digest, SignatureText(flipped)))
			if code != "signature_invalid" {
				t.Fatalf("%s: bit %d: %q", key.Alg, bit, code)
			}
		}
	}
}

func TestASignatureOfEd25519HasNoTwin(t *testing.T) {
	p, digest := pairs(t)[1], make([]byte, 32)
	raw, err := p.signer.Sign(digest)
	if err != nil {
		t.Fatal(err)
	}
	order, _ := new(big.Int).SetString("27742317777372353535851937790883648493", 10)
	order.Add(order, new(big.Int).Lsh(big.NewInt(1), 252))
	s := slices.Clone(raw[32:])
	slices.Reverse(s)
	sum := new(big.Int).Add(new(big.Int).SetBytes(s), order).FillBytes(make([]byte, 32))
	slices.Reverse(sum)
	twin := SignatureText(append(slices.Clone(raw[:32]), sum...))
	if code := errorCode(CheckSignature(p.ring["e"], digest, twin)); code != "signature_invalid" {
		t.Error(code)
	}
}

// --- other people's vectors -----------------------------------------------------------------

// judge verifies with all that a caller meets: the key, strict text, the equation.
func judge(public []byte, message, signature []byte) string {
	ring, err := NewKeyring(Key{Kid: "k", Alg: Ed25519, Key: NewSecret(public)})
	if err != nil {
		return codeOf(err)
	}
	return errorCode(CheckSignature(ring["k"], message, SignatureText(signature)))
}

func readJSON(t *testing.T, path string, into any) {
	t.Helper()
	text, err := os.ReadFile("../golden/third_party/" + path)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, into); err != nil {
		t.Fatal(err)
	}
}

func TestWycheproofIsJudgedAsItSays(t *testing.T) {
	var suite struct {
		NumberOfTests int
		TestGroups    []struct {
			PublicKey struct{ Pk string }
			Tests     []struct {
				TcID             int
				Msg, Sig, Result string
			}
		}
	}
	readJSON(t, "wycheproof/ed25519_test.json", &suite)
	judged := 0
	for _, group := range suite.TestGroups {
		for _, c := range group.Tests {
			code := judge(fromHex(group.PublicKey.Pk), fromHex(c.Msg), fromHex(c.Sig))
			if (code == "") != (c.Result == "valid") {
				t.Errorf("%d: %q, not %s", c.TcID, code, c.Result)
			}
			judged++
		}
	}
	if judged == 0 || judged != suite.NumberOfTests {
		t.Errorf("%d of %d", judged, suite.NumberOfTests)
	}
}

func TestEdgePointsAreJudgedWithoutTheCofactor(t *testing.T) {
	var cases []struct {
		Number        int
		Key, Sig, Msg string
		Flags         []string
	}
	readJSON(t, "cctv-ed25519/ed25519vectors.json", &cases)
	verdicts := map[string]int{}
	for _, c := range cases {
		want := ""
		switch {
		case slices.Contains(c.Flags, "low_order_A"):
			want = "key_unusable"
		case slices.Contains(c.Flags, "low_order_residue"),
			slices.Contains(c.Flags, "non_canonical_R"):
			want = "signature_invalid"
		}
		if got := judge(fromHex(c.Key), []byte(c.Msg), fromHex(c.Sig)); got != want {
			t.Errorf("%d: expected %q, got %q", c.Number, want, got)
		}
		verdicts[want]++
	}
	if len(cases) < 500 || len(verdicts) != 3 {
		t.Error(len(cases), verdicts)
	}
}

func FuzzVerify(f *testing.F) {
	both := pairs(f)
	for _, p := range both {
		f.Add(signed(f, typedRecord(), p.signer, 2).Body)
		f.Add(signed(f, typedRecord(), p.signer, 1).Body)
	}
	ring := Keyring{"h": both[0].ring["h"], "e": both[1].ring["e"]}
	f.Fuzz(func(t *testing.T, text []byte) {
		seen, err := Verify(text, ring)
		if err != nil {
			if _, known := LookupCode(codeOf(err)); !known {
				t.Fatal(err)
			}
			return
		}
		// What verifies has the content and the values of what was signed, but for what is
		// outside the signature of version 1.
		want := Values{2, 0.35, 0.5, 0.5}
		if seen.Values != want {
			t.Fatalf("%q verifies with %+v", text, seen.Values)
		}
	})
}
