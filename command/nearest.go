package command

import (
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/berthd/berth/command/near"
)

func nearestFlag(cmd *cobra.Command, typed string) string {
	var names []string
	visit := func(f *pflag.Flag) { names = append(names, f.Name) }
	cmd.Flags().VisitAll(visit)
	for c := cmd; c != nil; c = c.Parent() {
		c.PersistentFlags().VisitAll(visit)
	}
	return near.Word(typed, names)
}
