package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestPageIsUpToDate(t *testing.T) {
	root, err := repository()
	if err != nil {
		t.Fatal(err)
	}
	want, err := generate(root)
	if err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(filepath.Join(root, page))
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != want {
		t.Errorf("%s is not what the schema says; run go generate ./jobspec", page)
	}
	for _, word := range []string{"FUNCTIONS", "LIMITS", "``", "<KEY> "} {
		if strings.Contains(strings.ReplaceAll(want, "```", ""), word) {
			t.Errorf("the page holds %q", word)
		}
	}
}
