package shim

import (
	"os/exec"
	"reflect"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/berthd/berth/drivers/cgroup"
)

// Every import makes every shim bigger: Go initialises what comes before this package by
// name or need first.
func TestImportsStayFew(t *testing.T) {
	out, err := exec.Command("go", "list", "-deps", ".").Output()
	if err != nil {
		t.Skipf("go list: %v", err)
	}
	allowed := map[string]bool{
		"golang.org/x/sys/unix":                     true,
		"github.com/berthd/berth/drivers/cgroup":    true,
		"github.com/berthd/berth/drivers/logs":      true,
		"github.com/berthd/berth/drivers/exec/shim": true,
	}
	heavy := map[string]string{
		"encoding/json": "reflection tables; Spec has a codec", "net": "the resolver; sockets are raw here",
		"os/exec": "ForkExec is enough", "os/signal": "a goroutine and a thread",
		"path/filepath": "its name sorts after most packages, so that all of them would be initialised first",
		"regexp":        "compiles tables",
	}
	for _, p := range strings.Fields(string(out)) {
		if strings.Contains(strings.Split(p, "/")[0], ".") && !allowed[p] {
			t.Errorf("imports %s", p)
		}
		if why := heavy[p]; why != "" {
			t.Errorf("imports %s: %s", p, why)
		}
	}
}

func TestSpecComesBack(t *testing.T) {
	text := rapid.String()
	texts := rapid.SliceOfN(text, 0, 4)
	rapid.Check(t, func(t *rapid.T) {
		want := &Spec{
			Supervisor: Supervisor{
				BootID: text.Draw(t, "boot"), Task: "web", MaxFiles: rapid.Int().Draw(t, "files"), MaxFileBytes: rapid.Int64().Draw(t, "bytes"),
				ShimProcs: texts.Draw(t, "shim"), TaskProcs: texts.Draw(t, "task"), Killer: cgroup.Killer{KillFile: text.Draw(t, "kill")},
				PIDPrivate: rapid.Bool().Draw(t, "pid"),
			},
			Process: Process{
				Command: text.Draw(t, "command"), Args: texts.Draw(t, "args"), Env: texts.Draw(t, "env"), UID: rapid.Int().Draw(t, "uid"),
				Groups: rapid.SliceOfN(rapid.Int(), 0, 3).Draw(t, "groups"), Bounding: rapid.Uint64().Draw(t, "caps"),
				Seccomp: rapid.SliceOfN(rapid.Byte(), 0, 64).Draw(t, "seccomp"),
				Rlimits: []Rlimit{{Resource: 7, Value: rapid.Uint64().Draw(t, "limit")}}, OOMScoreAdj: rapid.IntRange(-1000, 1000).Draw(t, "oom"),
			},
			View: View{Rootfs: text.Draw(t, "rootfs"), Entries: texts.Draw(t, "entries"), Binds: []Bind{{Source: "/a", Path: text.Draw(t, "path"), Writable: true}}, ReadOnlyPaths: texts.Draw(t, "ro")},
		}
		got, ok := DecodeSpec(want.Encode())
		if !ok || !reflect.DeepEqual(got, want) {
			t.Fatalf("got %+v, want %+v", got, want)
		}
		r := &Request{Command: texts.Draw(t, "c"), Env: texts.Draw(t, "e"), TTY: true, Rows: rapid.Uint16().Draw(t, "rows")}
		if back, ok := DecodeRequest(r.Encode()); !ok || !reflect.DeepEqual(back, r) {
			t.Fatalf("got %+v, want %+v", back, r)
		}
	})
}

// FuzzDecode: whatever the bytes, no panic and nothing much allocated.
func FuzzDecode(f *testing.F) {
	f.Add((&Spec{Process: Process{Args: []string{"a"}}}).Encode())
	f.Add((&Failure{Kind: "invalid", Reason: "x"}).Encode())
	f.Fuzz(func(_ *testing.T, b []byte) {
		_, _ = DecodeSpec(b)
		_, _ = DecodeRequest(b)
		_, _ = DecodeFailure(b)
	})
}
