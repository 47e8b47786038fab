package qemu_test

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
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

// lives makes the drivers of a test's agents, one after the other: the kernel closes the
// connections of one that has died.
type lives struct {
	make func(testing.TB) *qemu.Driver

	mu   sync.Mutex
	last map[string]*qemu.Driver // by the test
}

func (l *lives) next(t *testing.T) drivers.Driver {
	l.mu.Lock()
	before := l.last[t.Name()]
	now := l.make(t)
	l.last[t.Name()] = now
	l.mu.Unlock()
	if before != nil {
		before.Close()
		return now
	}
	t.Cleanup(func() {
		l.mu.Lock()
		last := l.last[t.Name()]
		l.mu.Unlock()
		last.Close()
	})
	return now
}

func TestConformance(t *testing.T) {
	g := qemutest.Need(t)
	if testing.Short() {
		t.Skip("boots some dozens of guests")
	}
	images := t.TempDir()
	l := &lives{last: map[string]*qemu.Driver{}, make: func(t testing.TB) *qemu.Driver {
		// A store of images has one owner.
		cfg := qemutest.Config(g, parent, filepath.Join(images, strings.ReplaceAll(t.Name(), "/", "-")))
		cfg.Log = slog.New(slog.NewTextHandler(t.Output(), nil))
		return qemu.New(cfg)
	}}
	f := qemutest.Factory(g, parent)
	f.New = l.next
	drivertest.Run(t, f)
}
