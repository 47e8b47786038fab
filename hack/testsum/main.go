// Command testsum runs go test and says in a few lines what came of it: one line for each
// package, the output of what failed, and every skipped test with its reason. A test that is
// skipped without a reason is a failure.
//
//	testsum [-C dir] [-o file] -- ARGS...   go test ARGS..., what it counted goes to file
//	testsum -report FILE...              the sum of such files
//
// The Makefile calls it; go test alone runs the same tests.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

func main() {
	dir := flag.String("C", ".", "run go test in this `directory`")
	out := flag.String("o", "", "write the counts to this `file`")
	report := flag.Bool("report", false, "print the sum of the files given")
	flag.Parse()

	run := func() (bool, error) { return test(*dir, *out, flag.Args()) }
	if *report {
		run = func() (bool, error) { return sum(flag.Args()) }
	}
	ok, err := run()
	if err != nil {
		fmt.Fprintln(os.Stderr, "testsum:", err)
		ok = false
	}
	if !ok {
		os.Exit(1)
	}
}

// test runs go test and prints as it goes; ok is false when anything failed.
func test(dir, out string, args []string) (ok bool, err error) {
	cmd := exec.CommandContext(context.Background(), "go", append([]string{"test", "-json"}, args...)...)
	cmd.Dir = dir
	cmd.Stderr = os.Stderr
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return false, err
	}
	if err := cmd.Start(); err != nil {
		return false, fmt.Errorf("starting go test: %w", err)
	}
	r := newReader(os.Stdout)
	readErr := r.read(stdout)
	err = cmd.Wait()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		return false, fmt.Errorf("running go test: %w", err)
	}
	if readErr != nil {
		return false, fmt.Errorf("reading go test's output: %w", readErr)
	}
	for _, f := range r.counts.Failures {
		fmt.Print(f.lines())
	}
	fmt.Println(r.counts.line())
	if out != "" {
		if err := write(out, r.counts); err != nil {
			return false, err
		}
	}
	return err == nil && r.counts.ok(), nil
}

func write(file string, c counts) error {
	data, err := json.MarshalIndent(c, "", "  ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return err
	}
	return os.WriteFile(file, data, 0o644)
}

// sum prints the sum of files that test wrote, with all skips.
func sum(files []string) (ok bool, err error) {
	var total counts
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			return false, err
		}
		var c counts
		if err := json.Unmarshal(data, &c); err != nil {
			return false, fmt.Errorf("%s: %w", file, err)
		}
		total.add(c)
	}
	for _, s := range total.Skipped {
		fmt.Println(s.line())
	}
	for _, f := range total.Failures {
		fmt.Print(f.lines())
	}
	fmt.Println(total.line())
	return total.ok(), nil
}
