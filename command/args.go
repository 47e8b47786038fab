package command

import (
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// annotationStopAfter is the number of positional arguments of a command after which the
// next one begins what belongs to somebody else: `alloc exec ID command -its -own -flags`.
// normalize puts a "--" there.
const annotationStopAfter = "stop-after"

// normalize lets long flags be written with one dash, as in -json: pflag would read that
// as the one-letter flags j, s, o and n. Only words that are a long flag of the command
// that the line names are changed, so -it and -n20 stay what they are; values of flags,
// and everything after "--", are left alone.
func normalize(root *cobra.Command, args []string) []string {
	out := make([]string, len(args))
	copy(out, args)
	cmd, positionals := root, 0
	for i := 0; i < len(out); i++ {
		arg := out[i]
		switch {
		case arg == "--":
			return out
		case len(arg) < 2 || arg[0] != '-':
			if sub := child(cmd, arg); sub != nil && positionals == 0 {
				cmd = sub
				continue
			}
			if cmd.Annotations[annotationStopAfter] == strconv.Itoa(positionals) {
				return slices.Insert(out, i, "--")
			}
			if i > 0 || !isCompletion(arg) {
				positionals++
			}
		default:
			if long, ok := longForm(cmd, arg); ok {
				out[i] = long
			}
			if wantsValue(cmd, out[i]) {
				i++
			}
		}
	}
	return out
}

// isCompletion says that the line is a shell's question what may follow.
func isCompletion(arg string) bool {
	return arg == cobra.ShellCompRequestCmd || arg == cobra.ShellCompNoDescRequestCmd
}

func child(cmd *cobra.Command, name string) *cobra.Command {
	for _, c := range cmd.Commands() {
		if c.Name() == name || c.HasAlias(name) {
			return c
		}
	}
	return nil
}

// longForm is arg with the dashes that pflag wants: two for a long flag of cmd that was
// written with one, one for a letter that was written with two.
func longForm(cmd *cobra.Command, arg string) (string, bool) {
	if letter, long := strings.CutPrefix(arg, "--"); long {
		name, _, _ := strings.Cut(letter, "=")
		return arg[1:], len(name) == 1 && lookupLetter(cmd, name) != nil
	}
	if len(arg) < 3 {
		return "", false
	}
	name, _, _ := strings.Cut(arg[1:], "=")
	if len(name) < 2 || (lookup(cmd, name) == nil && name != "help") {
		return "", false
	}
	return "-" + arg, true
}

// wantsValue says whether the argument after this flag is its value.
func wantsValue(cmd *cobra.Command, arg string) bool {
	if strings.Contains(arg, "=") {
		return false
	}
	if name, long := strings.CutPrefix(arg, "--"); long {
		f := lookup(cmd, name)
		return f != nil && f.NoOptDefVal == ""
	}
	// One-letter flags: the first that takes a value takes the rest of the word, or the
	// next one when there is no rest.
	letters := arg[1:]
	for i := range len(letters) {
		f := lookupLetter(cmd, letters[i:i+1])
		if f == nil {
			return false
		}
		if f.NoOptDefVal == "" {
			return i == len(letters)-1
		}
	}
	return false
}

func lookup(cmd *cobra.Command, name string) *pflag.Flag {
	if f := cmd.Flags().Lookup(name); f != nil {
		return f
	}
	for c := cmd; c != nil; c = c.Parent() {
		if f := c.PersistentFlags().Lookup(name); f != nil {
			return f
		}
	}
	return nil
}

func lookupLetter(cmd *cobra.Command, letter string) *pflag.Flag {
	if letter[0] >= 0x80 {
		return nil
	}
	if f := cmd.Flags().ShorthandLookup(letter); f != nil {
		return f
	}
	for c := cmd; c != nil; c = c.Parent() {
		if f := c.PersistentFlags().ShorthandLookup(letter); f != nil {
			return f
		}
	}
	return nil
}
