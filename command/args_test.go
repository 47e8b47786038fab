package command

import (
	"context"
	"slices"
	"strings"
	"testing"
)

func TestNormalize(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{"job status -json", "job status --json"},
		{"job status --json web", "job status --json web"},
		{"-addr 1.2.3.4:5 job status", "--addr 1.2.3.4:5 job status"},
		{"-addr=1.2.3.4:5 job -namespace x status", "--addr=1.2.3.4:5 job --namespace x status"},
		{"job history -diff=false web", "job history --diff=false web"},
		{"job run -var -json -json f", "job run --var -json --json f"}, // a flag's value is left alone
		{"job status -t -json", "job status -t -json"},
		{"job status --t {{.name}}", "job status -t {{.name}}"},
		{"alloc logs -fn 20 -stderr x", "alloc logs -fn 20 --stderr x"},
		{"alloc logs -n20 x", "alloc logs -n20 x"},
		{"alloc logs x -- -stderr", "alloc logs x -- -stderr"},
		{"alloc exec -task t id ls -json -task", "alloc exec --task t id -- ls -json -task"},
		{"alloc exec id -task t ls -l", "alloc exec id --task t -- ls -l"},
		{"alloc exec -it id sh -c -json", "alloc exec -it id -- sh -c -json"},
		{"alloc exec id -- -json", "alloc exec id -- -json"},
		{"agent -dev -data-dir /x", "agent --dev --data-dir /x"},
		{"server -join a,b members", "server --join a,b members"},
		{"job status job", "job status job"},
		{"job run -", "job run -"},
		{"job run -nope", "job run -nope"},
		{"-help", "--help"},
		{"-h", "-h"},
		{"__complete job status -js", "__complete job status -js"},
		{"__complete job status -json w", "__complete job status --json w"},
	} {
		a, _, _ := testApp()
		if got := strings.Join(normalize(a.root(), strings.Fields(c.in)), " "); got != c.want {
			t.Errorf("%q becomes %q, want %q", c.in, got, c.want)
		}
	}
}

// FuzzNormalize: whatever is typed, words are kept, normalising twice is normalising
// once, and parsing what comes out ends without a panic.
func FuzzNormalize(f *testing.F) {
	for _, s := range []string{"job status -json web", "alloc exec -it id sh -json", "-addr x -- -json", "job -= --= - -- -n", "alloc logs -fn20 -\x00 -é"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, line string) {
		args := strings.Split(line, " ")
		a, _, _ := testApp()
		root := a.root()
		once := normalize(root, args)
		bare := func(words []string) (out []string) {
			for _, w := range words {
				if w != "--" {
					out = append(out, strings.TrimLeft(w, "-"))
				}
			}
			return out
		}
		if !slices.Equal(bare(args), bare(once)) {
			t.Fatalf("%q becomes %q", args, once)
		}
		if twice := normalize(root, once); !slices.Equal(once, twice) {
			t.Fatalf("%q becomes %q, and that %q", args, once, twice)
		}
		cmd, rest, err := root.Find(once)
		if err == nil {
			_ = cmd.ParseFlags(rest)
		}
	})
}

// FuzzMain: a whole call with a server that is not there. Commands that run a daemon or
// write files are left out.
func FuzzMain(f *testing.F) {
	f.Add("job status web -json")
	f.Add("node eligibility -enable x")
	f.Fuzz(func(t *testing.T, line string) {
		args := strings.Split(line, " ")
		for _, w := range args {
			if slices.Contains([]string{"agent", "server", "init", "save", "fmt", "bench", "sim"}, w) {
				t.Skip()
			}
		}
		a, _, stderr := testApp()
		a.Getenv = func(name string) string { return map[string]string{"BERTH_ADDR": "127.0.0.1:1"}[name] }
		code := Main(context.Background(), args, a.Streams)
		if code != exitOK && stderr.Len() == 0 {
			t.Fatalf("%q: exit code %d, and not a word why", args, code)
		}
	})
}
