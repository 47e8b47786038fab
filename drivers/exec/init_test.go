package exec_test

import (
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/berthd/berth/drivers/exec/exectest"
)

// TestInit holds what people need an init for: PID 1 of a task is not the task itself but
// its shim. It reaps what the task leaves behind, and the task, being an ordinary process,
// gets signals as it would anywhere.
func TestInit(t *testing.T) {
	d := newDriver(t)
	task := newTask(t, d, t.TempDir(), exectest.Shell(`
		stats() { cat /proc/[0-9]*/stat | while read -r pid name state parent rest; do echo "$1 $name $state $parent"; done; }
		trap "echo got HUP" HUP
		trap "echo got TERM; exit 3" TERM
		[ $$ = 1 ] && echo "the task is PID 1"
		for i in 1 2 3 4 5; do (sleep 0.2 &) ; done # orphans at once
		stats before | grep -e " 1$"
		sleep 0.5
		stats after | grep -e sleep -e " Z "
		echo ready
		while :; do sleep 0.02; done`))
	start(t, d, task)
	output := func() string {
		b, _ := os.ReadFile(task.Dirs.Logs + "/main.stdout.0")
		return string(b)
	}
	wait := func(words string) {
		t.Helper()
		for deadline := time.Now().Add(10 * time.Second); !strings.Contains(output(), words); time.Sleep(5 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("no %q in %q", words, output())
			}
		}
	}
	wait("ready")
	if n := len(regexp.MustCompile(`before \((sleep|sh)\) . 1\n`).FindAllString(output(), -1)); n != 6 {
		t.Errorf("%d processes have PID 1 as their parent, want the task and 5 orphans:\n%s", n, output())
	}
	if out := output(); strings.Contains(out, "after") || strings.Contains(out, "PID 1") {
		t.Errorf("what the task left behind was not reaped, or it is PID 1 itself:\n%s", out)
	}
	if err := d.Signal(t.Context(), task.ID, "SIGHUP"); err != nil {
		t.Fatal(err)
	}
	wait("got HUP")
	if err := d.Stop(t.Context(), task.ID, "SIGTERM", 10*time.Second); err != nil {
		t.Fatal(err)
	}
	if exit, err := d.Wait(t.Context(), task.ID); err != nil || exit.Code != 3 {
		t.Errorf("Wait = %+v, %v", exit, err)
	}
	wait("got TERM")
}
