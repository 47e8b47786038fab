package machine

import (
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/berthd/berth/problem"
)

var update = flag.Bool("update", false, "write the golden files anew")

// joinCPUs is a core's threads in list format.
func joinCPUs(a, b int) string { return fmt.Sprintf("%d,%d", a, b) }

// text shows a machine: an option a line, then what is said of its threads.
func text(m *Machine) string {
	var b strings.Builder
	b.WriteString(m.Binary)
	for i, arg := range m.Args {
		if strings.HasPrefix(arg, "-") && !isValue(m.Args, i) {
			b.WriteByte('\n')
		} else {
			b.WriteByte(' ')
		}
		b.WriteString(strings.ReplaceAll(arg, "\n", `\n`))
	}
	fmt.Fprintf(&b, "\n\ntype %s, accel %s, memory %d MiB, emulator on %q\n", m.Type, m.Accel, m.MemoryMiB, m.Emulator)
	for _, v := range m.VCPUs {
		fmt.Fprintf(&b, "vCPU %d on %q\n", v.Index, v.CPUs)
	}
	fmt.Fprintf(&b, "I/O threads %v, vfio %v, spare ports %v\n", m.IOThreads, m.Passthrough, m.SparePorts)
	return b.String()
}

// isValue says whether an argument belongs to the option before it.
func isValue(args []string, i int) bool {
	alone := []string{"-no-user-config", "-nodefaults", "-no-shutdown", "-S"}
	return i > 0 && strings.HasPrefix(args[i-1], "-") && !slices.Contains(alone, args[i-1]) && !isValue(args, i-1)
}

func TestGolden(t *testing.T) {
	for name, change := range cases {
		t.Run(name, func(t *testing.T) {
			in := plain()
			change(in)
			m, err := Build(*in)
			if err != nil {
				t.Fatal(err)
			}
			got := text(m)
			path := filepath.Join("testdata", name+".golden")
			if *update {
				if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if got != string(want) {
				t.Errorf("the arguments are others than in %s (-update writes it):\n%s", path, difference(string(want), got))
			}
		})
	}
}

// difference has the lines that only one of the two has.
func difference(want, got string) string {
	var b strings.Builder
	for _, side := range []struct{ sign, one, other string }{{"-", want, got}, {"+", got, want}} {
		lines := strings.Split(side.other, "\n")
		for line := range strings.SplitSeq(side.one, "\n") {
			if !slices.Contains(lines, line) {
				fmt.Fprintln(&b, side.sign, line)
			}
		}
	}
	return b.String()
}

func TestGoldenFilesAreUsed(t *testing.T) {
	files, err := filepath.Glob(filepath.Join("testdata", "*.golden"))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if cases[strings.TrimSuffix(filepath.Base(f), ".golden")] == nil {
			t.Errorf("%s belongs to no case", f)
		}
	}
}

func TestRefusals(t *testing.T) {
	for _, name := range slices.Sorted(maps.Keys(refusals)) {
		r := refusals[name]
		in := plain()
		r.change(in)
		m, err := Build(*in)
		if err == nil {
			t.Errorf("%s: was built:\n%s", name, text(m))
			continue
		}
		p := problem.From(err)
		if p.Kind != problem.Invalid || p.Field != r.field || !strings.Contains(p.Reason, r.words) {
			t.Errorf("%s: %v %q %q; want field %q and the words %q", name, p.Kind, p.Field, p.Reason, r.field, r.words)
		}
	}
}

func TestNamesAreStable(t *testing.T) {
	uuid := UUID("0f2c/web")
	if uuid != UUID("0f2c/web") || uuid == UUID("0f2c/db") || !uuidWords.MatchString(uuid) {
		t.Errorf("UUID %s", uuid)
	}
	mac := MAC(uuid, "a")
	if mac != MAC(uuid, "a") || mac == MAC(uuid, "b") || !strings.HasPrefix(mac, "52:") || len(mac) != 17 {
		t.Errorf("MAC %s", mac)
	}
}
