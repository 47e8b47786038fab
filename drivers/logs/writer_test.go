package logs

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestWriterGoesOnWhereTheLastRunEnded(t *testing.T) {
	dir := t.TempDir()
	for i := range 3 {
		w := Open(dir, "web", "stdout", 2, 10)
		fmt.Fprintf(w, "run %d\n", i)
		w.Close()
	}
	// 18 bytes in files of 10: the second run's line is split between both.
	for n, want := range []string{"run 0\nrun ", "1\nrun 2\n"} {
		got, err := os.ReadFile(filepath.Join(dir, fmt.Sprintf("web.stdout.%d", n)))
		if err != nil || string(got) != want {
			t.Errorf("file %d: %q, %v, want %q", n, got, err, want)
		}
	}
}

// What is kept is the end of what was written, in at most maxFiles of at most maxBytes.
func TestWriterBounds(t *testing.T) {
	top, runs := t.TempDir(), 0
	rapid.Check(t, func(t *rapid.T) {
		runs++
		dir := filepath.Join(top, strconv.Itoa(runs))
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		maxFiles, maxBytes := rapid.IntRange(1, 4).Draw(t, "files"), rapid.Int64Range(1, 64).Draw(t, "bytes")
		var all []byte
		w := Open(dir, "t", "stderr", maxFiles, maxBytes)
		for range rapid.IntRange(1, 20).Draw(t, "writes") {
			p := []byte(rapid.StringN(0, 90, 90).Draw(t, "p"))
			all = append(all, p...)
			if n, err := w.Write(p); n != len(p) || err != nil {
				t.Fatalf("Write = %d, %v", n, err)
			}
			if rapid.Bool().Draw(t, "reopen") {
				w.Close()
				w = Open(dir, "t", "stderr", maxFiles, maxBytes)
			}
		}
		last := w.index
		w.Close()
		entries, _ := os.ReadDir(dir)
		if len(entries) > maxFiles {
			t.Fatalf("%d files, at most %d allowed", len(entries), maxFiles)
		}
		var kept []byte
		for n := last - len(entries) + 1; n <= last; n++ {
			b, err := os.ReadFile(w.path(n))
			if err != nil || int64(len(b)) > maxBytes {
				t.Fatalf("file %d: %d bytes, %v", n, len(b), err)
			}
			kept = append(kept, b...)
		}
		if !bytes.HasSuffix(all, kept) {
			t.Fatalf("kept %q is not the end of what was written", kept)
		}
	})
}

func TestWriterDropsAndSaysSo(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "later")
	w := Open(dir, "web", "stdout", 2, 1000)
	fmt.Fprint(w, "lost")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	fmt.Fprint(w, "kept")
	w.Close()
	got, err := os.ReadFile(filepath.Join(dir, "web.stdout.0"))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(got), "[berth: 4 bytes of output were dropped") || !strings.HasSuffix(string(got), "\nkept") {
		t.Errorf("got %q", got)
	}
}
