package command

import "github.com/spf13/cobra"

func (a *app) simCommands() *cobra.Command {
	return a.group("sim", "Try the scheduler out: measure it, replay traces, ask what would be",
		"These commands place with the servers' own code, in this process. None of them changes anything.",
		a.simBench(), a.simReplay(), a.simWhatif())
}
