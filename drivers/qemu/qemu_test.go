package qemu_test

import (
	"fmt"
	"log/slog"
	"os"
	"sync"
	"testing"

	"github.com/berthd/berth/drivers"
	"github.com/berthd/berth/drivers/cgroup"
	"github.com/berthd/berth/drivers/drivertest"
	"github.com/berthd/berth/drivers/qemu"
	"github.com/berthd/berth/drivers/qemu/qemutest"
)

// parent is where these tests' cgroups live, apart from those of an agent on the machine
// and of the same tests of somebody else.
var parent = fmt.Sprintf("berth-test-%d.slice", os.Getpid())

// TestMain is also the agents that these tests kill: the test binary executed again.
func TestMain(m *testing.M) {
	if words := os.Getenv(lifeVariable); words != "" {
		if err := live(words); err != nil {
			fmt.Fprintln(os.Stderr, "the agent:", err)
		}
		return
	}
	code := m.Run()
	if host, err := cgroup.Probe(parent); err == nil {
		if err := host.Destroy(); err != nil {
			fmt.Fprintln(os.Stderr, "clearing up:", err)
			code = 1
		}
	}
	os.Exit(code)
}

// lives makes drivers of an agent's successive lives: the kernel closes the connections
// of one that has died.
type lives struct {
	mu   sync.Mutex
	last *qemu.Driver
	make func(testing.TB) *qemu.Driver
}

func (l *lives) next(t *testing.T) drivers.Driver {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.end()
	l.last = l.make(t)
	return l.last
}

// end closes the last driver, where any was made.
func (l *lives) end() {
	if l.last != nil {
		l.last.Close()
	}
}

func TestConformance(t *testing.T) {
	g := qemutest.Need(t)
	if testing.Short() {
		t.Skip("boots some dozens of guests")
	}
	images := t.TempDir()
	l := &lives{make: func(t testing.TB) *qemu.Driver {
		cfg := qemutest.Config(g, parent, images)
		cfg.Log = slog.New(slog.NewTextHandler(t.Output(), nil))
		return qemu.New(cfg)
	}}
	t.Cleanup(l.end)
	f := qemutest.Factory(g, parent)
	f.New = l.next
	drivertest.Run(t, f)
}
