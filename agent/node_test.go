package agent

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/berthd/berth/drivers"
	"github.com/berthd/berth/drivers/mock"
	"github.com/berthd/berth/problem"
	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

func TestConfigIsChecked(t *testing.T) {
	good := Config{DataDir: "/var/lib/berth", Logger: slog.New(slog.DiscardHandler)}
	c, err := good.complete()
	if err != nil || c.Pool != "default" || c.MinPort != 20000 || c.MaxPort != 32000 || c.Root != "/" {
		t.Errorf("defaults: %+v, %v", c, err)
	}
	for field, change := range map[string]func(*Config){
		"agent.data_dir":          func(c *Config) { c.DataDir = "relative" },
		"agent.logger":            func(c *Config) { c.Logger = nil },
		"agent.max_port":          func(c *Config) { c.MinPort, c.MaxPort = 5000, 4000 },
		"agent.reserved.cpus":     func(c *Config) { c.Reserved.CPUs = "3-1" },
		"agent.reserved.ports[1]": func(c *Config) { c.Reserved.Ports = []uint32{22, 70000} },
		"agent.address":           func(c *Config) { c.Address = "localhost" },
		"agent.drivers[1]":        func(c *Config) { d := mock.New(mock.NewHost()); c.Drivers = []drivers.Driver{d, d} },
	} {
		c := good
		change(&c)
		if _, err := c.complete(); !problem.Is(err, problem.Invalid) || !strings.Contains(err.Error(), field+": ") {
			t.Errorf("%s: %v", field, err)
		}
	}
	bad := Config{MinPort: 99999}
	if _, err := bad.complete(); problem.From(err) == nil || len(problem.From(err).Causes) != 3 {
		t.Errorf("several faults: %v", err)
	}
}

func TestReserve(t *testing.T) {
	hw := &berthv1.Hardware{DiskMib: 1000, Cells: []*berthv1.Cell{
		{Id: 0, Cores: []string{"0,4", "1,5"}, MemoryMib: 3000, ReservedMemoryMib: 100},
		{Id: 1, Cores: []string{"2,6", "3,7"}, MemoryMib: 1000},
		{Id: 2}, // neither CPUs nor memory
	}}
	reserve(hw, Reserved{CPUs: "0,4,7,99", MemoryMiB: 400, DiskMiB: 5000})
	want := &berthv1.Hardware{Cells: []*berthv1.Cell{
		{Id: 0, Cores: []string{"0,4", "1,5"}, MemoryMib: 3000, ReservedMemoryMib: 400, ReservedCpus: "0,4"},
		{Id: 1, Cores: []string{"2,6", "3,7"}, MemoryMib: 1000, ReservedMemoryMib: 100, ReservedCpus: "7"},
		{Id: 2},
	}}
	if diff := cmp.Diff(want, hw, protocmp.Transform()); diff != "" {
		t.Error(diff)
	}
}

type brokenDriver struct{ *mock.Driver }

func (brokenDriver) Probe(context.Context) (*berthv1.DriverInfo, error) {
	return nil, errors.New("no such device")
}

func TestProbe(t *testing.T) {
	info := probeOne(t.Context(), brokenDriver{mock.New(mock.NewHost())})
	if info.GetHealthy() || info.GetName() != "mock" || info.GetMessage() != "no such device" || len(info.GetCapabilities()) == 0 {
		t.Errorf("a driver that cannot be probed: %v", info)
	}
	if info := probeOne(t.Context(), mock.New(mock.NewHost())); !info.GetHealthy() {
		t.Errorf("a healthy driver: %v", info)
	}
}

// TestRebootAndReconfigure runs the part of Run that looks at the node, twice.
func TestRebootAndReconfigure(t *testing.T) {
	dir, root := t.TempDir(), t.TempDir()
	life := func(boot string) *Agent {
		t.Helper()
		path := filepath.Join(root, "proc/sys/kernel/random")
		if err := os.MkdirAll(path, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(path, "boot_id"), []byte(boot+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		a, err := New(Config{DataDir: dir, Root: root, Address: "10.0.0.1", Name: "n", Logger: slog.New(slog.DiscardHandler), Meta: map[string]string{"rack": "r1"}})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = a.Close() })
		a.look(t.Context())
		a.noteBoot()
		return a
	}
	for _, step := range []struct {
		boot     string
		rebooted bool
	}{{"b1", false}, {"b1", false}, {"b2", true}, {"b2", false}} {
		a := life(step.boot)
		if a.rebooted != step.rebooted {
			t.Errorf("boot %s: rebooted is %v", step.boot, a.rebooted)
		}
		if got := a.Node().GetMeta()["rack"]; got != "r1" {
			t.Errorf("rack is %q", got)
		}
		before := a.Node()
		a.Reconfigure(map[string]string{"rack": "r2"}, []*berthv1.Taint{{Key: "gpu"}})
		if n := a.Node(); n.GetMeta()["rack"] != "r2" || len(n.GetTaints()) != 1 || before.GetMeta()["rack"] != "r1" {
			t.Errorf("after the change: %v; before: %v", n, before.GetMeta())
		}
		if err := a.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
