package command

import (
	"flag"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"
)

var update = flag.Bool("update", false, "write golden files anew")

// testApp is the program with its output in strings.
func testApp() (*app, *strings.Builder, *strings.Builder) {
	var out, err strings.Builder
	none := func(string) string { return "" }
	return newApp(Streams{In: strings.NewReader(""), Out: &out, Err: &err, Getenv: none, Environ: func() []string { return nil }}), &out, &err
}

// TestReference holds docs/cli.md against the command tree; -update writes it.
func TestReference(t *testing.T) {
	const file = "../docs/cli.md"
	a, _, _ := testApp()
	want := reference(a.root())
	if *update {
		if err := os.WriteFile(file, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, _ := os.ReadFile(file)
	if diff := cmp.Diff(want, string(got)); diff != "" {
		t.Errorf("docs/cli.md is not current; go test ./command -update writes it\n%s", diff)
	}
}

// TestTree holds every command to what they all promise.
func TestTree(t *testing.T) {
	a, _, _ := testApp()
	var visit func(*cobra.Command)
	visit = func(cmd *cobra.Command) {
		if cmd.Short == "" || strings.HasSuffix(cmd.Short, ".") || cmd.Short[:1] != strings.ToUpper(cmd.Short[:1]) {
			t.Errorf("%s: its short description is %q", cmd.CommandPath(), cmd.Short)
		}
		if !cmd.HasSubCommands() && cmd.RunE == nil {
			t.Errorf("%s does nothing", cmd.CommandPath())
		}
		for _, f := range flagPairs(cmd.NonInheritedFlags()) {
			if f.text == "" {
				t.Errorf("%s: flag %s is not described", cmd.CommandPath(), f.name)
			}
		}
		for _, c := range cmd.Commands() {
			if !c.Hidden {
				visit(c)
			}
		}
	}
	visit(a.root())
}
