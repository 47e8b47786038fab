package command

import (
	"context"
	"strings"

	"github.com/spf13/cobra"

	"github.com/berthd/berth/command/near"
)

// run is what a command does with its arguments.
type run func(ctx context.Context, args []string) error

// leaf makes a command that does something. The words of use after the name are its
// arguments: JOB must be there, [JOB] may, and ARG... may be repeated.
func (a *app) leaf(use, short, long string, do run) *cobra.Command {
	return &cobra.Command{
		Use: use, Short: short, Long: long,
		DisableFlagsInUseLine: true,
		Args:                  checkArgs,
		RunE:                  func(cmd *cobra.Command, args []string) error { return do(cmd.Context(), args) },
		ValidArgsFunction:     cobra.NoFileCompletions,
	}
}

// group makes a command that only holds others; called alone it shows them.
func (a *app) group(use, short, long string, commands ...*cobra.Command) *cobra.Command {
	cmd := &cobra.Command{
		Use: use, Short: short, Long: long,
		DisableFlagsInUseLine: true,
		Args:                  cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return cmd.Help()
			}
			return unknownCommand(cmd, args[0])
		},
	}
	cmd.AddCommand(commands...)
	return cmd
}

func unknownCommand(parent *cobra.Command, typed string) error {
	var names []string
	for _, c := range parent.Commands() {
		if !c.Hidden {
			names = append(names, c.Name())
		}
	}
	if meant := near.Word(typed, names); meant != "" {
		return usageError(parent, "there is no command %q; did you mean %q?", typed, meant)
	}
	return usageError(parent, "there is no command %q; there are %s", typed, strings.Join(names, ", "))
}

// checkArgs holds a call against the words of the command's use line.
func checkArgs(cmd *cobra.Command, args []string) error {
	_, rest, _ := strings.Cut(cmd.Use, " ")
	words := strings.Fields(rest)
	most := len(words)
	for i, w := range words {
		if strings.HasSuffix(strings.Trim(w, "[]"), "...") {
			most = max(len(args), i)
		}
		if !strings.HasPrefix(w, "[") && i >= len(args) {
			return usageError(cmd, "%s is missing", strings.TrimSuffix(w, "..."))
		}
	}
	if len(args) > most {
		return usageError(cmd, "%q is one argument too many", args[most])
	}
	return nil
}
