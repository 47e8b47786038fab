package command

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// watchedWriter cancels when what it was waiting for is written.
type watchedWriter struct {
	mu     sync.Mutex
	b      strings.Builder
	text   string
	cancel func()
}

func (w *watchedWriter) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.b.Write(p)
	if w.text != "" && strings.Contains(w.b.String(), w.text) {
		w.cancel()
	}
	return len(p), nil
}

func (w *watchedWriter) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.b.String()
}

// TestInterrupt: Ctrl-C, which cancels the context, ends the watching and says that the
// job is not touched.
func TestInterrupt(t *testing.T) {
	for _, c := range []struct {
		job, at string
		code    int
	}{
		{"huge", "Waiting for a change", exitNotPlaced},
		{"stuck", "placed", exitInterrupted},
	} {
		spec := filepath.Join(t.TempDir(), "x.hcl")
		text := `job "` + c.job + `" { group "g" { count = 1 task "t" { driver = "exec" } } }`
		text = strings.NewReplacer("{ ", "{\n", "1 ", "1\n", " }", "\n}").Replace(text)
		if err := os.WriteFile(spec, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		out := &watchedWriter{text: c.at, cancel: cancel}
		a, _, stderr := testApp()
		a.Out = out
		code := Main(ctx, []string{"-addr", serveFake(t, newFakeCluster()), "job", "run", "-wait", "1h", spec}, a.Streams)
		if code != c.code || !strings.Contains(out.String(), "Stopped watching; the job is not touched. berth job status "+c.job) {
			t.Errorf("%s: exit code %d, want %d\n%s%s", c.job, code, c.code, out.String(), stderr)
		}
	}
}
