package bench

import (
	"fmt"
	"os"
	"runtime/pprof"
)

// profile writes a CPU profile of this process to a file, with something added to its name, until
// stop is called; without a file it does nothing.
func profile(file, of string) (stop func() error, err error) {
	if file == "" {
		return func() error { return nil }, nil
	}
	f, err := os.Create(file + of)
	if err != nil {
		return nil, fmt.Errorf("making the file of the CPU profile: %w", err)
	}
	if err := pprof.StartCPUProfile(f); err != nil {
		_ = f.Close() // the error that matters is the first
		return nil, fmt.Errorf("starting the CPU profile: %w", err)
	}
	return func() error {
		pprof.StopCPUProfile()
		return f.Close()
	}, nil
}

// agentsProfile is where the agents' profile goes beside the servers' ("": nowhere).
func agentsProfile(file string) string {
	if file == "" {
		return ""
	}
	return file + ".agents"
}
