package jobspec

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Every job in a fenced block of docs/scheduling.md is read without an error or a warning,
// and formatted.
func TestGuideSpecs(t *testing.T) {
	name := filepath.Join("..", "docs", "scheduling.md")
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	blocks := strings.Split(string(text), "```hcl\n")[1:]
	for _, block := range blocks {
		src, _, _ := strings.Cut(block, "```")
		job, err := Parse([]byte(src), Options{Filename: "scheduling.hcl"})
		if err != nil {
			t.Errorf("%v", err)
			continue
		}
		if w := Warnings(job); len(w) > 0 {
			t.Errorf("%s: %q", job.GetName(), w)
		}
		if out, err := Format([]byte(src), "x.hcl"); err != nil || string(out) != src {
			t.Errorf("%s is not formatted (%v):\n%s", job.GetName(), err, out)
		}
	}
	if len(blocks) == 0 {
		t.Error("no specs in it")
	}
}
