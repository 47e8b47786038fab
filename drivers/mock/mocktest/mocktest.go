// Package mocktest has the mock driver's recipes for drivertest: they run in process and,
// by package plugins, through the wire.
package mocktest

import (
	"strings"
	"testing"
	"time"

	"github.com/berthd/berth/drivers"
	"github.com/berthd/berth/drivers/drivertest"
	"github.com/berthd/berth/drivers/mock"
)

// Factory is how drivertest makes mock tasks on host; nil: on one in another process,
// where New is the caller's to set.
func Factory(host *mock.Host) drivertest.Factory {
	return drivertest.Factory{
		New:      func(*testing.T) drivers.Driver { return mock.New(host) },
		Forever:  drivertest.Config{},
		Stubborn: drivertest.Config{"ignore_signal": true},
		ExitWith: func(after time.Duration, code int) drivertest.Config {
			return drivertest.Config{"run_for": max(after, time.Nanosecond).String(), "exit_code": code}
		},
		Print: func(stdout, stderr string) drivertest.Config {
			return drivertest.Config{"stdout": stdout, "stderr": stderr}
		},
		Flood: func(n int) drivertest.Config {
			return drivertest.Config{"stdout": strings.Repeat("x", n), "run_for": "1ms"}
		},
		Invalid: map[string]drivertest.Config{
			"config.run_fro": {"run_fro": "1s"},
			"config.run_for": {"run_for": "soon"},
		},
		Failing: map[string]drivertest.Config{
			"error":     {"start_error": "no such image"},
			"transient": {"start_error": "try later", "start_error_transient": true},
		},
		Exec: &drivertest.ExecCommands{
			Echo: []string{"echo", "hello"}, Cat: []string{"cat"}, Exit3: []string{"exit", "3"},
			Sleep: []string{"sleep", "10m"}, Env: []string{"env", "BERTH_TEST"}, Size: []string{"size"}, Missing: []string{"nothing"},
		},
		Console: &drivertest.Console{Config: drivertest.Config{"stdout": "login: "}, Greets: "login: ", Say: "hello\n", Answers: "hello\n"},
		Disked:  drivertest.Config{},
		Leftovers: func(_ *testing.T, task *drivers.Task) []string {
			if host != nil && host.Has(task.ID) {
				return []string{"task " + task.ID}
			}
			return nil
		},
	}
}
