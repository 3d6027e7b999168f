package fractal

import (
	"strings"
	"testing"
)

func TestAURLHasOneForm(t *testing.T) {
	for given, written := range map[string]string{
		"https://eu.example": "https://eu.example", "https://EU.example/": "https://eu.example",
		"HTTPS://eu.example:443/base/": "https://eu.example/base",
		"https://eu.example:8443":      "https://eu.example:8443",
		"https://eu.example:":          "https://eu.example",
		"https://eu.example:08443/":    "https://eu.example:8443",
		"https://eu.example//":         "https://eu.example",
		"http://localhost:80":          "http://localhost",
		"http://127.0.0.1:8080":        "http://127.0.0.1:8080",
		"http://127.9.9.9":             "http://127.9.9.9",
		"http://[::1]:8080/":           "http://[::1]:8080",
		"https://[2001:DB8::1]":        "https://[2001:db8::1]",
	} {
		if got, err := normalURL(given); err != nil || got != written {
			t.Errorf("%s: expected %s, got %s (%v)", given, written, got, err)
		}
	}
}

func TestOtherURLsAreRefused(t *testing.T) {
	for _, url := range []string{
		"http://eu.example", "http://127.0.0.1.evil.example", "http://localhost.evil.example",
		"http://10.0.0.1", "http://127.0.0", "http://127.0.0.1234", "http://127.0.0.", "http://127.a.b.example",
		"ftp://eu.example", "eu.example", "https://", "https:///x", "//eu.example", "", "https:eu.example",
		"https://user@eu.example", "https://user:secret@eu.example", "https://eu.example?x=1",
		"https://eu.example?", "https://eu.example#x", "https://eu.example#", "https://:443",
		"https://eu.example:port", "https://eu.example:99999", "https://eu.example:-1",
		"https://eu.example\n", "https://eu example", "https://eu\\.example", "https://\u00e9.example",
		"https://[::1", "https://[::1]x", "https://eu.example]", "https://x[::1]",
		"https://[127.0.0.1]", "https://a:1:2", "https://eu.example/%zz",
	} {
		_, err := NewFleet([]Endpoint{{URL: url}}, DefaultFailover())
		if errorCode(err) != "config_invalid" || strings.Contains(err.Error(), "secret") {
			t.Errorf("%q: %v", url, err)
		}
	}
	for _, region := range []string{"EU", "eu west", strings.Repeat("x", 65)} {
		_, err := NewFleet([]Endpoint{{urlA, region}}, DefaultFailover())
		if errorCode(err) != "config_invalid" {
			t.Errorf("%q: %v", region, err)
		}
	}
}

func FuzzNormalURL(f *testing.F) {
	for _, seed := range []string{urlA, "http://[::1]:80/x/", "HTTPS://a:443//", "http://127.0.0.1", "https://["} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		written, err := normalURL(text)
		if err != nil {
			return
		}
		if again, err := normalURL(written); err != nil || again != written {
			t.Fatalf("%q became %q, then %q (%v)", text, written, again, err)
		}
	})
}
