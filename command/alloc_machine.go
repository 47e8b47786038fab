package command

import (
	"context"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/berthd/berth/problem"
	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

// machineActions are the commands that ControlAlloc serves.
var machineActions = []struct{ action, short, done string }{
	{"pause", "Have a virtual machine stand still", "%s stands still. berth alloc resume %s lets it go on."},
	{"resume", "Let a virtual machine go on that was paused or suspended", "%s goes on."},
	{"reset", "Press a virtual machine's reset button", "%s was reset."},
	{"powerdown", "Press a virtual machine's power button; its guest decides", "The power button of %s was pressed. Its guest decides what follows."},
	{"nmi", "Send a non-maskable interrupt, for a guest's crash dump", "%s got a non-maskable interrupt."},
	{"suspend", "Move a virtual machine's memory to disk, so that it uses none", "%s is on disk. berth alloc resume %s takes it up again."},
	{"freeze", "Have the guest write out and freeze its file systems", "The file systems of %s stand still. berth alloc thaw %s lets them go on."},
	{"thaw", "Let a guest's file systems go on that were frozen", "The file systems of %s go on."},
}

func (a *app) allocControls() []*cobra.Command {
	commands := make([]*cobra.Command, 0, len(machineActions))
	for _, m := range machineActions {
		cmd := a.leaf(m.action+" ALLOC [TASK]", m.short, "TASK may be left out where the group has one task.",
			func(ctx context.Context, args []string) error {
				c, err := a.api()
				if err != nil {
					return err
				}
				req := &berthv1.ControlAllocRequest{AllocId: args[0], Action: m.action}
				if len(args) > 1 {
					req.Task = args[1]
				}
				if _, err := c.Allocs.ControlAlloc(ctx, req); err != nil {
					return err
				}
				a.printf("%s\n", strings.ReplaceAll(m.done, "%s", args[0]))
				return nil
			})
		cmd.ValidArgsFunction = a.completeAllocs
		commands = append(commands, cmd)
	}
	return commands
}

func (a *app) allocScreenshot() *cobra.Command {
	var file string
	cmd := a.leaf("screenshot ALLOC [TASK]", "Save what a virtual machine's display shows",
		"The picture is a PNG. With -o - it goes to standard output.",
		func(ctx context.Context, args []string) error {
			if file == "-" && a.term.out {
				return problem.New(problem.Invalid, "-o", "a picture is not for a terminal").WithRemedy("name a file")
			}
			c, err := a.api()
			if err != nil {
				return err
			}
			req := &berthv1.ScreenshotAllocRequest{AllocId: args[0]}
			if len(args) > 1 {
				req.Task = args[1]
			}
			r, err := c.Allocs.ScreenshotAlloc(ctx, req)
			if err != nil {
				return err
			}
			if file == "-" {
				_, err := a.Out.Write(r.GetPng())
				return err
			}
			if err := os.WriteFile(file, r.GetPng(), 0o644); err != nil {
				return problem.New(problem.Invalid, "-o", "%w", err)
			}
			a.printf("%s has the display of %s (%s).\n", file, args[0], bytesIn(uint64(len(r.GetPng()))))
			return nil
		})
	cmd.Flags().StringVarP(&file, "output", "o", "screenshot.png", "`file` to write to")
	cmd.ValidArgsFunction = a.completeAllocs
	return cmd
}

func (a *app) allocSnapshots() *cobra.Command {
	return a.group("snapshot", "Snapshots of a virtual machine's disks and memory", "",
		a.allocSnapshotCreate(), a.allocSnapshotList(), a.allocSnapshotRevert(), a.allocSnapshotDelete())
}

func (a *app) allocSnapshotCreate() *cobra.Command {
	var o output
	req := &berthv1.SnapshotAllocRequest{}
	cmd := a.leaf("create ALLOC NAME", "Keep the state of a virtual machine's disks",
		"The machine goes on. Without -consistent the disks are kept as a loss of power would leave them.",
		func(ctx context.Context, args []string) error {
			c, err := a.api()
			if err != nil {
				return err
			}
			req.AllocId, req.Name = args[0], args[1]
			made, err := c.Allocs.SnapshotAlloc(ctx, req)
			if err != nil {
				return err
			}
			return a.show(&o, made, func() error {
				a.printf("Snapshot %s of %s is made. berth alloc snapshot revert %s %s goes back to it.\n", made.GetName(), args[0], args[0], made.GetName())
				return nil
			})
		})
	registerTask(cmd, &req.Task, "the only one")
	cmd.Flags().StringVar(&req.Description, "description", "", "`words` to go with it")
	cmd.Flags().BoolVar(&req.Memory, "memory", false, "keep the memory too: reverting goes on from that instant")
	cmd.Flags().BoolVar(&req.Consistent, "consistent", false, "have the guest's agent freeze the file systems meanwhile")
	o.register(cmd)
	cmd.ValidArgsFunction = a.completeAllocs
	return cmd
}

func (a *app) allocSnapshotList() *cobra.Command {
	var o output
	var task string
	cmd := a.leaf("list ALLOC", "List the snapshots of a virtual machine", "",
		func(ctx context.Context, args []string) error {
			c, err := a.api()
			if err != nil {
				return err
			}
			r, err := c.Allocs.ListAllocSnapshots(ctx, &berthv1.ListAllocSnapshotsRequest{AllocId: args[0], Task: task})
			if err != nil {
				return err
			}
			return showList(a, &o, r.GetSnapshots(), func() error { return a.printSnapshots(r.GetSnapshots()) })
		})
	registerTask(cmd, &task, "the only one")
	o.register(cmd)
	cmd.ValidArgsFunction = a.completeAllocs
	return cmd
}

func (a *app) printSnapshots(snapshots []*berthv1.AllocSnapshot) error {
	if len(snapshots) == 0 {
		a.printf("There are no snapshots. berth alloc snapshot create makes one.\n")
		return nil
	}
	t := newTable(column{title: "SNAPSHOT"}, column{title: "MADE"}, column{title: "SIZE", right: true}, column{title: "HAS", drop: 2}, column{title: "DESCRIPTION", shrink: 8, drop: 1})
	for _, s := range snapshots {
		has := "disks"
		if s.GetMemory() {
			has += ", memory"
		}
		if s.GetConsistent() {
			has += ", consistent"
		}
		t.add(s.GetName(), ago(s.GetTime(), time.Now()), bytesIn(s.GetBytes()), has, oneLine(s.GetDescription()))
	}
	return a.table(t)
}

func (a *app) allocSnapshotRevert() *cobra.Command {
	var task string
	var yes bool
	cmd := a.leaf("revert ALLOC NAME", "Take a virtual machine back to a snapshot",
		"What was written since is lost. With the memory in it the machine goes on from that instant, without it is started anew.",
		func(ctx context.Context, args []string) error {
			c, err := a.api()
			if err != nil {
				return err
			}
			if err := a.confirm(yes, "Lose all that %s has written since the snapshot %s?", args[0], args[1]); err != nil {
				return err
			}
			if _, err := c.Allocs.RevertAlloc(ctx, &berthv1.RevertAllocRequest{AllocId: args[0], Task: task, Name: args[1]}); err != nil {
				return err
			}
			a.printf("%s is as it was at the snapshot %s.\n", args[0], args[1])
			return nil
		})
	registerTask(cmd, &task, "the only one")
	cmd.Flags().BoolVar(&yes, "yes", false, "do not ask before something is lost for good")
	cmd.ValidArgsFunction = a.completeAllocs
	return cmd
}

func (a *app) allocSnapshotDelete() *cobra.Command {
	var task string
	cmd := a.leaf("delete ALLOC NAME", "Delete a snapshot of a virtual machine", "The machine is not touched.",
		func(ctx context.Context, args []string) error {
			c, err := a.api()
			if err != nil {
				return err
			}
			if _, err := c.Allocs.DeleteAllocSnapshot(ctx, &berthv1.DeleteAllocSnapshotRequest{AllocId: args[0], Task: task, Name: args[1]}); err != nil {
				return err
			}
			a.printf("Snapshot %s is deleted.\n", args[1])
			return nil
		})
	registerTask(cmd, &task, "the only one")
	cmd.ValidArgsFunction = a.completeAllocs
	return cmd
}
