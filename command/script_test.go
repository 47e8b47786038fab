package command

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"strconv"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"berth": func() { os.Exit(Main(context.Background(), os.Args[1:], OSStreams())) },
	})
}

// TestScripts runs berth as a process of its own against a fake cluster: what people see,
// and the exit codes.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		UpdateScripts:       *update,
		Setup: func(env *testscript.Env) error {
			f := newFakeCluster()
			env.Values["fake"] = f
			env.Setenv("BERTH_ADDR", serveFake(env.T().(testing.TB), f))
			env.Setenv("TZ", "UTC")
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits":    cmdExits,
			"electing": cmdElecting,
		},
	})
}

// cmdExits runs a command and checks its exit code: exits 2 berth job run huge.hcl
func cmdExits(ts *testscript.TestScript, _ bool, args []string) {
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	code := 0
	if err := ts.Exec(args[1], args[2:]...); err != nil {
		var exit *exec.ExitError
		if !errors.As(err, &exit) {
			ts.Fatalf("%v", err)
		}
		code = exit.ExitCode()
	}
	if code != want {
		ts.Fatalf("exit code %d, want %d", code, want)
	}
}

// cmdElecting lets the next calls find no leader: electing 2
func cmdElecting(ts *testscript.TestScript, _ bool, args []string) {
	n, err := strconv.Atoi(args[0])
	ts.Check(err)
	f := ts.Value("fake").(*fakeCluster)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.electing = n
}
