package layering

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/berthd/berth"

// TestHouse checks this module.
func TestHouse(t *testing.T) {
	pkgs := load(t)
	if len(pkgs) < 10 {
		t.Fatalf("go list found only %d packages", len(pkgs))
	}
	for _, v := range violations(pkgs, rules) {
		t.Errorf("forbidden import: %s", v)
	}
	for _, v := range untidy(pkgs) {
		t.Error(v)
	}
}

// load lists this module's packages with their imports, without those of their tests.
func load(t *testing.T) []pkg {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "list", "-e", "-json=ImportPath,Name,Doc,Imports,GoFiles,Module", "-deps", "./...")
	cmd.Dir = "../.."
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, stderr.String())
	}
	var pkgs []pkg
	for dec := json.NewDecoder(strings.NewReader(string(out))); ; {
		var listed struct {
			ImportPath, Name, Doc string
			Imports, GoFiles      []string
			Module                *struct{ Path string }
		}
		if err := dec.Decode(&listed); errors.Is(err, io.EOF) {
			return pkgs
		} else if err != nil {
			t.Fatalf("reading go list's output: %v", err)
		}
		if listed.Module == nil || listed.Module.Path != module || len(listed.GoFiles) == 0 {
			continue
		}
		p := pkg{name: listed.Name, doc: listed.Doc}
		if listed.ImportPath != module {
			p.path = notation(module, listed.ImportPath)
		}
		for _, i := range listed.Imports {
			p.imports = append(p.imports, notation(module, i))
		}
		pkgs = append(pkgs, p)
	}
}

// TestRulesFind plants violations and sees that they are found, and nothing else.
func TestRulesFind(t *testing.T) {
	for name, tc := range map[string]struct {
		pkgs []pkg
		want []string // beginnings of what is found
	}{
		"a good house": {pkgs: []pkg{
			{path: "proto/berth/v1", imports: []string{"lib:google.golang.org/grpc", "std:net"}},
			{path: "topology", imports: []string{"std:fmt"}},
			{path: "scheduler", imports: []string{"topology", "proto/berth/v1", "scheduler/index", "std:slices"}},
			{path: "scheduler/index", imports: []string{"topology"}},
			{path: "server", imports: []string{"server/state", "scheduler"}},
			{path: "server/state", imports: []string{"proto/berth/v1", "std:time"}},
			{path: "command", imports: []string{"server", "agent", "lib:github.com/spf13/cobra"}},
			{path: "agent", imports: []string{"drivers/exec"}},
			{path: "drivers/exec", imports: []string{"drivers", "std:os"}},
			{path: "drivers"},
		}},
		"server imports agent": {
			pkgs: []pkg{{path: "server/dispatch", imports: []string{"agent/session"}}, {path: "agent/session"}},
			want: []string{"server/dispatch -> agent/session: "},
		},
		"agent imports server by way of another": {
			pkgs: []pkg{
				{path: "agent", imports: []string{"topology"}},
				{path: "topology", imports: []string{"server/state"}},
				{path: "server/state"},
			},
			want: []string{"agent -> topology -> server/state: ", "topology -> server/state: "},
		},
		"main imports more than command": {
			pkgs: []pkg{{path: "cmd/berth", imports: []string{"command", "server"}}, {path: "command", imports: []string{"server", "agent"}}, {path: "server"}, {path: "agent"}},
			want: []string{"cmd/berth -> server: "},
		},
		"a new room nobody planned": {
			pkgs: []pkg{{path: "client", imports: []string{"shiny"}}, {path: "shiny"}},
			want: []string{"client -> shiny: "},
		},
		"the scheduler reads a file": {
			pkgs: []pkg{{path: "scheduler/sim", imports: []string{"std:os"}}},
			want: []string{"scheduler/sim -> std:os: "},
		},
		"the state rolls dice": {
			pkgs: []pkg{{path: "server/state", imports: []string{"std:math/rand/v2"}}},
			want: []string{"server/state -> std:math/rand/v2: "},
		},
		"topology uses a library": {
			pkgs: []pkg{{path: "topology", imports: []string{"lib:github.com/tidwall/btree"}}},
			want: []string{"topology -> lib:github.com/tidwall/btree: "},
		},
		"flags outside command": {
			pkgs: []pkg{{path: "agent", imports: []string{"lib:github.com/spf13/cobra"}}},
			want: []string{"agent -> lib:github.com/spf13/cobra: "},
		},
		"a similar name is another": {
			pkgs: []pkg{{path: "agent", imports: []string{"lib:github.com/spf13/cobra-like", "std:os/exec"}}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			got := violations(tc.pkgs, rules)
			same := slices.EqualFunc(got, tc.want, strings.HasPrefix)
			if !same {
				t.Errorf("found %q, want %q", got, tc.want)
			}
		})
	}
}

// TestUntidyFinds plants a vague name, a missing comment and a file in the root.
func TestUntidyFinds(t *testing.T) {
	got := untidy([]pkg{
		{path: "agent/common/disk", name: "disk", doc: "Package disk ..."},
		{path: "server/names", name: "types", doc: "Package types ..."},
		{path: "server/plan", name: "plan"},
		{path: "", name: "berth", doc: "Package berth ..."},
		{path: "scheduler", name: "scheduler", doc: "Package scheduler ..."},
	})
	want := []string{
		`agent/common/disk: the name "common"`,
		`server/names: the name "types"`,
		"server/plan: no package comment",
		"there are Go files in the repository's root",
	}
	if !slices.EqualFunc(got, want, strings.HasPrefix) {
		t.Errorf("found %q, want %q", got, want)
	}
}
