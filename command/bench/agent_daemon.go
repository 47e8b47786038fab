package bench

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/berthd/berth/problem"
)

// daemon is this program as a child process.
type daemon struct {
	cmd   *exec.Cmd
	log   string
	told  atomic.Bool // to end
	ended chan struct{}
}

// startDaemon starts this program with args and its output in the file log. failed is
// called when it ends without being told to.
func startDaemon(log string, failed context.CancelCauseFunc, args ...string) (*daemon, error) {
	program, err := os.Executable()
	if err != nil {
		return nil, err
	}
	out, err := os.Create(log)
	if err != nil {
		return nil, err
	}
	defer func() { _ = out.Close() }() // the child has it
	d := &daemon{cmd: exec.Command(program), log: log, ended: make(chan struct{})}
	d.cmd.Args = append([]string{"berth"}, args...)
	d.cmd.Stdout, d.cmd.Stderr = out, out
	// A process group of its own: Ctrl-C is for the bench, which ends its daemons in order.
	d.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	for _, e := range os.Environ() {
		if !strings.HasPrefix(e, "BERTH_") { // settings of other daemons
			d.cmd.Env = append(d.cmd.Env, e)
		}
	}
	if err := d.cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting %s: %w", args[0], err)
	}
	go func() {
		err := d.cmd.Wait()
		if !d.told.Load() {
			failed(problem.New(problem.Internal, "", "the %s has ended by itself (%v)%s", args[0], err, d.lastWords()))
		}
		close(d.ended)
	}()
	return d, nil
}

func (d *daemon) pid() int { return d.cmd.Process.Pid }

// lastWords is the end of its log.
func (d *daemon) lastWords() string {
	data, err := os.ReadFile(d.log)
	if err != nil || len(data) == 0 {
		return ""
	}
	lines := bytes.Split(bytes.TrimSpace(data), []byte("\n"))
	return ": " + string(bytes.Join(lines[max(0, len(lines)-5):], []byte("\n")))
}

// end asks it to end, and kills it when it does not.
func (d *daemon) end() error {
	d.told.Store(true)
	_ = d.cmd.Process.Signal(syscall.SIGTERM) // an error means that it has ended
	select {
	case <-d.ended:
		return nil
	case <-time.After(endTime):
	}
	_ = d.cmd.Process.Kill()
	<-d.ended
	return errors.New("the " + d.cmd.Args[1] + " had to be killed" + d.lastWords())
}
