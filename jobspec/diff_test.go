package jobspec

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"

	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

// TestDiff runs testdata/diff: two jobs, and what Diff says of their canonical forms.
func TestDiff(t *testing.T) {
	names, _ := filepath.Glob("testdata/diff/*.txtar")
	for _, name := range names {
		archive, err := txtar.ParseFile(name)
		if err != nil {
			t.Fatal(err)
		}
		var jobs []*berthv1.Job
		for _, f := range archive.Files[:2] {
			job, err := Parse(f.Data, Options{Filename: f.Name})
			if err != nil {
				t.Fatal(err)
			}
			job = Canonicalize(job)
			job.Version = uint64(len(jobs)) // set by the servers: no difference
			jobs = append(jobs, job)
		}
		var b strings.Builder
		for _, d := range Diff(jobs[0], jobs[1]) {
			fmt.Fprintf(&b, "%s %s %s -> %s\n", d.GetKind(), d.GetPath(), d.GetOld(), d.GetNew())
		}
		want := txtar.File{Name: "diff", Data: []byte(strings.ReplaceAll(b.String(), "  ->", " ->"))}
		if *update {
			archive.Files = append(archive.Files[:2], want)
			if err := os.WriteFile(name, txtar.Format(archive), 0o644); err != nil {
				t.Fatal(err)
			}
			continue
		}
		if got := archive.Files[2]; string(got.Data) != string(want.Data) {
			t.Errorf("%s: got\n%s\nwant\n%s", name, want.Data, got.Data)
		}
		if d := Diff(nil, jobs[0]); len(d) < 10 || d[0].GetPath() != "name" {
			t.Errorf("a new job shows %v", d)
		}
	}
}
