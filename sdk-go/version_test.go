package fractal

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

// The module has no metadata of its own, so its version is held to what the other SDKs are built
// as. Outside the repository there is nothing to compare with.
func TestTheVersionIsThatOfTheOtherSDKs(t *testing.T) {
	for path, pattern := range map[string]string{
		"../sdk-python/pyproject.toml": `(?m)^version = "([^"]+)"`,
		"../sdk-ts/package.json":       `(?m)^\s*"version": "([^"]+)"`,
	} {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Skipf("run outside the repository: %v", err)
		}
		found := regexp.MustCompile(pattern).FindSubmatch(text)
		if found == nil {
			t.Fatalf("%s names no version", path)
		}
		equal(t, path, string(found[1]), SDKVersion)
	}
}

func TestUserAgentNamesTheSDKAndTheProgram(t *testing.T) {
	longest := strings.Repeat("a", 24)
	for app, want := range map[string]string{
		"":                         "fractal-lba-go-sdk/" + SDKVersion,
		"x":                        "fractal-lba-go-sdk/" + SDKVersion + " x",
		longest:                    "fractal-lba-go-sdk/" + SDKVersion + " " + longest,
		longest + "a":              "",
		"line\nend":                "",
		" blank":                   "",
		"blank ":                   "",
		"\xc3\xbc\xc3\xbc\xc3\xbc": "",
	} {
		got, err := UserAgent(app)
		equal(t, "agent", got, want)
		if (err == nil) != (want != "") {
			t.Errorf("%q: got %v", app, err)
		}
	}
}
