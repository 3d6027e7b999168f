package fractal

import (
	"crypto/ed25519"
	"encoding/hex"
	"fmt"
	"os"
	"strings"
	"testing"
)

func TestEveryEncodingOfAPointOfSmallOrderIsRefused(t *testing.T) {
	for _, y := range smallOrder {
		for _, sign := range []byte{0, 0x80} {
			key := []byte(y)
			key[31] |= sign
			if _, err := NewKeyring(Key{Kid: "k", Alg: Ed25519, Key: NewSecret(key)}); errorCode(
				err,
			) != "key_unusable" {
				t.Errorf("%x: %v", key, err)
			}
			made := Key{Kid: "k", Alg: Ed25519, Key: NewSecret(key)} // past the keyring
			sig := SignatureText(make([]byte, 64))
			if err := CheckSignature(made, make([]byte, 32), sig); errorCode(
				err,
			) != "key_unusable" {
				t.Errorf("%x: %v", key, err)
			}
		}
	}
}

func TestKeysHaveTheirLengths(t *testing.T) {
	for _, size := range []int{0, 1, 31} {
		if _, err := NewHMACSigner(make([]byte, size), "k"); errorCode(err) != "key_unusable" {
			t.Error(size, err)
		}
		if _, err := NewHMACSigner(make([]byte, size), "k", WithShortKey()); err != nil {
			t.Error(size, err)
		}
		short := Key{Kid: "k", Alg: HMAC, Key: NewSecret(make([]byte, size))}
		if _, err := NewKeyring(short); errorCode(err) != "key_unusable" {
			t.Error(size, err)
		}
		short.AllowShortKey = true
		if _, err := NewKeyring(short); err != nil {
			t.Error(size, err)
		}
	}
	for _, size := range []int{0, 31, 33, 64} {
		if _, err := NewEd25519Signer(make([]byte, size), "k"); errorCode(err) != "key_unusable" {
			t.Error(size, err)
		}
		public := Key{Kid: "k", Alg: Ed25519, Key: NewSecret(make([]byte, size))}
		if _, err := NewKeyring(public); errorCode(err) != "key_unusable" {
			t.Error(size, err)
		}
	}
}

func TestNamesOfKeysAndAlgorithmsAreChecked(t *testing.T) {
	none := func([]byte) ([]byte, error) { return nil, nil }
	for _, kid := range []string{strings.Repeat("k", 65), "\xff"} {
		_, first := NewHMACSigner(testKey, kid)
		_, second := NewEd25519Signer(testSeed, kid)
		_, third := NewFuncSigner(HMAC, kid, none)
		_, fourth := NewKeyring(Key{Kid: kid, Alg: HMAC, Key: NewSecret(testKey)})
		for _, err := range []error{first, second, third, fourth} {
			if errorCode(err) != "config_invalid" {
				t.Errorf("%q: %v", kid, err)
			}
		}
	}
	if _, err := NewKeyring(Key{Alg: HMAC, Key: NewSecret(testKey)}); errorCode(
		err,
	) != "config_invalid" {
		t.Error(err)
	}
	for _, alg := range []string{"none", "hmac", "HS256", ""} {
		_, first := NewFuncSigner(alg, "k", none)
		_, second := NewKeyring(Key{Kid: "k", Alg: alg, Key: NewSecret(testKey)})
		if errorCode(first) != "config_invalid" || errorCode(second) != "config_invalid" {
			t.Errorf("%q: %v, %v", alg, first, second)
		}
	}
}

func TestAKeyringHoldsEachKidAndEachKeyOnce(t *testing.T) {
	public := ed25519.NewKeyFromSeed(testSeed)[32:]
	hmacKey := func(kid string, key []byte) Key {
		return Key{Kid: kid, Alg: HMAC, Key: NewSecret(key)}
	}
	edKey := Key{Kid: "e", Alg: Ed25519, Key: NewSecret(public)}
	for _, c := range []struct {
		code string
		keys []Key
	}{
		{"", nil},
		{"", []Key{hmacKey("a", testKey), hmacKey("b", append(testSeed, 'x')), edKey}},
		{"config_invalid", []Key{hmacKey("a", testKey), hmacKey("a", testSeed)}},
		{"key_unusable", []Key{hmacKey("a", testKey), hmacKey("b", testKey)}},
		{"key_unusable", []Key{edKey, hmacKey("h", public)}},
		{"key_unusable", []Key{hmacKey("h", testSeed), edKey}}, // the seed of the other
	} {
		if _, err := NewKeyring(c.keys...); errorCode(err) != c.code {
			t.Errorf("expected %q, got %v", c.code, err)
		}
	}
}

func TestKeysComeFromTheEnvironment(t *testing.T) {
	for _, c := range []struct{ key, kid, code string }{
		{hex.EncodeToString(testKey), "h", ""}, {hex.EncodeToString(testKey), "", ""},
		{"", "h", "config_invalid"}, {"00ff", "h", "key_unusable"}, {"topsecret", "h", "key_unusable"},
	} {
		t.Setenv("PCS_HMAC_KEY", c.key)
		t.Setenv("PCS_KID", c.kid)
		signer, err := SignerFromEnv(os.Getenv)
		if errorCode(err) != c.code ||
			err != nil && strings.Contains(fmt.Sprintf("%+v", err), "topsecret") {
			t.Errorf("%+v: %v", c, err)
		}
		if err == nil && (signer.Kid() != c.kid || signer.Alg() != HMAC) {
			t.Errorf("%v", signer)
		}
	}
}

func TestNoTextShowsAKey(t *testing.T) {
	key := []byte(strings.Repeat("k", 32))
	plain, err := NewHMACSigner(key, "name")
	if err != nil {
		t.Fatal(err)
	}
	private, err := NewEd25519Signer(key, "name")
	if err != nil {
		t.Fatal(err)
	}
	remote, err := NewFuncSigner(HMAC, "name", plain.Sign)
	if err != nil {
		t.Fatal(err)
	}
	holder := struct{ inner any }{private}
	for _, shown := range []any{
		plain, *plain, private, *private, remote, holder,
		Key{"name", HMAC, NewSecret(key), "t", false},
	} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
			text := fmt.Sprintf(verb, shown)
			for _, secret := range []string{
				"kkkk", hex.EncodeToString(key[:8]), "107 107", "6b, 0x6b",
			} {
				if strings.Contains(strings.ToLower(text), secret) {
					t.Errorf("%T under %s shows %s", shown, verb, secret)
				}
			}
		}
	}
	if text := plain.String() + plain.GoString(); !strings.Contains(text, `"name"`) {
		t.Error(text)
	}
}
