package exec_test

import (
	"fmt"
	"log/slog"
	"os"
	"testing"

	"github.com/berthd/berth/drivers"
	"github.com/berthd/berth/drivers/cgroup"
	"github.com/berthd/berth/drivers/drivertest"
	"github.com/berthd/berth/drivers/exec"
	"github.com/berthd/berth/drivers/exec/exectest"
)

// parent is where these tests' cgroups live, apart from those of an agent on the machine
// and of the same tests of somebody else.
var parent = fmt.Sprintf("berth-test-%d.slice", os.Getpid())

func newDriver(t testing.TB) *exec.Driver {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: namespaces and cgroups")
	}
	d := exec.New(exec.Config{CgroupParent: parent, Log: slog.New(slog.NewTextHandler(t.Output(), nil))})
	info, err := d.Probe(t.Context())
	if err != nil || !info.GetHealthy() {
		t.Skipf("the exec driver cannot work here: %s, %v", info.GetMessage(), err)
	}
	return d
}

func TestMain(m *testing.M) {
	code := m.Run()
	if host, err := cgroup.Probe(parent); err == nil {
		if err := host.Destroy(); err != nil {
			fmt.Fprintln(os.Stderr, "clearing up:", err)
			code = 1
		}
	}
	os.Exit(code)
}

func TestConformance(t *testing.T) {
	f := exectest.Factory(parent)
	f.New = func(t *testing.T) drivers.Driver { return newDriver(t) }
	drivertest.Run(t, f)
}
