package main

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
)

// TestUpToDate makes the document anew where the tools for it are there.
func TestUpToDate(t *testing.T) {
	root := filepath.Join("..", "..", "..", "..")
	if _, err := os.Stat(filepath.Join(root, ".build", "tools", "protoc-gen-openapiv3")); err != nil {
		t.Skip("the generators are not installed here")
	}
	raw, err := rawDocument(root)
	if err != nil {
		t.Fatal(err)
	}
	want, err := finish(raw)
	if err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(filepath.Join(root, "server", "api", "openapi.json"))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Error("server/api/openapi.json is not what the schema gives: run go generate ./server/api")
	}
}
