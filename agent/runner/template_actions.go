package runner

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/berthd/berth/drivers"
)

// scriptTime bounds a change_script.
const scriptTime = time.Minute

// tell does what the changed templates say, once: a restart takes the place of the rest.
func (t *task) tell(ctx context.Context, dt *drivers.Task, changed []text) error {
	var files, signals []string
	var scripts [][]string
	restart := false
	for _, x := range changed {
		files = append(files, x.def.GetDestination())
		switch x.def.GetChangeMode() {
		case "none":
		case "signal":
			signals = append(signals, x.def.GetChangeSignal())
		case "script":
			scripts = append(scripts, x.def.GetChangeScript())
		default:
			restart = true
		}
	}
	words := "what templates read has changed: " + strings.Join(files, ", ")
	t.event("rendered", words)
	t.log.Info("templates came out otherwise", "files", files)
	if restart {
		t.rec.Restart = words // the hashes are stored before it starts again
		return t.settle("template")
	}
	slices.Sort(signals)
	for _, s := range slices.Compact(signals) {
		t.signal(ctx, dt, s)
	}
	slices.SortFunc(scripts, slices.Compare)
	for _, s := range slices.CompactFunc(scripts, slices.Equal) {
		t.script(ctx, dt, s)
	}
	if ctx.Err() != nil {
		return nil // the next agent tells it again
	}
	for _, x := range changed {
		t.templates.acted[x.def.GetDestination()] = x.hash
	}
	if err := t.saveActed(); err != nil {
		t.log.Warn("what a task was told cannot be stored; after a restart of the agent it is told again", "error", err)
	}
	return t.settle("template")
}

func (t *task) signal(ctx context.Context, dt *drivers.Task, signal string) {
	d, err := t.driver()
	if err == nil {
		if s, ok := d.(drivers.Signaler); ok {
			err = s.Signal(ctx, dt.ID, signal)
		} else {
			err = errors.New("its driver cannot send signals")
		}
	}
	if err != nil && ctx.Err() == nil {
		t.event("template failed", fmt.Sprintf("sending %s: %v", signal, err))
	}
}

func (t *task) script(ctx context.Context, dt *drivers.Task, command []string) {
	d, err := t.driver()
	if err == nil {
		x, ok := d.(drivers.Execer)
		if !ok {
			err = errors.New("its driver cannot run commands in it")
		} else {
			limited, cancel := context.WithTimeout(ctx, scriptTime)
			out := &drivers.Head{Max: 300}
			var exit *drivers.Exit
			exit, err = x.Exec(limited, dt.ID, &drivers.ExecRequest{Command: command, Stdin: strings.NewReader(""), Stdout: out, Stderr: out})
			cancel()
			if err == nil && !exit.OK() {
				err = errors.New(strings.TrimSuffix(describe(exit)+": "+out.String(), ": "))
			}
		}
	}
	if err != nil && ctx.Err() == nil {
		t.event("template failed", "change_script: "+err.Error())
	}
}
