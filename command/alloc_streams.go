package command

import (
	"context"
	"path"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/berthd/berth/problem"
	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

func (a *app) allocLogs() *cobra.Command {
	var req berthv1.LogsRequest
	var stderr bool
	cmd := a.leaf("logs ALLOC [TASK]", "Print a task's output", "TASK may be left out where the allocation has one task. Without -n, -c or -all: the last 10 KiB.",
		func(ctx context.Context, args []string) error {
			c, err := a.api()
			if err != nil {
				return err
			}
			req.AllocId, req.Stream = args[0], "stdout"
			if len(args) > 1 {
				req.Task = args[1]
			}
			if stderr {
				req.Stream = "stderr"
			}
			if req.TailLines < 0 || req.TailBytes < 0 {
				return problem.New(problem.Invalid, "-n, -c", "a number below 0 of lines or bytes")
			}
			err = c.FollowLogs(ctx, &req, func(f *berthv1.LogFrame) error {
				if f.GetNotice() != "" {
					a.note("[%s]", oneLine(f.GetNotice()))
				}
				_, err := a.Out.Write(f.GetData())
				return err
			})
			if ctx.Err() != nil && req.Follow {
				return nil // Ctrl-C is how following ends
			}
			return err
		})
	cmd.Flags().BoolVarP(&req.Follow, "follow", "f", false, "go on with what is written from now on")
	cmd.Flags().Int64VarP(&req.TailLines, "lines", "n", 0, "begin `n` lines before the end")
	cmd.Flags().Int64VarP(&req.TailBytes, "bytes", "c", 0, "begin `n` bytes before the end")
	cmd.Flags().BoolVar(&req.FromStart, "all", false, "begin at the oldest output that is kept")
	cmd.Flags().BoolVar(&stderr, "stderr", false, "its standard error instead of its standard output")
	registerTask(cmd, &req.Task, "the only one")
	cmd.ValidArgsFunction = a.completeAllocs
	return cmd
}

func (a *app) allocFS() *cobra.Command {
	var o output
	var stat, follow bool
	cmd := a.leaf("fs ALLOC [PATH]", "List an allocation's files, or print one",
		"PATH is inside the allocation's directory; a directory is listed, a file printed.",
		func(ctx context.Context, args []string) error {
			c, err := a.api()
			if err != nil {
				return err
			}
			name := ""
			if len(args) > 1 {
				name = path.Clean("/" + args[1])[1:]
			}
			info := &berthv1.FileInfo{IsDir: true}
			if name != "" || stat {
				if info, err = c.Allocs.StatFile(ctx, &berthv1.StatFileRequest{AllocId: args[0], Path: name}); err != nil {
					return err
				}
			}
			switch {
			case stat:
				return a.show(&o, info, func() error { return a.printFiles([]*berthv1.FileInfo{info}) })
			case info.GetIsDir():
				r, err := c.Allocs.ListFiles(ctx, &berthv1.ListFilesRequest{AllocId: args[0], Path: name})
				if err != nil {
					return err
				}
				return showList(a, &o, r.GetFiles(), func() error { return a.printFiles(r.GetFiles()) })
			}
			err = c.ReadFile(ctx, &berthv1.ReadFileRequest{AllocId: args[0], Path: name, Follow: follow}, a.Out)
			if ctx.Err() != nil && follow {
				return nil
			}
			return err
		})
	cmd.Flags().BoolVar(&stat, "stat", false, "only the facts about PATH")
	cmd.Flags().BoolVarP(&follow, "follow", "f", false, "go on with what is written to the file from now on")
	o.register(cmd)
	cmd.ValidArgsFunction = a.completeAllocs
	return cmd
}

func (a *app) printFiles(files []*berthv1.FileInfo) error {
	if len(files) == 0 {
		a.printf("The directory is empty.\n")
		return nil
	}
	t := newTable(column{title: "MODE", drop: 2}, column{title: "SIZE", right: true}, column{title: "MODIFIED", drop: 1}, column{title: "NAME"})
	for _, f := range files {
		name := f.GetName()
		if f.GetIsDir() {
			name = strings.TrimSuffix(name, "/") + "/"
		}
		t.add(f.GetMode(), bytesIn(uint64(max(f.GetSize(), 0))), ago(f.GetModifyTime(), time.Now()), name)
	}
	return a.table(t)
}
