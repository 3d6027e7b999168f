// Package golden holds the published vectors: MANIFEST.json, which names every file with its
// hash and the hash of the whole suite, and the files themselves under vectors/.
//
// A program that uses them pins the version and compares the suite hash, so that new vectors
// never turn an unrelated change red.
package golden

import "embed"

// Files holds MANIFEST.json and vectors/.
//
//go:embed MANIFEST.json all:vectors
var Files embed.FS
