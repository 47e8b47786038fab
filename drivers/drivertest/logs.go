package drivertest

import (
	"os"
	"strings"
	"testing"
)

// logTests hold the promises about a task's output.
var logTests = map[string]func(*testing.T, *bench){
	"streams are apart":           testStreams,
	"files are bounded":           testLogBounds,
	"output flows on after crash": testLogsAfterCrash,
	"output of a run is all kept": testLogsComplete,
}

func testStreams(t *testing.T, b *bench) {
	b.need(b.f.Print != nil, "Print")
	task := b.task(b.f.Print("to stdout", "to stderr"))
	b.start(task)
	b.eventually("the output", func() bool {
		return strings.Contains(output(task, "stdout"), "to stdout") && strings.Contains(output(task, "stderr"), "to stderr")
	})
	if strings.Contains(output(task, "stdout"), "to stderr") || strings.Contains(output(task, "stderr"), "to stdout") {
		t.Error("the streams are mixed")
	}
}

func testLogBounds(t *testing.T, b *bench) {
	b.need(b.f.Flood != nil, "Flood")
	task := b.task(b.f.Flood(1 << 20))
	task.Logs.MaxFiles, task.Logs.MaxFileBytes = 3, 100_000
	b.start(task)
	if exit := b.wait(task); !exit.OK() {
		t.Fatalf("ended with %+v", exit)
	}
	files := logFiles(task, "stdout")
	if len(files) != 3 {
		t.Errorf("%d files are kept, want 3: %v", len(files), files)
	}
	for _, name := range files {
		info, err := os.Stat(name)
		if err != nil || info.Size() > task.Logs.MaxFileBytes {
			t.Errorf("%s: %d bytes, %v", name, info.Size(), err)
		}
	}
	if !strings.HasSuffix(strings.Join(files, " "), ".stdout.10") {
		t.Errorf("the newest file is not number 10: %v", files)
	}
}

func testLogsComplete(t *testing.T, b *bench) {
	b.need(b.f.Flood != nil, "Flood")
	task := b.task(b.f.Flood(300_000))
	b.start(task)
	b.wait(task)
	// All output is in the files by the time Wait has returned.
	if got := len(output(task, "stdout")); got != 300_000 {
		t.Errorf("%d bytes are kept, want 300000", got)
	}
}

func testLogsAfterCrash(_ *testing.T, b *bench) {
	b.need(b.f.Ticks != nil, "Ticks")
	task := b.task(b.f.Ticks)
	h := b.start(task)
	b.eventually("output", func() bool { return output(task, "stdout") != "" })
	b.crash()
	before := len(output(task, "stdout"))
	if !b.f.LateLogs {
		b.eventually("output while no agent runs", func() bool { return len(output(task, "stdout")) > before })
	}
	if err := b.d.Recover(b.ctx(), task, h); err != nil {
		b.t.Fatalf("Recover: %v", err)
	}
	before = len(output(task, "stdout"))
	b.eventually("output after Recover", func() bool { return len(output(task, "stdout")) > before })
}
