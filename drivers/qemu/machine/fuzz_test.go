package machine

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"testing"

	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

// FuzzBuild gives odd texts and numbers to machines of every kind: Build does not panic,
// and what it builds has the same options as with plain texts.
func FuzzBuild(f *testing.F) {
	f.Add(uint(0), "web", "root.qcow2", "data", "quiet", "max", uint16(2), uint16(0))
	f.Add(uint(3), `a,file="x"`, "x,readonly=on,,", "-drive", `-append "`, "max,-x", uint16(300), uint16(7))
	f.Add(uint(9), "\n-S\x00", "/dev/fdset/1", "{}", "{\"a\":1}", "host", uint16(0), uint16(99))
	names := slices.Sorted(maps.Keys(cases))
	f.Fuzz(func(t *testing.T, which uint, name, path, label, cmdline, model string, count, more uint16) {
		change := cases[names[which%uint(len(names))]]
		in, odd := plain(), plain()
		change(in)
		change(odd)
		for _, m := range []*Input{in, odd} {
			cpu := m.Config.GetCpu()
			if cpu == nil {
				cpu = &berthv1.QemuCpu{}
				m.Config.Cpu = cpu
			}
			cpu.Count, cpu.Max = uint32(count), uint32(more)
			m.Resources.CpuMilli += uint32(more)
		}
		want, err := Build(*in)
		odd.Name, odd.SeedISO, odd.Config.Cpu.Model = name, path, model
		if in.SeedISO == "" {
			odd.SeedISO = ""
		}
		for i := range odd.Disks {
			odd.Disks[i].Path = path
		}
		if len(odd.Disks) > 1 {
			odd.Disks[1].Config.Name = label
		}
		if odd.Kernel != "" {
			odd.Kernel, odd.Initrd = path+"k", path+"i"
			odd.Config.Cmdline = cmdline + "c"
		}
		got, oddErr := Build(*odd)
		if err != nil || oddErr != nil {
			return // refused: with odd texts more is
		}
		sameOptions(t, want.Args, got.Args)
	})
}

// sameOptions: the values may differ in texts, the options and their keys do not.
func sameOptions(t *testing.T, want, got []string) {
	if len(want) != len(got) {
		t.Fatalf("%d arguments, want %d:\n%q\n%q", len(got), len(want), got, want)
	}
	for i := range want {
		option := i > 0 && isValue(want, i)
		switch {
		case !option && want[i] != got[i]:
			t.Errorf("argument %d is %q, want the option %q", i, got[i], want[i])
		case option && strings.HasPrefix(want[i], "{"):
			if a, b := keysOf(t, want[i]), keysOf(t, got[i]); a != b {
				t.Errorf("%s has the keys %s, want %s", got[i], b, a)
			}
		case option && !slices.Contains([]string{"-cpu", "-append", "-kernel", "-initrd"}, want[i-1]):
			if a, b := words(want[i]), words(got[i]); a != b {
				t.Errorf("%s %q has %d words, want %d", want[i-1], got[i], b, a)
			}
		}
	}
}

// keysOf are the keys of a JSON text at all depths, in order.
func keysOf(t *testing.T, text string) string {
	var v map[string]any
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	var walk func(v any) string
	walk = func(v any) string {
		m, ok := v.(map[string]any)
		if !ok {
			return ""
		}
		var b strings.Builder
		for _, k := range slices.Sorted(maps.Keys(m)) {
			b.WriteString(k + "(" + walk(m[k]) + ")")
		}
		return b.String()
	}
	return walk(v)
}

// words counts the words that QEMU sees: a doubled comma is one comma of a word.
func words(value string) int { return strings.Count(strings.ReplaceAll(value, ",,", ""), ",") + 1 }
