package command

import (
	"bufio"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/creack/pty"
)

// atTerminal runs berth at a terminal of 80 columns into which keys are typed, and gives
// what it showed.
func atTerminal(t *testing.T, address, keys string, env map[string]string, args ...string) (string, int) {
	t.Helper()
	ptmx, tty, err := pty.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer ptmx.Close()
	if err := pty.Setsize(ptmx, &pty.Winsize{Rows: 24, Cols: 80}); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(ptmx, keys); err != nil {
		t.Fatal(err)
	}
	shown := make(chan string)
	go func() {
		text, _ := bufio.NewReader(ptmx).ReadString(0)
		shown <- strings.TrimSuffix(text, "\x00")
	}()
	getenv := func(name string) string {
		if name == "BERTH_ADDR" {
			return address
		}
		return env[name]
	}
	code := Main(t.Context(), args, Streams{In: tty, Out: tty, Err: tty, Getenv: getenv, Environ: func() []string { return nil }})
	// A Read of stdin may be left behind (see client.Exec), so closing ends nothing.
	if _, err := tty.WriteString("\x00"); err != nil {
		t.Fatal(err)
	}
	return strings.ReplaceAll(<-shown, "\r\n", "\n"), code
}

func TestTerminal(t *testing.T) {
	spec := filepath.Join(t.TempDir(), "api.hcl")
	if err := os.WriteFile(spec, []byte("job \"api\" {\n  group \"api\" {\n    count = 3\n    task \"server\" {\n      driver = \"exec\"\n    }\n  }\n}\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	noColor := map[string]string{"NO_COLOR": "1"}
	for _, c := range []struct {
		name, keys string
		env        map[string]string
		args       []string
		code       int
		want, not  []string
	}{
		{name: "progress is drawn in place", args: []string{"job", "run", spec},
			want: []string{"  placed     3/3   n1 n2", "\x1b[2A\x1b[J", "  running    3/3", "Done. berth job status api"}},
		{name: "statuses have colours", args: []string{"node", "status"}, want: []string{"\x1b[32mready\x1b[0m"}},
		{name: "unless they are not wanted", env: noColor, args: []string{"node", "status"}, want: []string{"ready"}, not: []string{"\x1b["}},
		{name: "or by a flag", args: []string{"node", "status", "-no-color"}, want: []string{"ready"}, not: []string{"\x1b["}},
		{name: "columns that do not fit are dropped", env: noColor, args: []string{"node", "status", "-long"}, want: []string{"30000000-aaaa-4000-8000-000000000000", "DRIVERS"}, not: []string{"VERSION"}},
		{name: "no is no", keys: "n\n", args: []string{"job", "stop", "-purge", "web"}, code: exitError,
			want: []string{"Forget job web and its history for good? [y/N]", "nothing was done"}},
		{name: "yes is yes", keys: "y\n", args: []string{"job", "stop", "-purge", "web"}, want: []string{"web is stopped, and is forgotten"}},
		{name: "exec has a terminal by itself", keys: "typed\n", env: map[string]string{"TERM": "vt100"}, args: []string{"alloc", "exec", "a0000000", "head"}, want: []string{"typed"}},
		{name: "and hands on what it is", env: map[string]string{"TERM": "vt100"}, args: []string{"alloc", "exec", "a0000000", "show"}, want: []string{"tty=true env=map[TERM:vt100]"}},
		{name: "long errors are wrapped", args: []string{"-addr", "127.0.0.1:1", "node", "status"}, code: exitError, want: []string{"Start a server\n(`berth"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, code := atTerminal(t, serveFake(t, newFakeCluster()), c.keys, c.env, c.args...)
			if code != c.code {
				t.Errorf("exit code %d, want %d", code, c.code)
			}
			for _, w := range c.want {
				if !strings.Contains(got, w) {
					t.Errorf("%q is missing in %q", w, got)
				}
			}
			for _, w := range c.not {
				if strings.Contains(got, w) {
					t.Errorf("%q is in %q", w, got)
				}
			}
		})
	}
}

func TestKeys(t *testing.T) {
	for typed, want := range map[string]string{
		"ls\r":           "ls\r",
		"a\x1db":         "a|",
		"\x1d":           "|",
		"~.":             "|",
		"ls\r~.more":     "ls\r|",
		"a~.":            "a~.",
		"~~.":            "~.",
		"~a":             "~a",
		"x\n~\x1d":       "x\n|",
		"~/bin\r~/x\r~.": "~/bin\r~/x\r|",
	} {
		for _, size := range []int{1, 3, 100} {
			left := ""
			k := &keys{from: strings.NewReader(typed), leave: func() { left = "|" }, fresh: true}
			var out strings.Builder
			for p := make([]byte, size); ; {
				n, err := k.Read(p)
				out.Write(p[:n])
				if err != nil {
					break
				}
			}
			if got := out.String() + left; got != want || k.hasLeft() != (left != "") {
				t.Errorf("%q in pieces of %d: %q, want %q", typed, size, got, want)
			}
		}
	}
}

func TestConsoleAtTerminal(t *testing.T) {
	for keys, want := range map[string]string{
		"uname\x1d":  "Left the console of a0000000; the machine goes on.",
		"uname\r~.":  "Left the console of a0000000; the machine goes on.",
		"uname\rbye": "The console of a0000000 has ended",
	} {
		got, code := atTerminal(t, serveFake(t, newFakeCluster()), keys, nil, "alloc", "console", "a0000000")
		if code != 0 || !strings.Contains(got, "Ctrl-] leaves it.") || !strings.Contains(got, want) {
			t.Errorf("%q: %d %q", keys, code, got)
		}
	}
}
