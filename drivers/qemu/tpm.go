package qemu

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/berthd/berth/drivers"
	"github.com/berthd/berth/drivers/cgroup"
	"github.com/berthd/berth/drivers/qemu/machine"
	"github.com/berthd/berth/problem"
	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

// startTPM starts swtpm, which ends with QEMU's connection and lives in its cgroup.
func (d *Driver) startTPM(ctx context.Context, t *drivers.Task, c *berthv1.QemuConfig, group *cgroup.Group) error {
	if !c.GetTpm() {
		return nil
	}
	dir := stateDir(t.Dirs.State)
	state := filepath.Join(place(t), "tpm")
	if err := os.MkdirAll(state, 0o700); err != nil {
		return unavailable("making the TPM's directory", err)
	}
	program, err := exec.LookPath("swtpm")
	if err != nil {
		return problem.New(problem.Invalid, "config.tpm", "the node has no swtpm").WithRemedy("install swtpm on it")
	}
	_ = os.Remove(dir.path(machine.TPMSocket)) // of an earlier one
	p, err := start(dir, group, nil, program, []string{
		"socket", "--tpm2", "--tpmstate", "dir=" + state, "--ctrl", "type=unixio,path=" + machine.TPMSocket, "--terminate",
	})
	if err != nil {
		return unavailable("starting swtpm", err)
	}
	for !exists(dir.path(machine.TPMSocket)) {
		select {
		case <-p.done:
			return problem.New(problem.Unavailable, "config.tpm", "swtpm does not start: %s", dir.lastWords())
		case <-time.After(2 * time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}
