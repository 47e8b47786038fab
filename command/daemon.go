package command

import (
	"context"

	"github.com/spf13/cobra"
)

// annotationDaemon marks commands that run a daemon; `berth server` has commands below
// it and runs one itself.
const annotationDaemon = "daemon"

func (a *app) serverCommands() *cobra.Command {
	cmd := a.leaf("server", "Run a server, or look after those of the cluster", "", func(context.Context, []string) error { return nil })
	cmd.Annotations = map[string]string{annotationDaemon: "yes"}
	cmd.AddCommand(a.memberCommands()...)
	return cmd
}

func (a *app) agentCommand() *cobra.Command {
	cmd := a.leaf("agent", "Run an agent", "", func(context.Context, []string) error { return nil })
	cmd.Annotations = map[string]string{annotationDaemon: "yes"}
	return cmd
}

func (a *app) configCommands() *cobra.Command {
	return a.group("config", "Check configuration files", "")
}

func (a *app) snapshotInspect() *cobra.Command {
	return a.leaf("inspect FILE", "Show what a snapshot holds", "", func(context.Context, []string) error { return nil })
}
