package fractal

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"go/format"
	"os"
	"testing"
)

var update = flag.Bool("update", false, "write generated files instead of comparing them")

// generateCodes writes codes.go as spec/errors.json says it must be.
func generateCodes(t *testing.T) []byte {
	t.Helper()
	text, err := os.ReadFile("../spec/errors.json")
	if err != nil {
		t.Fatal(err)
	}
	var list struct {
		Codes []struct {
			Code, Class, Fault, Sentence string
			Status                       *int
			Retryable                    bool
		}
	}
	if err := json.Unmarshal(text, &list); err != nil {
		t.Fatal(err)
	}
	var source bytes.Buffer
	source.WriteString(
		"// Code generated from spec/errors.json by `go test -run TestCodes -update`;",
	)
	source.WriteString(" DO NOT EDIT.\n// tidy: long because a sentence is one line\n\n")
	source.WriteString("package fractal\n\nvar codes = map[string]CodeInfo{\n")
	for _, info := range list.Codes {
		status := 0
		if info.Status != nil {
			status = *info.Status
		}
		fmt.Fprintf(&source, "%q: {\nCode: %q, Class: %q,\n"+
			"Fault: %q, Status: %d, Retryable: %t,\n"+
			"Sentence: %q,\n},\n",
			info.Code, info.Code, info.Class, info.Fault, status, info.Retryable, info.Sentence)
	}
	source.WriteString("}\n")
	formatted, err := format.Source(source.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	return formatted
}

func TestCodesAreThoseOfTheSpecification(t *testing.T) {
	want := generateCodes(t)
	if *update {
		if err := os.WriteFile("codes.go", want, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile("codes.go")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Fatal("codes.go differs from spec/errors.json: run go test -run TestCodes -update")
	}
}

func TestEveryCodeHasAClass(t *testing.T) {
	for code, info := range codes {
		if classes[info.Class] == nil || info.Code != code {
			t.Errorf("%s: no class %q", code, info.Class)
		}
	}
}
