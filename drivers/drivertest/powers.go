package drivertest

import (
	"bytes"
	"context"
	"io"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/berthd/berth/drivers"
	"github.com/berthd/berth/problem"
)

// powerTests hold the promises of the optional interfaces, each where the driver has it.
var powerTests = map[string]func(*testing.T, *bench){
	"signal":                     testSignal,
	"stats":                      testStats,
	"update":                     testUpdate,
	"exec output and exit code":  testExecOutput,
	"exec input ends":            testExecInput,
	"exec environment":           testExecEnv,
	"exec terminal":              testExecTerminal,
	"exec ends with its context": testExecCancel,
	"exec ends with its task":    testExecTaskEnds,
	"exec of what cannot be":     testExecErrors,
}

func testSignal(t *testing.T, b *bench) {
	p := power[drivers.Signaler](b, drivers.CapSignal)
	task := b.task(b.f.Forever)
	h := b.start(task)
	if err := p.Signal(b.ctx(), task.ID, "NOSUCH"); !problem.Is(err, problem.Invalid) {
		t.Errorf("Signal = %v, want an Invalid problem", err)
	}
	if err := p.Signal(b.ctx(), task.ID+"x", "SIGTERM"); !problem.Is(err, problem.NotFound) {
		t.Errorf("Signal to an unknown task = %v, want NotFound", err)
	}
	b.crash()
	if err := b.d.Recover(b.ctx(), task, h); err != nil {
		t.Fatalf("Recover: %v", err)
	}
	if err := b.d.(drivers.Signaler).Signal(b.ctx(), task.ID, "SIGTERM"); err != nil {
		t.Fatalf("Signal: %v", err)
	}
	if exit := b.wait(task); exit.Signal == int(syscall.SIGKILL) {
		t.Errorf("ended with %+v", exit)
	}
}

func testStats(t *testing.T, b *bench) {
	p := power[drivers.StatsReader](b, drivers.CapStats)
	task := b.task(b.f.Forever)
	b.start(task)
	s, err := p.Stats(b.ctx(), task.ID)
	if err != nil {
		t.Fatalf("Stats: %v", err)
	}
	if s.PIDs == 0 || s.MemoryBytes == 0 || s.Time.IsZero() || s.CPUTime < 0 {
		t.Errorf("Stats = %+v", s)
	}
	later, err := p.Stats(b.ctx(), task.ID)
	if err != nil || later.CPUTime < s.CPUTime || later.Time.Before(s.Time) {
		t.Errorf("Stats went backwards: %+v, then %+v, %v", s, later, err)
	}
	if _, err := p.Stats(b.ctx(), task.ID+"x"); !problem.Is(err, problem.NotFound) {
		t.Errorf("Stats of an unknown task = %v, want NotFound", err)
	}
}

func testUpdate(t *testing.T, b *bench) {
	p := power[drivers.Updater](b, drivers.CapUpdate)
	task := b.task(b.f.Forever)
	b.start(task)
	bigger := *task
	for _, n := range []*uint64{&bigger.Resources.MemoryMib, &bigger.Grant.Cells[0].MemoryMib} {
		*n *= 2
	}
	bigger.Resources.CpuMilli, bigger.Grant.Cells[0].CpuMilli = 200, 200
	if err := p.Update(b.ctx(), &bigger); err != nil {
		t.Fatalf("Update: %v", err)
	}
	b.running(task)
}

// exec runs a command in a started task, with the words as input.
func (b *bench) exec(p drivers.Execer, id, input string, req drivers.ExecRequest) (exit *drivers.Exit, stdout, stderr string, err error) {
	var out, errs safeBuffer
	req.Stdin, req.Stdout, req.Stderr = strings.NewReader(input), &out, &errs
	exit, err = p.Exec(b.ctx(), id, &req)
	return exit, out.String(), errs.String(), err
}

func (b *bench) execer() (drivers.Execer, *drivers.Task) {
	p := power[drivers.Execer](b, drivers.CapExec)
	b.need(b.f.Exec != nil, "Exec")
	task := b.task(b.f.Forever)
	b.start(task)
	return p, task
}

func testExecOutput(t *testing.T, b *bench) {
	p, task := b.execer()
	exit, stdout, stderr, err := b.exec(p, task.ID, "", drivers.ExecRequest{Command: b.f.Exec.Echo})
	if err != nil || !exit.OK() || stdout != "hello\n" || stderr != "" {
		t.Errorf("echo: %+v, %v, stdout %q, stderr %q", exit, err, stdout, stderr)
	}
	exit, _, _, err = b.exec(p, task.ID, "", drivers.ExecRequest{Command: b.f.Exec.Exit3})
	if err != nil || exit.Code != 3 {
		t.Errorf("exit 3: %+v, %v", exit, err)
	}
	b.running(task)
}

func testExecInput(t *testing.T, b *bench) {
	p, task := b.execer()
	words := strings.Repeat("all of it\n", 20_000)
	exit, stdout, _, err := b.exec(p, task.ID, words, drivers.ExecRequest{Command: b.f.Exec.Cat})
	if err != nil || !exit.OK() || stdout != words {
		t.Errorf("cat: %+v, %v, %d of %d bytes came back", exit, err, len(stdout), len(words))
	}
	// Without any input its end is seen at once.
	if exit, err := p.Exec(b.ctx(), task.ID, &drivers.ExecRequest{Command: b.f.Exec.Cat}); err != nil || !exit.OK() {
		t.Errorf("cat without input: %+v, %v", exit, err)
	}
	// A command that ends by itself does not wait for input.
	r, w := io.Pipe()
	defer w.Close()
	if exit, err := p.Exec(b.ctx(), task.ID, &drivers.ExecRequest{Command: b.f.Exec.Exit3, Stdin: r}); err != nil || exit.Code != 3 {
		t.Errorf("exit 3 with open input: %+v, %v", exit, err)
	}
}

func testExecEnv(t *testing.T, b *bench) {
	p, task := b.execer()
	b.need(b.f.Exec.Env != nil, "Exec.Env")
	env := map[string]string{"BERTH_TEST": "a b"}
	if _, stdout, _, err := b.exec(p, task.ID, "", drivers.ExecRequest{Command: b.f.Exec.Env, Env: env}); err != nil || stdout != "a b\n" {
		t.Errorf("env: %q, %v", stdout, err)
	}
}

func testExecTerminal(t *testing.T, b *bench) {
	p, task := b.execer()
	b.need(b.f.Exec.Size != nil, "Exec.Size")
	r, w := io.Pipe()
	resize := make(chan drivers.TerminalSize)
	var out safeBuffer
	done := make(chan error, 1)
	go func() {
		_, err := p.Exec(b.ctx(), task.ID, &drivers.ExecRequest{
			Command: b.f.Exec.Size, TTY: true, Size: drivers.TerminalSize{Columns: 80, Rows: 24},
			Resize: resize, Stdin: r, Stdout: &out,
		})
		done <- err
	}()
	b.eventually("the first size", func() bool { return strings.Contains(out.String(), "24 80") })
	resize <- drivers.TerminalSize{Columns: 100, Rows: 50}
	b.eventually("the second size", func() bool { return strings.Contains(out.String(), "50 100") })
	_, _ = w.Write([]byte{4}) // Ctrl-D
	w.Close()
	select {
	case err := <-done:
		if err != nil {
			t.Errorf("Exec: %v", err)
		}
	case <-time.After(b.patience()):
		t.Error("Exec does not end with its input")
	}
}

func testExecCancel(t *testing.T, b *bench) {
	p, task := b.execer()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		_, err := p.Exec(ctx, task.ID, &drivers.ExecRequest{Command: b.f.Exec.Sleep})
		done <- err
	}()
	time.Sleep(50 * time.Millisecond)
	cancel()
	select {
	case err := <-done:
		if err == nil {
			t.Error("Exec succeeded although it was cancelled")
		}
	case <-time.After(b.patience()):
		t.Fatal("Exec goes on although it was cancelled")
	}
	if s, ok := b.d.(drivers.StatsReader); ok {
		b.eventually("the command's end", func() bool {
			stats, err := s.Stats(b.ctx(), task.ID)
			return err == nil && stats.PIDs <= 2
		})
	}
	b.running(task)
}

func testExecTaskEnds(t *testing.T, b *bench) {
	p, task := b.execer()
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = p.Exec(t.Context(), task.ID, &drivers.ExecRequest{Command: b.f.Exec.Sleep})
	}()
	time.Sleep(50 * time.Millisecond)
	if err := b.d.Stop(b.ctx(), task.ID, "SIGTERM", 0); err != nil {
		t.Fatalf("Stop: %v", err)
	}
	select {
	case <-done:
	case <-time.After(b.patience()):
		t.Fatal("Exec goes on although its task has ended")
	}
}

func testExecErrors(t *testing.T, b *bench) {
	p, task := b.execer()
	if b.f.Exec.Missing != nil {
		if _, _, _, err := b.exec(p, task.ID, "", drivers.ExecRequest{Command: b.f.Exec.Missing}); !problem.Is(err, problem.Invalid) {
			t.Errorf("a command that does not exist: %v, want an Invalid problem", err)
		}
	}
	if _, err := p.Exec(b.ctx(), task.ID, &drivers.ExecRequest{}); !problem.Is(err, problem.Invalid) {
		t.Errorf("no command: %v, want an Invalid problem", err)
	}
	if _, err := p.Exec(b.ctx(), task.ID+"x", &drivers.ExecRequest{Command: b.f.Exec.Echo}); !problem.Is(err, problem.NotFound) {
		t.Errorf("an unknown task: %v, want NotFound", err)
	}
	if err := b.d.Stop(b.ctx(), task.ID, "SIGTERM", 0); err != nil {
		t.Fatalf("Stop: %v", err)
	}
	if _, err := p.Exec(b.ctx(), task.ID, &drivers.ExecRequest{Command: b.f.Exec.Echo}); !problem.Is(err, problem.NotFound) {
		t.Errorf("a task that has ended: %v, want NotFound", err)
	}
}

// safeBuffer is a buffer that may be read while it is written.
type safeBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *safeBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *safeBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}
