package command

import (
	"bufio"
	"context"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/berthd/berth/problem"
)

func (a *app) snapshotSave() *cobra.Command {
	cmd := a.leaf("save [FILE]", "Save a snapshot of the whole state", "FILE is berth-<time>.snap unless named; - is stdout. The file is complete or not there.",
		func(ctx context.Context, args []string) error {
			c, err := a.api()
			if err != nil {
				return err
			}
			name := time.Now().UTC().Format("berth-20060102T150405Z.snap")
			if len(args) > 0 {
				name = args[0]
			}
			if name == "-" {
				_, err := c.SaveSnapshot(ctx, a.Out)
				return err
			}
			wrong := func(err error) error {
				return problem.New(problem.Invalid, name, "the snapshot cannot be written: %w", unpath(err))
			}
			tmp, err := os.CreateTemp(filepath.Dir(name), ".berth-*")
			if err != nil {
				return wrong(err)
			}
			defer os.Remove(tmp.Name())
			defer tmp.Close()
			size, err := c.SaveSnapshot(ctx, tmp)
			if err != nil {
				return err
			}
			if err := tmp.Sync(); err != nil {
				return wrong(err)
			}
			if err := os.Rename(tmp.Name(), name); err != nil {
				return wrong(err)
			}
			a.printf("Saved %s (%s). `berth operator snapshot restore %s` restores it.\n", name, bytesIn(uint64(size)), name)
			return nil
		})
	cmd.ValidArgsFunction = completeAnyFile
	return cmd
}

func completeAnyFile(_ *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
	return nil, cobra.ShellCompDirectiveDefault
}

func (a *app) snapshotRestore() *cobra.Command {
	var o output
	var yes bool
	cmd := a.leaf("restore FILE", "Replace the whole state of the cluster by a snapshot",
		"Everything written since the snapshot was saved is lost. Workloads go on; agents stop what the restored state does not know.",
		func(ctx context.Context, args []string) error {
			c, err := a.api()
			if err != nil {
				return err
			}
			f, err := os.Open(args[0])
			if err != nil {
				return problem.New(problem.Invalid, args[0], "the snapshot cannot be read: %w", unpath(err))
			}
			defer f.Close()
			if err := a.confirm(yes, "Replace the whole state of the cluster by %s?", args[0]); err != nil {
				return err
			}
			r, err := c.RestoreSnapshot(ctx, bufio.NewReaderSize(f, 1<<16))
			if err != nil {
				return err
			}
			return a.show(&o, r, func() error {
				a.printf("Restored cluster %s to revision %d.\n", shortID(r.GetClusterId()), r.GetRevision())
				return nil
			})
		})
	cmd.Flags().BoolVar(&yes, "yes", false, "do not ask before something is lost for good")
	o.register(cmd)
	cmd.ValidArgsFunction = completeAnyFile
	return cmd
}
