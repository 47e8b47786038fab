package command

import (
	"context"
	"time"

	"github.com/spf13/cobra"

	"github.com/berthd/berth/client"
	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

// completeFor bounds what a shell waits for us.
const completeFor = 2 * time.Second

// completeCount bounds what is offered.
const completeCount = 200

// completer offers names that begin with what is typed.
type completer func(ctx context.Context, c *client.Client, prefix string) ([]string, error)

func (a *app) complete(from completer) cobra.CompletionFunc {
	return func(_ *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
		if len(args) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		c, err := a.api()
		if err != nil {
			return nil, cobra.ShellCompDirectiveError
		}
		ctx, cancel := context.WithTimeout(context.Background(), completeFor)
		defer cancel()
		names, err := from(ctx, c, typed)
		if err != nil {
			return nil, cobra.ShellCompDirectiveError
		}
		return names, cobra.ShellCompDirectiveNoFileComp
	}
}

func (a *app) completeJobs(cmd *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
	return a.complete(func(ctx context.Context, c *client.Client, prefix string) ([]string, error) {
		r, err := c.Jobs.ListJobs(ctx, &berthv1.ListJobsRequest{Prefix: prefix, PageSize: completeCount, Stale: true})
		var names []string
		for _, j := range r.GetJobs() {
			names = append(names, j.GetName()+"\t"+j.GetType().String()+", "+j.GetStatus().String())
		}
		return names, err
	})(cmd, args, typed)
}

func (a *app) completeAllocs(cmd *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
	return a.complete(func(ctx context.Context, c *client.Client, prefix string) ([]string, error) {
		r, err := c.Allocs.ListAllocs(ctx, &berthv1.ListAllocsRequest{Prefix: prefix, PageSize: completeCount, Stale: true})
		var names []string
		for _, alloc := range r.GetAllocs() {
			names = append(names, alloc.GetId()+"\t"+alloc.GetJob()+"."+alloc.GetGroup()+" on "+alloc.GetNodeName()+", "+alloc.GetStatus().String())
		}
		return names, err
	})(cmd, args, typed)
}

func (a *app) completeNodes(cmd *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
	return a.complete(func(ctx context.Context, c *client.Client, _ string) ([]string, error) {
		// Nodes go by name as well as by id, and prefix is one of ids.
		r, err := c.Nodes.ListNodes(ctx, &berthv1.ListNodesRequest{PageSize: completeCount, Stale: true})
		var names []string
		for _, n := range r.GetNodes() {
			names = append(names, nodeWord(n.GetName(), n.GetId())+"\t"+n.GetStatus().String())
		}
		return names, err
	})(cmd, args, typed)
}

func (a *app) completeNamespaces(cmd *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
	return a.complete(func(ctx context.Context, c *client.Client, prefix string) ([]string, error) {
		r, err := c.Namespaces.ListNamespaces(ctx, &berthv1.ListNamespacesRequest{Prefix: prefix, PageSize: completeCount, Stale: true})
		var names []string
		for _, n := range r.GetNamespaces() {
			names = append(names, n.GetName()+"\t"+n.GetDescription())
		}
		return names, err
	})(cmd, args, typed)
}

func (a *app) completeEvaluations(cmd *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
	return a.complete(func(ctx context.Context, c *client.Client, prefix string) ([]string, error) {
		r, err := c.Evaluations.ListEvaluations(ctx, &berthv1.ListEvaluationsRequest{Prefix: prefix, PageSize: completeCount, Stale: true})
		var names []string
		for _, e := range r.GetEvaluations() {
			names = append(names, e.GetId()+"\t"+e.GetJob()+", "+e.GetStatus().String())
		}
		return names, err
	})(cmd, args, typed)
}

func (a *app) completePeers(cmd *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
	return a.complete(func(ctx context.Context, c *client.Client, _ string) ([]string, error) {
		r, err := c.Operator.GetRaft(ctx, &berthv1.GetRaftRequest{Stale: true})
		var names []string
		for _, p := range r.GetPeers() {
			names = append(names, or(p.GetName(), p.GetId())+"\t"+p.GetAddress())
		}
		return names, err
	})(cmd, args, typed)
}

func (a *app) completionCommand() *cobra.Command {
	cmd := a.leaf("completion SHELL", "Print a script that lets a shell complete berth's commands",
		"SHELL is bash, zsh or fish. Names of jobs, allocations, nodes and so on are asked of the servers.\n"+
			"  bash: source <(berth completion bash)\n  zsh:  berth completion zsh > \"${fpath[1]}/_berth\"\n  fish: berth completion fish > ~/.config/fish/completions/berth.fish", nil)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		switch root := cmd.Root(); args[0] {
		case "bash":
			return root.GenBashCompletionV2(a.Out, true)
		case "zsh":
			return root.GenZshCompletion(a.Out)
		case "fish":
			return root.GenFishCompletion(a.Out, true)
		}
		return usageError(cmd, "there is no completion for %q; there is for bash, zsh and fish", args[0])
	}
	cmd.ValidArgs = []string{"bash", "zsh", "fish"}
	cmd.ValidArgsFunction = nil
	return cmd
}
