package e2e

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/creack/pty"
	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/sys/unix"
)

// commands are what scripts have beside testscript's own. Those that run a program or make
// a request leave its output where `stdout` and `cp stdout` find it.
var commands = map[string]func(*testscript.TestScript, bool, []string){
	"ports":    cmdPorts,
	"dev":      cmdDev,
	"server":   cmdServer,
	"agent":    cmdAgent,
	"signal":   cmdSignal,
	"gone":     cmdGone,
	"wait-for": cmdWaitFor,
	"exits":    cmdExits,
	"capture":  cmdCapture,
	"http":     cmdHTTP,
	"json":     cmdJSON,
	"alive":    cmdAlive,
	"tty":      cmdTTY,
	"tmpfs":    cmdTmpfs,
	"fill":     cmdFill,
	"corrupt":  cmdCorrupt,
	"build":    cmdBuild,
	"ask":      cmdAsk,
	"asked":    cmdAsked,
	"settled":  cmdSettled,
	"console":  cmdConsole,
	"guest":    cmdGuest,
}

// cmdPorts gives servers their ports before they run: ports s1 s2 s3
func cmdPorts(ts *testscript.TestScript, _ bool, args []string) {
	for _, name := range args {
		clusterOf(ts).givePorts(ts, name)
	}
}

// cmdDev starts a cluster in one process and waits for its node: dev [flags]
func cmdDev(ts *testscript.TestScript, _ bool, args []string) {
	cmdAgent(ts, false, append([]string{"dev", "-dev"}, args...))
	cmdWaitFor(ts, false, []string{"20s", "-out", "^ready$", "berth", "node", "status", "-t", `{{range .}}{{.status}}{{"\n"}}{{end}}`})
}

// cmdServer starts a server: server s1 -bootstrap-expect 1
func cmdServer(ts *testscript.TestScript, _ bool, args []string) {
	c, name := clusterOf(ts), args[0]
	c.givePorts(ts, name)
	all := append([]string{"server", "-name", name, "-data-dir", filepath.Join(c.work, name)}, listenOn(ts, name)...)
	ts.Check(c.start(ts, name, nil, append(all, args[1:]...)...))
}

// cmdAgent starts an agent with ports of its own for tasks and DNS, as many share this host: agent n1
func cmdAgent(ts *testscript.TestScript, _ bool, args []string) {
	c, name := clusterOf(ts), args[0]
	all := []string{"agent", "-name", name, "-data-dir", filepath.Join(c.work, name)}
	if len(args) > 1 && args[1] == "-dev" {
		c.givePorts(ts, name)
		all = append(all, listenOn(ts, name)...)
	} else {
		all = append(all, "-servers", ts.Getenv("BERTH_ADDR"))
	}
	const span = 30
	if ts.Getenv(name+"_first") == "" {
		first := takePorts(span + 1)
		ts.Setenv(name+"_first", strconv.Itoa(first))
		ts.Setenv(name+"_dns", "127.0.0.1:"+strconv.Itoa(first+span))
	}
	first, _ := strconv.Atoi(ts.Getenv(name + "_first"))
	env := []string{"BERTH_AGENT_MIN_PORT=" + strconv.Itoa(first), "BERTH_AGENT_MAX_PORT=" + strconv.Itoa(first+span-1),
		"BERTH_AGENT_DNS_ADDRESS=" + ts.Getenv(name+"_dns")}
	ts.Check(c.start(ts, name, env, append(all, args[1:]...)...))
}

func listenOn(ts *testscript.TestScript, name string) []string {
	var flags []string
	for _, what := range []string{"http", "grpc", "raft", "gossip"} {
		flags = append(flags, "-"+what+"-addr", ts.Getenv(name+"_"+what))
	}
	return flags
}

// cmdSignal sends a signal to a daemon, and waits for its end where it is to end:
// signal n1 KILL; or to another process: signal 1234 USR1
func cmdSignal(ts *testscript.TestScript, neg bool, args []string) {
	sig := unix.SignalNum("SIG" + args[1])
	if pid, err := strconv.Atoi(args[0]); err == nil {
		ts.Check(syscall.Kill(pid, sig))
		return
	}
	err := clusterOf(ts).signal(args[0], sig)
	if neg {
		if err == nil {
			ts.Fatalf("%s ended well", args[0])
		}
		return
	}
	ts.Check(err)
}

// cmdGone waits until a daemon has ended well, by itself: gone s4
func cmdGone(ts *testscript.TestScript, _ bool, args []string) {
	c := clusterOf(ts)
	d := c.daemons[args[0]]
	if d == nil {
		ts.Fatalf("%s does not run", args[0])
	}
	select {
	case <-d.ended:
		delete(c.daemons, args[0])
		ts.Check(d.err)
	case <-time.After(endWithin):
		ts.Fatalf("%s still runs", args[0])
	}
}

// cmdWaitFor tries a command until it succeeds, and until its output matches or no longer
// does: wait-for 10s [-out REGEXP] [-not REGEXP] berth alloc status
func cmdWaitFor(ts *testscript.TestScript, neg bool, args []string) {
	within, err := time.ParseDuration(args[0])
	ts.Check(err)
	args = args[1:]
	var want, not *regexp.Regexp
	for len(args) > 1 && (args[0] == "-out" || args[0] == "-not") {
		re := regexp.MustCompile("(?m)" + args[1])
		if args[0] == "-out" {
			want = re
		} else {
			not = re
		}
		args = args[2:]
	}
	if neg {
		ts.Fatalf("! wait-for: there is -not, or wait for the opposite")
	}
	began := time.Now()
	for {
		stdout, stderr, err := output(ts, args)
		seen := strings.TrimSpace(stdout)
		if err == nil && (want == nil || want.MatchString(seen)) && (not == nil || !not.MatchString(seen)) {
			_, _ = io.WriteString(ts.Stdout(), stdout)
			_, _ = io.WriteString(ts.Stderr(), stderr)
			ts.Logf("[after %v]", time.Since(began).Round(time.Millisecond))
			return
		}
		if time.Since(began) > within {
			ts.Fatalf("waited %v for %v (-out %v -not %v); the last was: %v\n%s%s", within, args, want, not, err, stdout, stderr)
		}
		time.Sleep(look)
	}
}

// output runs a program in the script's environment, or one of the commands http and exits.
func output(ts *testscript.TestScript, args []string) (stdout, stderr string, err error) {
	if args[0] == "http" {
		stdout, err = request(ts, args[1:])
		return stdout, "", err
	}
	if args[0] == "exits" {
		return expectExit(ts, args[1:])
	}
	var out, errs bytes.Buffer
	cmd := exec.Command(program(args[0]), args[1:]...)
	cmd.Dir = ts.MkAbs(".")
	cmd.Env = append(os.Environ(), environment(ts)...)
	cmd.Stdout, cmd.Stderr = &out, &errs
	err = cmd.Run()
	return out.String(), errs.String(), err
}

func program(name string) string {
	if name == "berth" {
		return filepath.Join(bin, "berth")
	}
	return name
}

// environment is what programs must have of the script's environment.
func environment(ts *testscript.TestScript) []string {
	var env []string
	for _, name := range []string{"PATH", "HOME", "TMPDIR", "NO_COLOR", "TZ", "BERTH_ADDR", "BERTH_NAMESPACE"} {
		env = append(env, name+"="+ts.Getenv(name))
	}
	return env
}

// cmdExits runs a program and checks its exit code: exits 2 berth job run huge.hcl
func cmdExits(ts *testscript.TestScript, _ bool, args []string) {
	stdout, stderr, err := expectExit(ts, args)
	_, _ = io.WriteString(ts.Stdout(), stdout)
	_, _ = io.WriteString(ts.Stderr(), stderr)
	if err != nil {
		ts.Fatalf("%v\n%s%s", err, stdout, stderr)
	}
}

func expectExit(ts *testscript.TestScript, args []string) (stdout, stderr string, err error) {
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	stdout, stderr, err = output(ts, args[1:])
	code := 0
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		code = exit.ExitCode()
	} else if err != nil {
		return stdout, stderr, err
	}
	if code != want {
		return stdout, stderr, fmt.Errorf("exit code %d, want %d", code, want)
	}
	return stdout, stderr, nil
}

// cmdCapture sets a variable to what a program prints: capture ID berth alloc status ...
func cmdCapture(ts *testscript.TestScript, _ bool, args []string) {
	stdout, stderr, err := output(ts, args[1:])
	if err != nil || strings.TrimSpace(stdout) == "" {
		ts.Fatalf("%v: %v\n%s%s", args[1:], err, stdout, stderr)
	}
	ts.Setenv(args[0], strings.TrimSpace(stdout))
	ts.Logf("%s = %s", args[0], strings.TrimSpace(stdout))
}

// cmdAlive checks that processes live: alive 1234
func cmdAlive(ts *testscript.TestScript, neg bool, args []string) {
	for _, pid := range args {
		data, err := os.ReadFile("/proc/" + pid + "/cmdline")
		if (err == nil && len(data) > 0) == neg {
			ts.Fatalf("process %s lives: %v", pid, !neg)
		}
	}
}

// cmdTTY runs a program at a terminal of 100x30 and types a text, in which \n is Enter:
// tty 'stty size\nexit 3\n' berth alloc exec ...
func cmdTTY(ts *testscript.TestScript, _ bool, args []string) {
	cmd := exec.Command(program(args[1]), args[2:]...)
	cmd.Env = append(append(os.Environ(), environment(ts)...), "TERM=xterm")
	f, err := pty.StartWithSize(cmd, &pty.Winsize{Rows: 30, Cols: 100})
	ts.Check(err)
	defer f.Close()
	_, err = io.WriteString(f, strings.ReplaceAll(args[0], `\n`, "\n"))
	ts.Check(err)
	timer := time.AfterFunc(20*time.Second, func() { _ = cmd.Process.Kill() })
	defer timer.Stop()
	shown, _ := io.ReadAll(f) // ends with EIO when the program has
	err = cmd.Wait()
	text := strings.ReplaceAll(string(shown), "\r\n", "\n")
	fmt.Fprintf(ts.Stdout(), "%s\n[%v]\n", text, err)
}

// cmdTmpfs mounts a small file system on a directory of the script, until its end:
// tmpfs n1 8m
func cmdTmpfs(ts *testscript.TestScript, _ bool, args []string) {
	dir := ts.MkAbs(args[0])
	ts.Check(os.MkdirAll(dir, 0o755))
	ts.Check(unix.Mount("berth-e2e", dir, "tmpfs", 0, "size="+args[1]))
	c := clusterOf(ts)
	ts.Defer(func() {
		// Before the cluster's own end looks for mounts, which is after this.
		if !c.t.Failed() {
			c.stopJobs()
		}
		for name := range c.daemons {
			if err := c.signal(name, syscall.SIGTERM); err != nil {
				c.t.Error(err)
			}
		}
		killBelow(c.work)
		if err := unix.Unmount(dir, 0); err != nil {
			c.t.Error(err)
		}
	})
}

// cmdFill fills the file system of a directory, and gives the space back with !: fill n1
func cmdFill(ts *testscript.TestScript, neg bool, args []string) {
	name := filepath.Join(ts.MkAbs(args[0]), "filler")
	if neg {
		ts.Check(os.Remove(name))
		return
	}
	f, err := os.Create(name)
	ts.Check(err)
	defer f.Close()
	for size := 1 << 16; size > 0; size /= 2 { // to the last byte
		for err = nil; err == nil; {
			_, err = f.Write(make([]byte, size))
		}
		if !errors.Is(err, syscall.ENOSPC) {
			ts.Fatalf("%v", err)
		}
	}
}

// cmdCorrupt overwrites the middle of files: corrupt n1/agent/state.db
func cmdCorrupt(ts *testscript.TestScript, _ bool, args []string) {
	for _, name := range args {
		path := ts.MkAbs(name)
		data, err := os.ReadFile(path)
		ts.Check(err)
		for i := range data {
			data[i] ^= 0x5a
		}
		ts.Check(os.WriteFile(path, data, 0o600))
	}
}

// cmdBuild builds a Go program of the repository: build examples/driver-plugin plugins/x
func cmdBuild(ts *testscript.TestScript, _ bool, args []string) {
	out := ts.MkAbs(args[1])
	ts.Check(os.MkdirAll(filepath.Dir(out), 0o755))
	ts.Check(build(filepath.Join("..", args[0]), ".", out))
}
