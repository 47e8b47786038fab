package qga_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/berthd/berth/drivers/qemu/qga"
)

// serve has a fake agent in a fake QEMU: before its first answer there is what an
// earlier conversation has left.
func serve(t testing.TB, talk func(net.Conn)) (dir string) {
	t.Helper()
	dir = t.TempDir()
	l, err := net.Listen("unix", filepath.Join(dir, "qga.sock"))
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

func agent(c net.Conn) {
	io.WriteString(c, `{"return": {"exited": true`+"\n")
	asked := 0
	for lines := bufio.NewScanner(c); lines.Scan(); {
		var r struct {
			Execute   string         `json:"execute"`
			Arguments map[string]any `json:"arguments"`
		}
		if json.Unmarshal(bytes.TrimPrefix(lines.Bytes(), []byte{0xff}), &r) != nil {
			return
		}
		switch r.Execute {
		case "guest-sync-delimited":
			fmt.Fprintf(c, "\xff"+`{"return": 7}`+"\n\xff"+`{"return": %.0f}`+"\n", r.Arguments["id"])
		case "guest-get-host-name":
			io.WriteString(c, `{"return": {"host-name": "vm1"}}`+"\n")
		case "guest-get-osinfo":
			io.WriteString(c, `{"error": {"class": "CommandNotFound", "desc": "unknown"}}`+"\n")
		case "guest-network-get-interfaces":
			io.WriteString(c, `{"return": [{"name": "lo", "ip-addresses": [{"ip-address": "127.0.0.1"}]}, {"name": "eth1"}, `+
				`{"name": "eth0", "ip-addresses": [{"ip-address": "fe80::1"}, {"ip-address": "192.0.2.7"}, {"ip-address": "x"}]}]}`+"\n")
		case "guest-fsfreeze-freeze":
			io.WriteString(c, `{"return": 3}`+"\n")
		case "guest-exec":
			io.WriteString(c, `{"return": {"pid": 9}}`+"\n")
		case "guest-exec-status":
			if asked++; asked < 3 {
				io.WriteString(c, `{"return": {"exited": false}}`+"\n")
				continue
			}
			fmt.Fprintf(c, `{"return": {"exited": true, "exitcode": 3, "out-data": %q}}`+"\n", base64.StdEncoding.EncodeToString([]byte("hello\n")))
		}
	}
}

func TestAgent(t *testing.T) {
	a, err := qga.Dial(t.Context(), serve(t, agent), "qga.sock")
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	about, err := a.About(t.Context())
	if err != nil || about.Hostname != "vm1" || about.OS != "" || !slices.Equal(about.Addresses, []string{"192.0.2.7"}) {
		t.Errorf("About = %+v, %v", about, err)
	}
	if n, err := a.Freeze(t.Context()); n != 3 || err != nil {
		t.Errorf("Freeze = %d, %v", n, err)
	}
	r, err := a.Exec(t.Context(), qga.Command{Args: []string{"echo", "hello"}, Input: []byte("x")})
	if err != nil || r.Code != 3 || string(r.Stdout) != "hello\n" {
		t.Errorf("Exec = %+v, %v", r, err)
	}
	var refusal *qga.Error
	if err := a.Run(t.Context(), "guest-get-osinfo", nil, nil); !errors.As(err, &refusal) {
		t.Errorf("a refused command: %v", err)
	}
	if err := a.Shutdown(t.Context()); err != nil {
		t.Errorf("Shutdown = %v", err)
	}
}

func TestNoAgent(t *testing.T) {
	for name, talk := range map[string]func(net.Conn){
		"silence": func(c net.Conn) { io.Copy(io.Discard, c) },
		"garbage": func(c net.Conn) { io.WriteString(c, "\xff\x00{\xff[]\n\xff{}\n"); io.Copy(io.Discard, c) },
		"no end": func(c net.Conn) {
			for {
				if _, err := io.WriteString(c, "boring "); err != nil {
					return
				}
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
			defer cancel()
			_, err := qga.Dial(ctx, serve(t, talk), "qga.sock")
			if err == nil || name != "garbage" && !errors.Is(err, qga.ErrNoAgent) {
				t.Errorf("Dial = %v", err)
			}
		})
	}
}

func FuzzAgent(f *testing.F) {
	f.Add([]byte("\xff{\"return\": 1}\n"))
	f.Add([]byte("{\xff\n\n"))
	f.Fuzz(func(t *testing.T, words []byte) {
		dir := serve(t, func(c net.Conn) { c.Write(words) })
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		if a, err := qga.Dial(ctx, dir, "qga.sock"); err == nil {
			_, _ = a.About(ctx)
			a.Close()
		}
		if ctx.Err() != nil {
			t.Fatal("it hung")
		}
	})
}
