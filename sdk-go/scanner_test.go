package fractal

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func parseCode(text string) string {
	_, err := Parse([]byte(text))
	return errorCode(err)
}

// errorCode gives the code of an error, "" of none.
func errorCode(err error) string {
	if err == nil {
		return ""
	}
	return codeOf(err)
}

// errorPlace gives code and pointer of an error.
func errorPlace(err error) string {
	var fault *Error
	if errors.As(err, &fault) && fault.HasPointer {
		return fault.Code + " " + fault.Pointer
	}
	return errorCode(err)
}

func TestTheJSONTestSuite(t *testing.T) {
	paths, err := filepath.Glob("../golden/third_party/json-test-suite/test_parsing/*.json")
	if err != nil || len(paths) < 300 {
		t.Fatalf("%d files of the suite (%v)", len(paths), err)
	}
	stricter := map[string]string{
		"y_object_duplicated_key.json":           "member_duplicate",
		"y_object_duplicated_key_and_value.json": "member_duplicate",
	}
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		_, err = ParseValue(text, len(text))
		code, name := errorCode(err), filepath.Base(path)
		switch {
		case stricter[name] != "":
			if code != stricter[name] {
				t.Errorf("%s: %s", name, code)
			}
		case name[0] == 'y' && code != "":
			t.Errorf("%s: refused with %s", name, code)
		case name[0] == 'n' && strings.Contains(name, "surrogate") && code == "string_surrogate":
			// The surrogate stands before what else is wrong.
		case name[0] == 'n' && code != "json_malformed" && code != "json_limit":
			t.Errorf("%s: %q", name, code)
		}
	}
}

func TestTextOutsideTheProfileIsRefused(t *testing.T) {
	for text, code := range map[string]string{
		`{"a":1,"a":2}`:            "member_duplicate",
		`{"a":1,"\u0061" :2}`:      "member_duplicate",
		`{"a":{"b":1,"b":1}}`:      "member_duplicate",
		"\xef\xbb\xbf" + `{"a":1}`: "json_malformed",
		"{\x00\"\x00":              "json_malformed",
		"{\"a\":\"\xff\"}":         "json_malformed",
		`{"a":NaN}`:                "json_malformed",
		`{"a":-Infinity}`:          "json_malformed",
		`{"a":01}`:                 "json_malformed",
		`{"a":-}`:                  "json_malformed",
		`{"a":1.}`:                 "json_malformed",
		`{"a":1.e5}`:               "json_malformed",
		`{"a":1e+}`:                "json_malformed",
		`{"a":.5}`:                 "json_malformed",
		`{"a":0x10}`:               "json_malformed",
		`{"a":1}x`:                 "json_malformed",
		`{"a":1,}`:                 "json_malformed",
		`{"a" 1}`:                  "json_malformed",
		`{a:1}`:                    "json_malformed",
		`{"a":1 "b":2}`:            "json_malformed",
		`{"a":[1,]}`:               "json_malformed",
		`{"a":[1}`:                 "json_malformed",
		`{"a":tru}`:                "json_malformed",
		`{"a":nul`:                 "json_malformed",
		`{"a":"x`:                  "json_malformed",
		`{"a":"\`:                  "json_malformed",
		`{"a":"\n` + "\n" + `"}`:   "json_malformed",
		`{"a":"\x41"}`:             "json_malformed",
		`{"a":"\u00g0"}`:           "json_malformed",
		`{"a":"\u00`:               "json_malformed",
		`{"a":"\ud83d\u00g0"}`:     "json_malformed",
		"{\"a\":\"\t\"}":           "json_malformed",
		"\u00a0{\"a\":1}":          "json_malformed",
		`{"a":1} // no`:            "json_malformed",
		`[1]`:                      "json_malformed",
		``:                         "json_malformed",
		`{"a":"\ud800"}`:           "string_surrogate",
		`{"a":"\ud800\n"}`:         "string_surrogate",
		`{"a":"\ud800\ud800"}`:     "string_surrogate",
		`{"a":"\udc00\ud800"}`:     "string_surrogate",
		`{"\uDFFF":1}`:             "string_surrogate",

		`{"a":` + strings.Repeat("[", 32) + strings.Repeat("]", 32) + `}`: "json_limit",
		`{"a":"` + strings.Repeat("x", MaxRecordBytes) + `"}`:             "payload_too_large",
		`{"a":"` + strings.Repeat("[", 40):                                "json_malformed",
	} {
		if got := parseCode(text); got != code {
			t.Errorf("%.60q: expected %s, got %s", text, code, got)
		}
	}
}

func TestDuplicatesAreFoundAmongManyNames(t *testing.T) {
	var members []string
	for name := range 5000 {
		members = append(members, `"`+strings.Repeat("a", name%7)+string(rune(0x4E00+name))+`":1`)
	}
	all := strings.Join(members, ",")
	if code := parseCode("{" + all + "}"); code != "" {
		t.Fatalf("names that differ: %s", code)
	}
	for _, index := range []int{0, fewMembers - 1, fewMembers, fewMembers + 1, 4999} {
		if code := parseCode("{" + all + "," + members[index] + "}"); code != "member_duplicate" {
			t.Errorf("name %d twice: %q", index, code)
		}
	}
}

func TestTextAtItsLimitsIsRead(t *testing.T) {
	long := `{"a":"` + strings.Repeat("x", MaxRecordBytes-8) + `"}`
	for _, text := range []string{
		`{"a":` + strings.Repeat("[", 31) + strings.Repeat("]", 31) + `}`,
		`{"a":"` + strings.Repeat("[{", 40) + `","b":[]}`,
		`{"a":[` + strings.Repeat("[],", 100) + `{}]}`,
		long, " \t\r\n{\"a\" : 1}\n", "{}", `{"a":{},"b":[]}`,
	} {
		if code := parseCode(text); code != "" {
			t.Errorf("%.60q: %s", text, code)
		}
	}
	if len(long) != MaxRecordBytes {
		t.Fatal(len(long))
	}
}

func TestTokensKeepWhatTheyAre(t *testing.T) {
	document, err := Parse([]byte(`{"int":1,"float":1.0,"exponent":1E2,"zero":-0,"half":-0.5,` +
		`"huge":1e400,"long":` + strings.Repeat("9", 5000) + `,"yes":true,"no":false,` +
		`"none":null,"text":"\ud83d\ude00\"\\\/\b\f\n\r\t\u00e9","list":[1],"object":{"x":"y"}}`))
	if err != nil {
		t.Fatal(err)
	}
	if n, ok := document.Integer("int"); n != 1 || !ok {
		t.Error("int", n, ok)
	}
	for _, name := range []string{"float", "exponent", "zero", "half", "long", "text", "absent"} {
		if _, ok := document.Integer(name); ok {
			t.Error(name, "is no integer")
		}
	}
	if x, ok := document.Number("zero"); x != 0 || 1/x > 0 || !ok {
		t.Error("zero", x, ok)
	}
	if x, ok := document.Number("huge"); isFinite(x) || !ok {
		t.Error("huge", x, ok)
	}
	if _, ok := document.Number("text"); ok {
		t.Error("a text is no number")
	}
	if text, ok := document.Text("text"); text != "\U0001f600\"\\/\b\f\n\r\t\u00e9" || !ok {
		t.Errorf("text %q", text)
	}
	yes, first := document.Bool("yes")
	no, second := document.Bool("no")
	_, third := document.Bool("none")
	_, fourth := document.Bool("absent")
	if !yes || no || !first || !second || third || fourth {
		t.Error("true and false, and nothing else")
	}
	if inner, ok := document.Object("object"); !ok || inner.text("x") != "y" {
		t.Error("object")
	}
	if _, ok := document.Object("list"); ok {
		t.Error("an array is no object")
	}
	if names := document.Names(); names[0] != "int" || !slices.Contains(names, "list") ||
		!document.Has("none") || document.Has("absent") {
		t.Error(names)
	}
}

func FuzzParse(f *testing.F) {
	for _, seed := range []string{
		`{"a":1}`, `{"a":[1,-0,1e400,"\ud83d\ude00"],"b":{"c":null}}`, `{"a":1,"a":2}`, `[[[`,
		smallJSON("r", "0.5"), "\xef\xbb\xbf{}", `{"\ud800":1}`,
	} {
		f.Add([]byte(seed))
	}
	allowed := []string{
		"json_malformed", "json_limit", "member_duplicate", "string_surrogate", "payload_too_large",
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		document, err := ParseValue(text, MaxRecordBytes)
		if err != nil {
			if !slices.Contains(allowed, codeOf(err)) {
				t.Fatal(err)
			}
			return
		}
		// What was written is read again to the same text.
		first, err := JCS(document)
		if err != nil {
			return
		}
		again, err := ParseValue(first, len(first))
		if err != nil {
			t.Fatalf("%q: %v", first, err)
		}
		if second, err := JCS(again); err != nil && codeOf(err) != "number_out_of_range" ||
			err == nil && string(second) != string(first) {
			t.Fatalf("%q, then %q (%v)", first, second, err)
		}
	})
}
