package fractal_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// unindented gives lines without what is around them, so that code reads the same at any depth.
func unindented(text string) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	for index := range lines {
		lines[index] = strings.TrimSpace(lines[index])
	}
	return strings.Join(lines, "\n")
}

func TestTheCodeOfTheREADMEIsCompiledAndRun(t *testing.T) {
	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	examples, err := os.ReadFile("example_test.go")
	if err != nil {
		t.Fatal(err)
	}
	blocks := regexp.MustCompile("(?s)```go\n(.*?)```").FindAllSubmatch(readme, -1)
	if len(blocks) < 3 {
		t.Fatalf("found %d blocks of code", len(blocks))
	}
	for _, block := range blocks {
		if !strings.Contains(unindented(string(examples)), unindented(string(block[1]))) {
			t.Errorf("example_test.go does not have\n%s", block[1])
		}
	}
}

func TestTheREADMENamesEveryOption(t *testing.T) {
	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	source, err := os.ReadFile("options.go")
	if err != nil {
		t.Fatal(err)
	}
	options := regexp.MustCompile(`(?m)^func (With\w+)`)
	for _, name := range options.FindAllStringSubmatch(string(source), -1) {
		if !strings.Contains(string(readme), "`"+name[1]+"`") {
			t.Errorf("README.md does not name %s", name[1])
		}
	}
}

// The samples of every SDK print the same lines; here their words are compared.
func TestTheSamplesPrintWhatThoseOfPythonPrint(t *testing.T) {
	python := regexp.MustCompile(`print\("(\w+)"`)
	here := regexp.MustCompile(`fmt\.Println\("(\w+)"`)
	for _, name := range []string{"submit", "submit_many", "offline_outbox"} {
		theirs, err := os.ReadFile(filepath.Join("../sdk-python/samples", name+".py"))
		if err != nil {
			t.Skipf("run outside the repository: %v", err)
		}
		ours, err := os.ReadFile(filepath.Join("samples", name, "main.go"))
		if err != nil {
			t.Fatal(err)
		}
		var words [2][]string
		for _, found := range python.FindAllStringSubmatch(string(theirs), -1) {
			words[0] = append(words[0], found[1])
		}
		for _, found := range here.FindAllStringSubmatch(string(ours), -1) {
			words[1] = append(words[1], found[1])
		}
		same(t, name, strings.Join(words[1], " "), strings.Join(words[0], " "))
		if lines := strings.Count(string(ours), "\n"); lines > 60 {
			t.Errorf("%s has %d lines, a sample has at most 60", name, lines)
		}
	}
}
