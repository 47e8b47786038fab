package command

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// help prints what `-help` shows: what the command is for, how it is called, what is
// below it, its flags, and examples.
func (a *app) help(cmd *cobra.Command, _ []string) {
	width := a.term.width
	if width == 0 {
		width = 100
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s.\n\n", cmd.Short)
	if cmd.Long != "" {
		fmt.Fprintf(&b, "%s\n\n", wrapParagraphs(cmd.Long, width))
	}
	fmt.Fprintf(&b, "Usage: %s\n", useLine(cmd))
	if cmd.HasAvailableSubCommands() {
		b.WriteString("\nCommands:\n")
		writePairs(&b, subcommands(cmd), width)
	}
	if own := flagPairs(cmd.NonInheritedFlags()); len(own) > 0 && cmd.HasParent() {
		b.WriteString("\nFlags:\n")
		writePairs(&b, own, width)
	}
	if !cmd.HasParent() {
		b.WriteString("\nFlags of every command:\n")
		writePairs(&b, flagPairs(cmd.PersistentFlags()), width)
	}
	if cmd.Example != "" {
		fmt.Fprintf(&b, "\nExamples:\n%s\n", cmd.Example)
	}
	if cmd.HasParent() {
		b.WriteString("\nFlags that every command takes (which cluster, which namespace): berth -help\n")
	}
	_, _ = io.WriteString(a.Out, b.String())
}

func useLine(cmd *cobra.Command) string {
	name, rest, _ := strings.Cut(cmd.UseLine(), " ")
	path := cmd.CommandPath()
	rest = strings.TrimPrefix(name+" "+rest, path)
	switch {
	case cmd.HasAvailableSubCommands() && !cmd.Runnable():
		return path + " COMMAND"
	case cmd.HasAvailableSubCommands() && cmd.Annotations[annotationDaemon] == "":
		return path + " COMMAND"
	}
	return path + " [flags]" + strings.TrimRight(rest, " ")
}

// pair is a name and what it means.
type pair struct{ name, text string }

func subcommands(cmd *cobra.Command) []pair {
	var pairs []pair
	for _, c := range cmd.Commands() {
		if c.IsAvailableCommand() {
			pairs = append(pairs, pair{c.Name(), c.Short})
		}
	}
	return pairs
}

// flagPairs describes flags the way they are meant to be typed.
func flagPairs(flags *pflag.FlagSet) []pair {
	var pairs []pair
	flags.VisitAll(func(f *pflag.Flag) {
		if f.Hidden || f.Name == "help" {
			return
		}
		value, text := pflag.UnquoteUsage(f)
		name := "-" + f.Name
		if f.Shorthand != "" {
			name = "-" + f.Shorthand + ", " + name
		}
		if f.NoOptDefVal == "" && value != "" {
			name += " " + value
		}
		if hasDefault(f) {
			text += fmt.Sprintf(" (default %s)", f.DefValue)
		}
		if env := environment[f.Name]; env != "" && f.Annotations[annotationNoEnv] == nil {
			text += " [" + env + "]"
		}
		pairs = append(pairs, pair{name, text})
	})
	return pairs
}

// annotationNoEnv marks a flag that has the name of a connection flag and is not one.
const annotationNoEnv = "no-env"

func hasDefault(f *pflag.Flag) bool {
	switch f.DefValue {
	case "", "false", "0", "0s", "[]":
		return false
	}
	return true
}

func writePairs(b *strings.Builder, pairs []pair, width int) {
	const most = 30 // characters of a name that others are lined up with
	left := 0
	for _, p := range pairs {
		if len(p.name) <= most {
			left = max(left, len(p.name))
		}
	}
	indent := strings.Repeat(" ", left+4)
	for _, p := range pairs {
		fmt.Fprintf(b, "  %-*s", left, p.name)
		if len(p.name) > left {
			b.WriteString("\n" + indent[:left+2])
		}
		b.WriteString("  " + strings.ReplaceAll(wrap(p.text, max(width-left-4, 20), "\x00"), "\x00", indent) + "\n")
	}
}

// wrapParagraphs wraps each line of text on its own.
func wrapParagraphs(text string, width int) string {
	lines := strings.Split(text, "\n")
	for i, l := range lines {
		if !strings.HasPrefix(l, "  ") {
			lines[i] = wrap(l, width, "")
		}
	}
	return strings.Join(lines, "\n")
}
