package access

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"github.com/berthd/berth/agent/runner"
	"github.com/berthd/berth/drivers"
	"github.com/berthd/berth/drivers/logs"
	"github.com/berthd/berth/drivers/mock"
	"github.com/berthd/berth/problem"
	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

// oneAlloc is a runner that has one alloc, "a1", with the tasks "web" and "side".
type oneAlloc struct {
	dir    string
	tasks  []string
	ended  atomic.Bool
	driver drivers.Driver
	data   string // its sticky disk
	did    []string
}

func (o *oneAlloc) Find(prefix string) (*runner.AllocInfo, error) {
	if prefix != "a1" {
		return nil, problem.New(problem.NotFound, prefix, "there is no such allocation on this node")
	}
	return &runner.AllocInfo{ID: "a1", Tasks: o.tasks, Dir: o.dir, Logs: filepath.Join(o.dir, "logs"), Data: o.data, Ended: o.ended.Load()}, nil
}

func (o *oneAlloc) Running(string, string) (drivers.Driver, *drivers.Task, error) {
	return o.driver, &drivers.Task{ID: "a1/web", AllocID: "a1", Name: "web", Env: map[string]string{"A": "task", "B": "task"}}, nil
}

func (o *oneAlloc) Signal(_ context.Context, _, task, signal string) error {
	o.did = append(o.did, "signal "+task+" "+signal)
	return nil
}

func (o *oneAlloc) Restart(_, task string) error {
	o.did = append(o.did, "restart "+task)
	return nil
}

// pipe is the agent's end of a stream; the test has the other.
type pipe struct {
	grpc.ClientStream
	ctx      context.Context
	up, down chan *berthv1.StreamFrame
}

func newPipe(ctx context.Context) *pipe {
	return &pipe{ctx: ctx, up: make(chan *berthv1.StreamFrame, 10000), down: make(chan *berthv1.StreamFrame, 100)}
}

func (p *pipe) Send(f *berthv1.StreamFrame) error {
	select {
	case p.up <- proto.CloneOf(f): // as the wire does
		return nil
	case <-p.ctx.Done():
		return io.EOF
	}
}

func (p *pipe) Recv() (*berthv1.StreamFrame, error) {
	select {
	case f, ok := <-p.down:
		if ok {
			return f, nil
		}
		return nil, io.EOF
	case <-p.ctx.Done():
		return nil, p.ctx.Err()
	}
}

func (p *pipe) CloseSend() error {
	close(p.up)
	return nil
}

// serve serves an order to its end; the other side hangs up after the last frame.
func serve(t *testing.T, s *Server, order *berthv1.StreamOrder) (frames []*berthv1.StreamFrame, last *berthv1.StreamFrame) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	p := newPipe(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.Serve(ctx, order, p)
	}()
	for f := range p.up {
		frames = append(frames, f)
	}
	cancel()
	<-done
	return frames[:len(frames)-1], frames[len(frames)-1]
}

func logsOrder(req *berthv1.LogsRequest) *berthv1.StreamOrder {
	req.AllocId = "a1"
	return &berthv1.StreamOrder{Order: &berthv1.StreamOrder_Logs{Logs: req}}
}

func readOrder(path string) *berthv1.StreamOrder {
	return &berthv1.StreamOrder{Order: &berthv1.StreamOrder_ReadFile{ReadFile: &berthv1.ReadFileRequest{AllocId: "a1", Path: path}}}
}

func text(frames []*berthv1.StreamFrame) string {
	var b strings.Builder
	for _, f := range frames {
		b.Write(f.GetLog().GetData())
		b.Write(f.GetChunk().GetData())
		if n := f.GetLog().GetNotice(); n != "" {
			b.WriteString("[" + n + "]")
		}
	}
	return b.String()
}

func newServer(t *testing.T) (*Server, *oneAlloc) {
	o := &oneAlloc{dir: t.TempDir(), tasks: []string{"web"}}
	if err := os.Mkdir(filepath.Join(o.dir, "logs"), 0o755); err != nil {
		t.Fatal(err)
	}
	return New(o, slog.New(slog.NewTextHandler(t.Output(), nil))), o
}

func TestLogsTail(t *testing.T) {
	s, o := newServer(t)
	w := logs.Open(filepath.Join(o.dir, "logs"), "web", "stdout", 100, 50)
	var all strings.Builder
	for i := range 40 {
		line := fmt.Sprintf("line %d\n", i)
		all.WriteString(line)
		_, _ = io.WriteString(w, line)
	}
	w.Close()
	lines := strings.SplitAfter(strings.TrimSuffix(all.String(), "\n"), "\n")
	lines[len(lines)-1] += "\n"
	for n := int64(1); n < 45; n++ {
		want := strings.Join(lines[max(0, len(lines)-int(n)):], "")
		if frames, last := serve(t, s, logsOrder(&berthv1.LogsRequest{TailLines: n})); text(frames) != want || !last.GetDone() {
			t.Fatalf("the last %d lines:\n%q, want\n%q (%v)", n, text(frames), want, last)
		}
	}
	for n := int64(1); n < int64(all.Len())+10; n += 7 {
		want := all.String()[max(0, all.Len()-int(n)):]
		if frames, _ := serve(t, s, logsOrder(&berthv1.LogsRequest{TailBytes: n})); text(frames) != want {
			t.Fatalf("the last %d bytes:\n%q, want\n%q", n, text(frames), want)
		}
	}
	if frames, _ := serve(t, s, logsOrder(&berthv1.LogsRequest{FromStart: true})); text(frames) != all.String() {
		t.Errorf("from the start: %q", text(frames))
	}
	if frames, _ := serve(t, s, logsOrder(&berthv1.LogsRequest{Stream: "stderr"})); len(frames) != 0 {
		t.Errorf("there is no stderr, but got %q", text(frames))
	}
}

func TestLogsFollowAcrossRotation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, o := newServer(t)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		p := newPipe(ctx)
		served := make(chan struct{})
		go func() { // before there is any file
			defer close(served)
			s.Serve(ctx, logsOrder(&berthv1.LogsRequest{Follow: true}), p)
		}()
		w := logs.Open(filepath.Join(o.dir, "logs"), "web", "stdout", 3, 64)
		var want strings.Builder
		for i := range 200 {
			line := fmt.Sprintf("line %d of the output\n", i)
			want.WriteString(line)
			_, _ = io.WriteString(w, line)
			time.Sleep(pollPeriod * 2 / 3)
		}
		w.Close()
		o.ended.Store(true)
		var got []*berthv1.StreamFrame
		for f := range p.up {
			got = append(got, f)
		}
		cancel()
		<-served
		if text(got) != want.String() {
			t.Errorf("followed %d bytes of %d", len(text(got)), want.Len())
		}
	})
}

func TestLogsSkippedAndTruncated(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, o := newServer(t)
		path := func(n int) string { return filepath.Join(o.dir, "logs", fmt.Sprintf("web.stdout.%d", n)) }
		write := func(n int, text string) {
			if err := os.WriteFile(path(n), []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		write(0, "first\n")
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		p := newPipe(ctx)
		served := make(chan struct{})
		go func() { defer close(served); s.Serve(ctx, logsOrder(&berthv1.LogsRequest{Follow: true}), p) }()
		time.Sleep(time.Second)
		write(0, "new\n")
		time.Sleep(time.Second)
		if err := os.Remove(path(0)); err != nil {
			t.Fatal(err)
		}
		write(5, "later\n")
		time.Sleep(time.Second)
		o.ended.Store(true)
		var got []*berthv1.StreamFrame
		for f := range p.up {
			got = append(got, f)
		}
		cancel()
		<-served
		want := "first\n[the log was truncated]new\n[output was skipped: it was rotated away before it could be read]later\n"
		if text(got) != want {
			t.Errorf("got %q, want %q", text(got), want)
		}
	})
}

func TestFiles(t *testing.T) {
	s, o := newServer(t)
	if err := os.MkdirAll(filepath.Join(o.dir, "tasks/web/data"), 0o755); err != nil {
		t.Fatal(err)
	}
	content := bytes.Repeat([]byte("0123456789"), 10000)
	if err := os.WriteFile(filepath.Join(o.dir, "tasks/web/data/x"), content, 0o640); err != nil {
		t.Fatal(err)
	}
	frames, _ := serve(t, s, &berthv1.StreamOrder{Order: &berthv1.StreamOrder_ListFiles{ListFiles: &berthv1.ListFilesRequest{AllocId: "a1", Path: "/tasks/web/data/"}}})
	if f := frames[0].GetFiles().GetFiles(); len(f) != 1 || f[0].GetName() != "x" || f[0].GetSize() != 100000 || f[0].GetMode() != "-rw-r-----" {
		t.Errorf("listing: %v", f)
	}
	frames, _ = serve(t, s, &berthv1.StreamOrder{Order: &berthv1.StreamOrder_StatFile{StatFile: &berthv1.StatFileRequest{AllocId: "a1", Path: "tasks/web"}}})
	if f := frames[0].GetFile(); f.GetName() != "web" || !f.GetIsDir() {
		t.Errorf("stat: %v", f)
	}
	if frames, _ = serve(t, s, readOrder("tasks/web/data/x")); text(frames) != string(content) {
		t.Errorf("read %d bytes", len(text(frames)))
	}
	part := &berthv1.ReadFileRequest{AllocId: "a1", Path: "tasks/web/data/x", Offset: 99995, Limit: 3}
	frames, _ = serve(t, s, &berthv1.StreamOrder{Order: &berthv1.StreamOrder_ReadFile{ReadFile: part}})
	if text(frames) != "567" {
		t.Errorf("read %q of the middle", text(frames))
	}
	for path, kind := range map[string]string{"nothing": "not_found", "tasks": "invalid", "tasks/web/data/x/y": "not_found"} {
		if _, last := serve(t, s, readOrder(path)); last.GetProblem().GetKind() != kind {
			t.Errorf("%s: %v, want %s", path, last, kind)
		}
	}
}

// TestConfinement tries every way out of the directory that a task could prepare.
func TestConfinement(t *testing.T) {
	s, o := newServer(t)
	outside := filepath.Join(filepath.Dir(o.dir), "outside")
	if err := os.MkdirAll(outside, 0o755); err != nil {
		t.Fatal(err)
	}
	secret := filepath.Join(outside, "secret")
	if err := os.WriteFile(secret, []byte("SECRET"), 0o644); err != nil {
		t.Fatal(err)
	}
	for name, target := range map[string]string{
		"abs": secret, "rel": "../outside/secret", "dir": outside, "up": "..", "root": "/", "proc": "/proc/self/root",
		"logs/web.stdout.0": secret, "loop": "loop",
	} {
		if err := os.Symlink(target, filepath.Join(o.dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	for _, path := range []string{
		"abs", "rel", "dir/secret", "up/outside/secret", "../outside/secret", "/../outside/secret", secret,
		"root" + secret, "proc" + secret, "logs/../../outside/secret", "loop", "up", "logs/web.stdout.0",
	} {
		frames, last := serve(t, s, readOrder(path))
		if strings.Contains(text(frames), "SECRET") || last.GetProblem() == nil {
			t.Errorf("%s: read %q, %v", path, text(frames), last)
		}
		list := &berthv1.StreamOrder{Order: &berthv1.StreamOrder_ListFiles{ListFiles: &berthv1.ListFilesRequest{AllocId: "a1", Path: path}}}
		if frames, last := serve(t, s, list); last.GetProblem() == nil {
			t.Errorf("%s: listed %v", path, frames)
		}
	}
	if frames, _ := serve(t, s, logsOrder(&berthv1.LogsRequest{FromStart: true})); strings.Contains(text(frames), "SECRET") {
		t.Error("the logs lead out")
	}
}

func TestPipesAndDevicesAreNotRead(t *testing.T) {
	s, o := newServer(t)
	if err := syscall.Mkfifo(filepath.Join(o.dir, "fifo"), 0o666); err != nil {
		t.Fatal(err)
	}
	if _, last := serve(t, s, readOrder("fifo")); last.GetProblem().GetKind() != "invalid" {
		t.Errorf("a pipe: %v", last)
	}
}

func FuzzConfinement(f *testing.F) {
	for _, seed := range []string{"", "/", "..", "a/../../outside/secret", "l/secret", "./l/../l/secret", "a//b", "\x00", "l/../outside/secret"} {
		f.Add(seed)
	}
	top := f.TempDir()
	dir := filepath.Join(top, "alloc")
	for path, content := range map[string]string{"outside/secret": "SECRET", "alloc/a/b": "fine"} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(top, path)), 0o755); err != nil {
			f.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(top, path), []byte(content), 0o644); err != nil {
			f.Fatal(err)
		}
	}
	if err := os.Symlink("../outside", filepath.Join(dir, "l")); err != nil {
		f.Fatal(err)
	}
	s := New(&oneAlloc{dir: dir, tasks: []string{"web"}}, slog.New(slog.DiscardHandler))
	f.Fuzz(func(t *testing.T, path string) {
		frames, _ := serve(t, s, readOrder(path))
		if strings.Contains(text(frames), "SECRET") {
			t.Errorf("%q leads out", path)
		}
	})
}

func TestExec(t *testing.T) {
	s, o := newServer(t)
	o.driver = mock.New(mock.NewHost())
	if _, err := o.driver.Start(t.Context(), &drivers.Task{ID: "a1/web", Name: "web"}); err != nil {
		t.Fatal(err)
	}
	order := func(env map[string]string, command ...string) *berthv1.StreamOrder {
		return &berthv1.StreamOrder{Order: &berthv1.StreamOrder_Exec{Exec: &berthv1.ExecStart{
			AllocId: "a1", Command: command, Env: env, Size: &berthv1.TerminalSize{Columns: 80, Rows: 24}}}}
	}
	run := func(o *berthv1.StreamOrder, input ...*berthv1.ExecFrame) (string, *berthv1.ExecExit, *berthv1.StreamFrame) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		p := newPipe(ctx)
		done := make(chan struct{})
		go func() { defer close(done); s.Serve(ctx, o, p) }()
		for _, f := range input {
			p.down <- execFrame(f)
		}
		var out strings.Builder
		var exit *berthv1.ExecExit
		var last *berthv1.StreamFrame
		for f := range p.up {
			out.Write(f.GetExec().GetStdout())
			if e := f.GetExec().GetExit(); e != nil {
				exit = e
			}
			last = f
		}
		cancel()
		<-done
		return out.String(), exit, last
	}
	if out, exit, last := run(order(map[string]string{"B": "mine"}, "env", "B")); out != "mine\n" || exit.GetCode() != 0 || !last.GetDone() {
		t.Errorf("env: %q %v %v", out, exit, last)
	}
	if _, exit, _ := run(order(nil, "exit", "3")); exit.GetCode() != 3 {
		t.Errorf("exit: %v", exit)
	}
	out, exit, _ := run(order(nil, "cat"),
		&berthv1.ExecFrame{Body: &berthv1.ExecFrame_Stdin{Stdin: []byte("to and ")}},
		&berthv1.ExecFrame{Body: &berthv1.ExecFrame_Stdin{Stdin: []byte("fro")}},
		&berthv1.ExecFrame{Body: &berthv1.ExecFrame_StdinClose{StdinClose: true}})
	if out != "to and fro" || exit == nil {
		t.Errorf("cat: %q %v", out, exit)
	}
	if _, _, last := run(order(nil)); last.GetProblem().GetKind() != "invalid" {
		t.Errorf("no command: %v", last)
	}
	if _, _, last := run(order(nil, "no-such")); last.GetProblem() == nil {
		t.Errorf("unknown command: %v", last)
	}
}

func TestExecEndsWithItsStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, o := newServer(t)
		o.driver = mock.New(mock.NewHost())
		if _, err := o.driver.Start(t.Context(), &drivers.Task{ID: "a1/web", Name: "web"}); err != nil {
			t.Fatal(err)
		}
		p := newPipe(t.Context())
		began := time.Now()
		go func() {
			time.Sleep(time.Minute)
			close(p.down) // the person has gone
		}()
		s.Serve(t.Context(), &berthv1.StreamOrder{Order: &berthv1.StreamOrder_Exec{Exec: &berthv1.ExecStart{AllocId: "a1", Command: []string{"sleep", "10h"}}}}, p)
		if took := time.Since(began); took != time.Minute {
			t.Errorf("the command ended after %s", took)
		}
	})
}

func TestSignalAndRestart(t *testing.T) {
	s, o := newServer(t)
	serve(t, s, &berthv1.StreamOrder{Order: &berthv1.StreamOrder_Signal{Signal: &berthv1.SignalAllocRequest{AllocId: "a1", Task: "web", Signal: "SIGHUP"}}})
	serve(t, s, &berthv1.StreamOrder{Order: &berthv1.StreamOrder_Restart{Restart: &berthv1.RestartAllocRequest{AllocId: "a1"}}})
	if got := strings.Join(o.did, ", "); got != "signal web SIGHUP, restart " {
		t.Errorf("did %q", got)
	}
	if _, last := serve(t, s, &berthv1.StreamOrder{}); last.GetProblem().GetKind() != "unsupported" {
		t.Errorf("an empty order: %v", last)
	}
}
