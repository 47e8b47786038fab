package e2e

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// Bounds of waiting for what must happen; a machine under load is slow, so they are
// generous, and nothing waits longer than it has to.
const (
	startWithin = 20 * time.Second
	endWithin   = 40 * time.Second
	look        = 50 * time.Millisecond // between two looks
)

// cluster is what one script has started.
type cluster struct {
	t    testing.TB
	work string // the script's directory, with a data directory and a log per daemon

	daemons map[string]*daemon
	servers []string // names of servers in the order in which they got ports
	address string   // of those servers, as BERTH_ADDR has it at first

	asker *asker // asks a service all the time; nil: nobody does
}

// daemon is a process that lasts; the same name may be started again.
type daemon struct {
	name  string
	cmd   *exec.Cmd
	ended chan struct{} // closed when err is set
	err   error
}

// newCluster gives a script its environment, and cleans up after it.
func newCluster(env *testscript.Env) error {
	c := &cluster{t: env.T().(testing.TB), work: env.WorkDir, daemons: map[string]*daemon{}}
	env.Values[clusterKey{}] = c
	env.Setenv("PATH", bin+":"+os.Getenv("PATH"))
	env.Setenv("NO_COLOR", "1")
	env.Setenv("TZ", "UTC")
	env.Setenv("BERTH_ADDR", "")
	repo, err := filepath.Abs("..")
	env.Setenv("REPO", repo)
	env.Defer(c.end)
	return err
}

type clusterKey struct{}

func clusterOf(ts *testscript.TestScript) *cluster { return ts.Value(clusterKey{}).(*cluster) }

// ports begins where neither the kernel's ephemeral ports nor the agent's default ones lie.
var ports = struct {
	sync.Mutex
	next int
}{next: 10000 + rand.IntN(8000)}

// takePorts gives n ports in a row that nobody listens on.
func takePorts(n int) int {
	ports.Lock()
	defer ports.Unlock()
	for {
		if ports.next+n > 20000 {
			ports.next = 10000
		}
		first := ports.next
		ports.next += n
		if allFree(first, n) {
			return first
		}
	}
}

func allFree(first, n int) bool {
	for p := first; p < first+n; p++ {
		l, err := net.Listen("tcp", "127.0.0.1:"+strconv.Itoa(p))
		if err != nil {
			return false
		}
		_ = l.Close()
	}
	return true
}

// givePorts chooses the ports of a server, tells the script (NAME_http and so on), and
// lets berth ask this server too.
func (c *cluster) givePorts(ts *testscript.TestScript, name string) {
	if slices.Contains(c.servers, name) {
		return
	}
	c.servers = append(c.servers, name)
	first := takePorts(4)
	for i, what := range []string{"http", "grpc", "raft", "gossip"} {
		ts.Setenv(name+"_"+what, "127.0.0.1:"+strconv.Itoa(first+i))
	}
	if c.address != "" {
		c.address += ","
	}
	c.address += ts.Getenv(name + "_grpc")
	ts.Setenv("BERTH_ADDR", c.address)
}

func (c *cluster) log(name string) string { return filepath.Join(c.work, name+".log") }

var upLine = regexp.MustCompile(`berth is starting`)

// start starts a daemon and waits until it says that it is up.
func (c *cluster) start(ts *testscript.TestScript, name string, env []string, args ...string) error {
	log, err := os.OpenFile(c.log(name), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return err
	}
	defer log.Close()
	before, err := log.Seek(0, 2)
	if err != nil {
		return err
	}
	d := &daemon{name: name, cmd: exec.Command(filepath.Join(bin, "berth"), args...), ended: make(chan struct{})}
	d.cmd.Dir = c.work
	d.cmd.Env = append(append(os.Environ(), "TMPDIR="+c.work, "NO_COLOR=1"), env...)
	d.cmd.Stdout, d.cmd.Stderr = log, log
	if err := d.cmd.Start(); err != nil {
		return err
	}
	go func() { // ends with the process, for which end waits
		d.err = d.cmd.Wait()
		close(d.ended)
	}()
	c.daemons[name] = d
	ts.Setenv(name+"_pid", strconv.Itoa(d.cmd.Process.Pid))
	for deadline := time.Now().Add(startWithin); time.Now().Before(deadline); {
		text, _ := os.ReadFile(c.log(name))
		if upLine.Match(text[before:]) {
			return nil
		}
		select {
		case <-d.ended:
			text, _ = os.ReadFile(c.log(name))
			return fmt.Errorf("%s has ended: %w\n%s", name, d.err, text[before:])
		case <-time.After(look):
		}
	}
	return fmt.Errorf("%s says nothing after %v", name, startWithin)
}

// signal sends a signal, and waits for the end when it is one that ends daemons.
func (c *cluster) signal(name string, sig syscall.Signal) error {
	d := c.daemons[name]
	if d == nil {
		return fmt.Errorf("%s does not run", name)
	}
	if err := d.cmd.Process.Signal(sig); err != nil {
		return err
	}
	if sig != syscall.SIGKILL && sig != syscall.SIGTERM && sig != syscall.SIGINT {
		return nil
	}
	delete(c.daemons, name)
	select {
	case <-d.ended:
	case <-time.After(endWithin):
		_ = d.cmd.Process.Signal(syscall.SIGQUIT) // its goroutines go to its log
		<-d.ended
		return fmt.Errorf("%s has not ended %v after %v", name, endWithin, sig)
	}
	if d.err != nil && sig != syscall.SIGKILL {
		return fmt.Errorf("%s has ended badly: %w", name, d.err)
	}
	return nil
}

// end stops the jobs and the daemons of a script and sees to it that nothing is left.
func (c *cluster) end() {
	if !c.t.Failed() {
		c.stopJobs()
	}
	for _, name := range slices.Sorted(maps.Keys(c.daemons)) {
		d := c.daemons[name]
		select {
		case <-d.ended:
			c.t.Errorf("%s had ended by itself: %v", name, d.err)
			delete(c.daemons, name)
			continue
		default:
		}
		sig := syscall.SIGTERM
		if c.t.Failed() {
			sig = syscall.SIGKILL
		}
		if err := c.signal(name, sig); err != nil {
			c.t.Error(err)
		}
	}
	if !c.t.Failed() {
		for _, left := range leftovers(c.work) {
			c.t.Errorf("left behind: %s", left)
		}
	}
	if c.t.Failed() {
		c.showLogs()
	}
	killBelow(c.work)
}

// stopJobs stops every job, and waits until no task is left.
func (c *cluster) stopJobs() {
	berth := func(args ...string) (string, error) {
		cmd := exec.Command(filepath.Join(bin, "berth"), args...)
		cmd.Env = append(os.Environ(), "BERTH_ADDR="+c.address)
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	if len(tasksBelow(c.work)) == 0 {
		return
	}
	list, err := berth("job", "status", "-namespace", "*", "-t", `{{range .}}{{.namespace}} {{.name}}{{"\n"}}{{end}}`)
	if err != nil {
		c.t.Errorf("listing the jobs to stop: %v: %s", err, list)
	}
	for line := range strings.Lines(list) {
		f := strings.Fields(line)
		if len(f) != 2 {
			continue
		}
		if out, err := berth("job", "stop", "-detach", "-purge", "-yes", "-namespace", f[0], f[1]); err != nil {
			c.t.Errorf("stopping %s: %v: %s", f[1], err, out)
		}
	}
	left := func() string { return fmt.Sprint(tasksBelow(c.work), cgroupsBelow(c.work)) }
	for deadline := time.Now().Add(endWithin); left() != "[] []"; time.Sleep(look) {
		if time.Now().After(deadline) {
			c.t.Errorf("there are tasks %v after their jobs were stopped: %s", endWithin, left())
			return
		}
	}
}

func (c *cluster) showLogs() {
	logs, _ := filepath.Glob(filepath.Join(c.work, "*.log"))
	for _, name := range logs {
		text, _ := os.ReadFile(name)
		const most = 6 << 10
		c.t.Logf("%s:\n%s", filepath.Base(name), text[max(0, len(text)-most):])
	}
}
