package drivertest

import (
	"context"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/berthd/berth/drivers"
	"github.com/berthd/berth/problem"
)

// Console is a task with a serial console.
type Console struct {
	Config Config
	// Greets is what it writes to the console by itself.
	Greets string
	// Say is typed into it; Answers is what it writes then.
	Say, Answers string
}

// wire is an io.ReadWriter for Attach: what is typed comes from a pipe, what is written is kept.
type wire struct {
	io.Reader
	safeBuffer
	keyboard *io.PipeWriter
}

func (w *wire) Read(p []byte) (int, error) { return w.Reader.Read(p) }

// attach joins a channel in the background; the channel gives what Attach returned.
func (b *bench) attach(ctx context.Context, id string, channel drivers.Capability) (*wire, <-chan error) {
	r, keyboard := io.Pipe()
	w := &wire{Reader: r, keyboard: keyboard}
	b.t.Cleanup(func() { keyboard.Close() })
	ended := make(chan error, 1)
	p := power[drivers.Attacher](b, channel)
	go func() { ended <- p.Attach(ctx, id, channel, w) }()
	return w, ended
}

func (b *bench) ends(what string, ended <-chan error) error {
	b.t.Helper()
	select {
	case err := <-ended:
		return err
	case <-time.After(b.patience()):
		b.t.Fatalf("%s does not end", what)
		return nil
	}
}

func (b *bench) consoleTask() *drivers.Task {
	b.t.Helper()
	power[drivers.Attacher](b, drivers.CapConsole)
	b.need(b.f.Console != nil, "Console")
	return b.task(b.f.Console.Config)
}

func (w *wire) shows(words string) func() bool {
	return func() bool { return strings.Contains(w.String(), words) }
}

func testConsoleScrollback(t *testing.T, b *bench) {
	task := b.consoleTask()
	b.start(task)
	b.eventually("the greeting in the log", func() bool { return strings.Contains(output(task, "stdout"), b.f.Console.Greets) })
	w, _ := b.attach(t.Context(), task.ID, drivers.CapConsole)
	b.eventually("the scrollback", w.shows(b.f.Console.Greets))
	_, _ = io.WriteString(w.keyboard, b.f.Console.Say)
	b.eventually("the answer", w.shows(b.f.Console.Answers))
	if n := strings.Count(w.String(), b.f.Console.Greets); n != 1 {
		t.Errorf("the greeting came %d times: %q", n, w.String())
	}
}

func testConsoleShared(t *testing.T, b *bench) {
	task := b.consoleTask()
	b.start(task)
	one, _ := b.attach(t.Context(), task.ID, drivers.CapConsole)
	two, twoEnded := b.attach(t.Context(), task.ID, drivers.CapConsole)
	b.eventually("the greeting", one.shows(b.f.Console.Greets))
	b.eventually("the greeting", two.shows(b.f.Console.Greets))
	_, _ = io.WriteString(one.keyboard, b.f.Console.Say)
	b.eventually("the answer", one.shows(b.f.Console.Answers))
	b.eventually("the answer at the other", two.shows(b.f.Console.Answers))
	two.keyboard.Close()
	if err := b.ends("an Attach whose caller left", twoEnded); err != nil {
		t.Errorf("Attach = %v", err)
	}
	before := strings.Count(one.String(), b.f.Console.Answers)
	_, _ = io.WriteString(one.keyboard, b.f.Console.Say)
	b.eventually("the answer when the other has left", func() bool { return strings.Count(one.String(), b.f.Console.Answers) > before })
}

func testConsoleCrash(t *testing.T, b *bench) {
	task := b.consoleTask()
	h := b.start(task)
	first, _ := b.attach(t.Context(), task.ID, drivers.CapConsole)
	b.eventually("the greeting", first.shows(b.f.Console.Greets))
	b.crash()
	if err := b.d.Recover(b.ctx(), task, h); err != nil {
		t.Fatalf("Recover: %v", err)
	}
	w, _ := b.attach(t.Context(), task.ID, drivers.CapConsole)
	b.eventually("the scrollback after a crash", w.shows(b.f.Console.Greets))
	_, _ = io.WriteString(w.keyboard, b.f.Console.Say)
	b.eventually("the answer after a crash", w.shows(b.f.Console.Answers))
}

func testConsoleCaller(t *testing.T, b *bench) {
	task := b.consoleTask()
	b.start(task)
	ctx, cancel := context.WithCancel(t.Context())
	_, ended := b.attach(ctx, task.ID, drivers.CapConsole)
	cancel()
	if err := b.ends("an Attach that was cancelled", ended); err == nil {
		t.Error("a cancelled Attach succeeded")
	}
	b.running(task)
}

func testConsoleTaskEnds(t *testing.T, b *bench) {
	task := b.consoleTask()
	b.start(task)
	w, ended := b.attach(t.Context(), task.ID, drivers.CapConsole)
	b.eventually("the greeting", w.shows(b.f.Console.Greets))
	if err := b.d.Stop(b.ctx(), task.ID, "SIGTERM", 0); err != nil {
		t.Fatalf("Stop: %v", err)
	}
	_ = b.ends("an Attach whose task has ended", ended)
}

func testAttachErrors(t *testing.T, b *bench) {
	p := power[drivers.Attacher](b, drivers.CapConsole)
	task := b.task(b.f.Forever)
	b.start(task)
	if err := p.Attach(b.ctx(), task.ID, "telephone", &wire{Reader: strings.NewReader("")}); !problem.Is(err, problem.Invalid) {
		t.Errorf("Attach to an unknown channel = %v, want an Invalid problem", err)
	}
	if err := p.Attach(b.ctx(), task.ID+"x", drivers.CapConsole, &wire{Reader: strings.NewReader("")}); !problem.Is(err, problem.NotFound) {
		t.Errorf("Attach to an unknown task = %v, want NotFound", err)
	}
}

func testDisplay(t *testing.T, b *bench) {
	task := b.task(b.f.Forever)
	power[drivers.Attacher](b, drivers.CapVNC)
	b.start(task)
	for range 2 {
		w, ended := b.attach(t.Context(), task.ID, drivers.CapVNC)
		b.eventually("the protocol's first words", w.shows("RFB 003.008\n"))
		w.keyboard.Close()
		if err := b.ends("an Attach whose caller left", ended); err != nil {
			t.Errorf("Attach = %v", err)
		}
	}
}
