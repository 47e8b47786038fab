package main

import (
	"context"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/berthd/berth/drivers"
	"github.com/berthd/berth/drivers/drivertest"
	"github.com/berthd/berth/plugins"
)

// TestMain is the plugin as well: the test binary, executed again by the test.
func TestMain(m *testing.M) {
	if os.Getenv("BERTH_PLUGIN") != "" {
		main()
		return
	}
	os.Exit(m.Run())
}

func block(format string, args ...any) drivertest.Config {
	return drivertest.Config{"script": fmt.Sprintf(format, args...)}
}

// TestConformance holds the driver to the contract, through the wire, with the agent
// dying between any two steps.
func TestConformance(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	config := plugins.Config{Name: "script", Path: self, StateDir: t.TempDir()}
	t.Cleanup(func() {
		if err := plugins.New(config).End(); err != nil {
			t.Error(err)
		}
	})
	drivertest.Run(t, drivertest.Factory{
		New:      func(t *testing.T) drivers.Driver { return attach(t, config) },
		Forever:  block("exec sleep 1000"),
		Stubborn: block("trap '' TERM; echo ready; while :; do sleep 0.05; done"),
		ExitWith: func(after time.Duration, code int) drivertest.Config {
			return block("sleep %f; exit %d", after.Seconds(), code)
		},
		Print: func(stdout, stderr string) drivertest.Config {
			return block("echo '%s'; echo '%s' >&2; exec sleep 1000", stdout, stderr)
		},
		Ticks: block("while :; do echo tick; sleep 0.02; done"),
		Flood: func(bytes int) drivertest.Config { return block("head -c %d /dev/zero", bytes) },
		Invalid: map[string]drivertest.Config{
			"config.script": {},
			"config.skript": {"skript": "true"},
		},
	})
}

// attach is an agent that runs until the test ends.
func attach(t *testing.T, config plugins.Config) drivers.Driver {
	p := plugins.New(config)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() { defer close(ended); _ = p.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-ended })
	limited, cancel2 := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel2()
	if err := p.Ready(limited); err != nil {
		t.Fatal(err)
	}
	return p
}
