package qmp_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/berthd/berth/drivers/qemu/qmp"
)

const greeting = `{"QMP": {"version": {"qemu": {"micro": 22, "minor": 2, "major": 7}, "package": ""}, "capabilities": ["oob"]}}` + "\n"

// serve has a fake QEMU answer connections one at a time, as the real one does.
func serve(t testing.TB, talk func(net.Conn)) (dir string) {
	t.Helper()
	// Longer than the address of a unix socket may be.
	dir = filepath.Join(t.TempDir(), strings.Repeat("long/", 40))
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	d, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	l, err := net.Listen("unix", fmt.Sprintf("/proc/self/fd/%d/qmp.sock", d.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	var served sync.WaitGroup
	served.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			talk(c)
			c.Close()
		}
	})
	t.Cleanup(func() { l.Close(); served.Wait() })
	return dir
}

type request struct {
	ID        string          `json:"id"`
	Execute   string          `json:"execute"`
	Arguments json.RawMessage `json:"arguments"`
}

// qemu answers commands by answer, which gives lines; %s is the command's id.
func qemu(answer func(request) string) func(net.Conn) {
	return func(c net.Conn) {
		io.WriteString(c, greeting)
		for lines := bufio.NewScanner(c); lines.Scan(); {
			var r request
			if json.Unmarshal(lines.Bytes(), &r) != nil {
				return
			}
			reply := `{"return": {}, "id": "%s"}`
			if r.Execute != "qmp_capabilities" {
				reply = answer(r)
			}
			if reply == "" {
				return
			}
			if _, err := io.WriteString(c, strings.ReplaceAll(reply, "%s", r.ID)+"\n"); err != nil {
				return
			}
		}
	}
}

func dial(t *testing.T, dir string) *qmp.Monitor {
	t.Helper()
	m, err := qmp.Dial(t.Context(), dir, "qmp.sock")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.Close)
	return m
}

func TestRun(t *testing.T) {
	m := dial(t, serve(t, qemu(func(r request) string {
		switch r.Execute {
		case "query-status":
			return `{"event": "STOP", "data": {}, "timestamp": {"seconds": 1, "microseconds": 2}}` + "\n" +
				`{"return": {"status": "paused", "running": false}, "id": "%s"}`
		case "query-qmp-schema":
			return `{"return": "` + strings.Repeat("x", 300_000) + `", "id": "%s"}`
		case "echo":
			return `{"return": ` + string(r.Arguments) + `, "id": "%s"}`
		case "cont":
			return `{"return": {}, "id": "%s"}`
		}
		return `{"error": {"class": "CommandNotFound", "desc": "no such command"}, "id": "%s"}`
	})))
	if m.Version() != "7.2.22" {
		t.Errorf("version %q", m.Version())
	}
	events, cancel := m.Subscribe()
	defer cancel()
	if s, err := m.Status(t.Context()); err != nil || s != "paused" {
		t.Errorf("Status = %q, %v", s, err)
	}
	if e, err := events.Next(t.Context()); err != nil || e.Name != "STOP" || !e.At.Equal(time.Unix(1, 2000)) {
		t.Errorf("event %+v, %v", e, err)
	}
	var long string
	if err := m.Run(t.Context(), "query-qmp-schema", nil, &long); err != nil || len(long) != 300_000 {
		t.Errorf("a long answer: %d bytes, %v", len(long), err)
	}
	if err := m.Continue(t.Context()); err != nil {
		t.Errorf("Continue = %v", err)
	}
	var refusal *qmp.Error
	if err := m.Reset(t.Context()); !errors.As(err, &refusal) || refusal.Class != "CommandNotFound" {
		t.Errorf("Reset = %v", err)
	}
	var wg sync.WaitGroup
	for i := range 20 {
		wg.Go(func() {
			var got int
			if err := m.Run(t.Context(), "echo", i, &got); err != nil || got != i {
				t.Errorf("echo %d = %d, %v", i, got, err)
			}
		})
	}
	wg.Wait()
}

// A late answer is not taken for that of the next command.
func TestDeadline(t *testing.T) {
	late := ""
	m := dial(t, serve(t, qemu(func(r request) string {
		if r.Execute == "slow" {
			late = `{"return": "slow", "id": "` + r.ID + `"}` + "\n"
			return `{"event": "NOTHING"}`
		}
		return late + `{"return": "fast", "id": "%s"}`
	})))
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if err := m.Run(ctx, "slow", nil, nil); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("slow = %v", err)
	}
	var said string
	if err := m.Run(t.Context(), "fast", nil, &said); err != nil || said != "fast" {
		t.Errorf("fast = %q, %v", said, err)
	}
}

// Nobody reads the events: commands go on, and the subscriber hears that it missed some.
func TestEventsAreDrained(t *testing.T) {
	m := dial(t, serve(t, qemu(func(request) string {
		return strings.Repeat(`{"event": "RTC_CHANGE"}`+"\n", 1000) + `{"return": {}, "id": "%s"}`
	})))
	events, cancel := m.Subscribe()
	defer cancel()
	for range 3 {
		if err := m.Run(t.Context(), "anything", nil, nil); err != nil {
			t.Fatal(err)
		}
	}
	if e, err := events.Next(t.Context()); err != nil || e.Name != qmp.Missed {
		t.Errorf("first event %+v, %v", e, err)
	}
}

func TestReconnect(t *testing.T) {
	m := dial(t, serve(t, qemu(func(r request) string {
		if r.Execute == "die" {
			return ""
		}
		return `{"return": {}, "id": "%s"}`
	})))
	events, cancel := m.Subscribe()
	defer cancel()
	if err := m.Run(t.Context(), "die", nil, nil); err == nil || !strings.Contains(err.Error(), "closed the connection") {
		t.Errorf("die = %v", err)
	}
	if e, err := events.Next(t.Context()); err != nil || e.Name != qmp.Broken {
		t.Errorf("event %+v, %v", e, err)
	}
	if err := m.Run(t.Context(), "live", nil, nil); err != nil {
		t.Errorf("after a broken connection: %v", err)
	}
	m.Close()
	if err := m.Run(t.Context(), "live", nil, nil); !errors.Is(err, qmp.ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
}

func TestSilence(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
	defer cancel()
	dir := serve(t, func(c net.Conn) { io.Copy(io.Discard, c) })
	if _, err := qmp.Dial(ctx, dir, "qmp.sock"); err == nil || !strings.Contains(err.Error(), "does not greet") {
		t.Errorf("Dial = %v", err)
	}
	if _, err := qmp.Dial(t.Context(), t.TempDir(), "qmp.sock"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("Dial = %v", err)
	}
}

func TestGarbage(t *testing.T) {
	for name, words := range map[string]string{
		"no greeting":     "SSH-2.0-OpenSSH_9.2\n",
		"an empty line":   "\n",
		"another object":  "{}\n",
		"a part":          `{"QMP": {"vers`,
		"a greeting only": greeting,
		"then garbage":    greeting + `{"return": {}, "id": "1"}` + "\n\x00\xff\n",
		"wrong types":     greeting + `{"return": {}, "id": "1"}` + "\n" + `{"event": 5, "data": "x"}` + "\n",
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			m, err := qmp.Dial(ctx, serve(t, func(c net.Conn) { io.WriteString(c, words) }), "qmp.sock")
			if err == nil {
				defer m.Close()
				err = m.Run(ctx, "query-status", nil, nil)
			}
			if err == nil || ctx.Err() != nil {
				t.Errorf("got %v", err)
			}
			t.Log(err)
		})
	}
}

// Whatever QEMU says, a command ends, with an error or not.
func FuzzMonitor(f *testing.F) {
	f.Add([]byte(`{"return": {"status": "running"}, "id": "2"}`), uint8(1))
	f.Add([]byte(`{"event": "STOP", "data": {"a": [1, {}]}, "timestamp": {"seconds": -1}}`), uint8(0))
	f.Add([]byte(`{"error": {}, "id": "2"}`), uint8(3))
	f.Add([]byte(`[[[[{"id":`), uint8(2))
	f.Fuzz(func(t *testing.T, words []byte, kind uint8) {
		start := greeting + `{"return": {}, "id": "1"}` + "\n"
		if kind%4 == 0 {
			start = ""
		}
		dir := serve(t, func(c net.Conn) {
			io.WriteString(c, start)
			c.Write(words)
			if kind%2 == 1 {
				io.WriteString(c, "\n")
			}
		})
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		m, err := qmp.Dial(ctx, dir, "qmp.sock")
		if err != nil {
			return
		}
		defer m.Close()
		_, cancelEvents := m.Subscribe()
		defer cancelEvents()
		_, _ = m.Status(ctx)
		_, _ = m.VCPUs(ctx)
		if ctx.Err() != nil {
			t.Fatal("it hung")
		}
	})
}
