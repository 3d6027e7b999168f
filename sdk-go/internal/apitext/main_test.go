package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestThePublicSurfaceIsTheOneThatWasReviewed(t *testing.T) {
	got, err := surface("../..")
	if err != nil {
		t.Fatal(err)
	}
	want, err := os.ReadFile("../../api.txt")
	if err != nil {
		t.Fatal(err)
	}
	wantLines := strings.Split(string(want), "\n")
	for index, line := range strings.Split(got, "\n") {
		if index >= len(wantLines) || line != wantLines[index] {
			t.Fatalf(
				"api.txt line %d is stale at %q: review the change, then run go generate",
				index+1,
				line,
			)
		}
	}
	if got != string(want) {
		t.Fatal("api.txt has more than there is: run go generate")
	}
}

func TestWhatIsNotExportedIsNotDescribed(t *testing.T) {
	folder := t.TempDir()
	source := "package p\n\n// Doc.\ntype T struct {\n\tShown  int\n\thidden int\n}\n\n" +
		"func (T) M() { f() }\n\nfunc f() {}\n"
	if err := os.WriteFile(filepath.Join(folder, "p.go"), []byte(source), 0o600); err != nil {
		t.Fatal(err)
	}
	var text strings.Builder
	if err := describe(&text, folder, "example/p"); err != nil {
		t.Fatal(err)
	}
	got := text.String()
	for part, want := range map[string]bool{
		"Shown": true, "func (T) M()": true, "hidden int": false, "func f": false, "Doc": false,
	} {
		if strings.Contains(got, part) != want {
			t.Errorf("%q: got %t in %s", part, !want, got)
		}
	}
}

func TestWhatCannotBeReadIsAnError(t *testing.T) {
	folder := t.TempDir()
	if err := os.WriteFile(filepath.Join(folder, "p.go"), []byte("no Go"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := describe(&strings.Builder{}, folder, "example/p"); err == nil {
		t.Error("expected an error")
	}
}
