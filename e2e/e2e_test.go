package e2e

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

var (
	update = flag.Bool("update", false, "rewrite what scripts compare with")
	keep   = flag.Bool("keep", false, "keep the scripts' directories, with the logs of the daemons")
)

// root holds everything that the scripts make; bin, in it, comes first in their PATH.
var root, bin string

func TestMain(m *testing.M) {
	// Scripts wait more than they work, so a few at once do no harm on a small machine.
	_ = flag.Set("test.parallel", "4")
	flag.Parse()
	os.Exit(run(m))
}

func run(m *testing.M) int {
	if unable() != "" {
		return m.Run() // the tests say why they are skipped
	}
	var err error
	if root, err = os.MkdirTemp("", "berth-e2e-"); err != nil {
		fmt.Println(err)
		return 1
	}
	bin = filepath.Join(root, "bin")
	if err := binary(); err != nil {
		fmt.Println(err)
		return 1
	}
	code := m.Run()
	if *keep {
		fmt.Println("kept:", root)
		return code
	}
	if err := removeTree(root); err != nil {
		fmt.Println(err)
		return 1
	}
	return code
}

// unable says why nothing can be tested here; "" when it can.
func unable() string {
	switch {
	case runtime.GOOS != "linux":
		return "the exec driver needs Linux"
	case os.Geteuid() != 0:
		return "the exec driver needs root"
	case testing.Short():
		return "it takes about a minute"
	}
	return ""
}

// binary puts berth into the directory bin.
func binary() error {
	if err := os.Mkdir(bin, 0o755); err != nil {
		return err
	}
	berth := filepath.Join(bin, "berth")
	if path := os.Getenv("BERTH_BINARY"); path != "" {
		return os.Symlink(path, berth)
	}
	return build("../", "./cmd/berth", berth)
}

func build(dir, pkg, out string) error {
	cmd := exec.Command("go", "build", "-o", out, pkg)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if text, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("building %s: %w\n%s", pkg, err, text)
	}
	return nil
}

// removeTree removes a directory, unless something is mounted in it: what a mount shows
// would be removed with it.
func removeTree(dir string) error {
	if left := mountsBelow(dir); len(left) > 0 {
		return fmt.Errorf("not removed, because it is mounted: %s", strings.Join(left, ", "))
	}
	return os.RemoveAll(dir)
}

// TestScripts takes about a minute.
func TestScripts(t *testing.T) {
	if why := unable(); why != "" {
		t.Skip(why)
	}
	work, err := os.MkdirTemp(root, "") //nolint:usetesting // t.TempDir removes without looking for mounts
	if err != nil {
		t.Fatal(err)
	}
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		WorkdirRoot:         work, // testscript leaves it to us to remove it
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		UpdateScripts:       *update,
		Setup:               newCluster,
		Cmds:                commands,
		Condition:           condition,
	})
}
