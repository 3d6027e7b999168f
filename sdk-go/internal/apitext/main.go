// Command apitext writes api.txt: every exported declaration of this module and of otel, without
// bodies and comments, so that a change of the public surface is seen in review. Run it in sdk-go
// as `go generate`.
package main

import (
	"fmt"
	"go/ast"
	"go/doc"
	"go/parser"
	"go/printer"
	"go/token"
	"os"
	"path/filepath"
	"strings"
)

// packages are the public ones, by folder.
var packages = []struct{ folder, path string }{
	{".", "fractal-lba.example/sdk-go"},
	{"fractaltest", "fractal-lba.example/sdk-go/fractaltest"},
	{"ring", "fractal-lba.example/sdk-go/ring"},
	{"otel", "fractal-lba.example/sdk-go/otel"},
}

func main() {
	text, err := surface(".")
	if err == nil {
		err = os.WriteFile("api.txt", []byte(text), 0o644)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// surface describes every public package below a folder.
func surface(root string) (string, error) {
	var text strings.Builder
	for _, each := range packages {
		if err := describe(&text, filepath.Join(root, each.folder), each.path); err != nil {
			return "", err
		}
	}
	return strings.TrimSpace(text.String()) + "\n", nil
}

func describe(text *strings.Builder, folder, path string) error {
	names, err := filepath.Glob(filepath.Join(folder, "*.go"))
	if err != nil {
		return err
	}
	set := token.NewFileSet()
	var files []*ast.File
	for _, name := range names {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(set, name, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		files = append(files, file)
	}
	found, err := doc.NewFromFiles(set, files, path)
	if err != nil {
		return err
	}
	fmt.Fprintf(text, "package %s // import %q\n", found.Name, path)
	w := &writer{text: text, set: set}
	w.values(found.Consts)
	w.values(found.Vars)
	w.funcs(found.Funcs)
	for _, kind := range found.Types {
		w.decl(kind.Decl)
		w.values(kind.Consts)
		w.values(kind.Vars)
		w.funcs(kind.Funcs)
		w.funcs(kind.Methods)
	}
	text.WriteString("\n")
	return w.failed
}

type writer struct {
	text   *strings.Builder
	set    *token.FileSet
	failed error
}

func (w *writer) values(values []*doc.Value) {
	for _, each := range values {
		w.decl(each.Decl)
	}
}

func (w *writer) funcs(funcs []*doc.Func) {
	for _, each := range funcs {
		each.Decl.Body = nil
		w.decl(each.Decl)
	}
}

func (w *writer) decl(node ast.Decl) {
	w.text.WriteString("\n")
	config := printer.Config{Mode: printer.UseSpaces | printer.TabIndent, Tabwidth: 8}
	if err := config.Fprint(w.text, w.set, node); err != nil {
		w.failed = err
	}
	w.text.WriteString("\n")
}
