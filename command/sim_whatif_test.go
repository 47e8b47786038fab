package command

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestSimWhatIfRefuses(t *testing.T) {
	garbage := filepath.Join(t.TempDir(), "garbage.snap")
	if err := os.WriteFile(garbage, bytes.Repeat([]byte("not a snapshot"), 100), 0o600); err != nil {
		t.Fatal(err)
	}
	for want, args := range map[string][]string{
		"one of -snapshot FILE and -live": {},
		"one of -snapshot":                {"-live", "-snapshot", "x"},
		"the snapshot cannot be read":     {"-snapshot", "/nonexistent"},
		"garbage.snap":                    {"-snapshot", garbage},
	} {
		var out, errs bytes.Buffer
		code := Main(t.Context(), append([]string{"sim", "whatif"}, args...), Streams{Out: &out, Err: &errs, In: strings.NewReader(""),
			Getenv: func(string) string { return "" }, Environ: func() []string { return nil }})
		text := strings.Join(strings.Fields(errs.String()), " ")
		if code == 0 || !strings.Contains(text, want) || out.Len() > 0 {
			t.Errorf("%v: exit %d, %q, printed %q", args, code, text, out.String())
		}
	}
}

func TestSimBenchPrints(t *testing.T) {
	run := func(args ...string) (int, string, string) {
		var out, errs bytes.Buffer
		code := Main(t.Context(), append([]string{"sim", "bench", "-nodes", "20", "-asks", "100"}, args...), Streams{Out: &out, Err: &errs,
			In: strings.NewReader(""), Getenv: func(string) string { return "" }, Environ: func() []string { return nil }})
		return code, out.String(), errs.String()
	}
	code, out, errs := run("-json", "-verify")
	var got struct {
		Engine    map[string]float64
		Reference map[string]map[string]float64
	}
	if err := json.Unmarshal([]byte(out), &got); err != nil || code != 0 || errs != "" {
		t.Fatalf("exit %d, %v, %q", code, err, errs)
	}
	for _, field := range []string{"place_cpu_ns", "release_cpu_ns", "place_p50_ns", "place_p99_ns", "allocs_per_op", "bytes_per_node", "mismatches", "empty_nodes_at_70", "spans_left"} {
		if _, there := got.Engine[field]; !there {
			t.Errorf("the engine has no %s: %s", field, out)
		}
	}
	for _, name := range []string{"full_scan", "log2_sample", "power_of_two", "sample_5_percent"} {
		if got.Reference[name]["place_cpu_ns"] <= 0 {
			t.Errorf("%s has no time", name)
		}
	}
	if code, out, errs := run("-quiet"); code != 0 || errs != "" || !strings.Contains(out, "spans left") {
		t.Errorf("exit %d, %q, %q", code, out, errs)
	}
	if code, out, errs := run("-cells", "7"); code == 0 || out != "" || !strings.Contains(errs, "-cells") {
		t.Errorf("exit %d, %q, %q", code, out, errs)
	}
}

func TestSimReplayEvents(t *testing.T) {
	file := filepath.Join(t.TempDir(), "events.ndjson")
	lines := `{"index":"1"}
{"index":"2","topic":"node","type":"created","time":"2026-01-01T00:00:00Z","node":{"id":"n1","name":"n1","status":"ready","drivers":[{"name":"exec","healthy":true}],"hardware":{"cells":[{"memory_mib":"100","cores":["0","1"]}]}}}
{"index":"3","topic":"job","type":"created","time":"2026-01-01T00:01:00Z","job":{"name":"j","namespace":"default","type":"batch","groups":[{"name":"g","tasks":[{"name":"t","driver":"exec","resources":{"cores":1,"memory_mib":"1"}}]}]}}
{"index":"4","topic":"alloc","type":"created","time":"2026-01-01T00:02:00Z","alloc":{"id":"a1","namespace":"default","job":"j","group":"g","node_id":"elsewhere"}}
`
	if err := os.WriteFile(file, []byte(lines), 0o600); err != nil {
		t.Fatal(err)
	}
	for want, args := range map[string][]string{
		"1 of 1 allocations placed, 1 on another node than recorded, 0 violations": {"-pods", file},
		`"cpu_percent": 50`:         {"-pods", file, "-policy", "spread", "-json"},
		"-pods: no file is given":   {},
		"there is no policy":        {"-pods", file, "-policy", "FGD"},
		"-nodes: open /nonexistent": {"-pods", file, "-nodes", "/nonexistent"},
	} {
		var out, errs bytes.Buffer
		Main(t.Context(), append([]string{"sim", "replay", "-trace", "events"}, args...), Streams{Out: &out, Err: &errs, In: strings.NewReader(""),
			Getenv: func(string) string { return "" }, Environ: func() []string { return nil }})
		if text := strings.Join(strings.Fields(out.String()+errs.String()), " "); !strings.Contains(text, want) {
			t.Errorf("%v: %q, want %q", args, text, want)
		}
	}
}
