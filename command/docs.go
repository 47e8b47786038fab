package command

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"
)

// reference is the program's description in Markdown, made of its command tree. A test
// holds docs/cli.md against it.
func reference(root *cobra.Command) string {
	var b strings.Builder
	b.WriteString(referenceHead)
	b.WriteString("\n## Flags of every command\n\n")
	writeFlagTable(&b, flagPairs(root.PersistentFlags()))
	writeCommands(&b, root)
	return b.String()
}

const referenceHead = `# The commands of berth

<!-- Made from the command tree by go test ./command -update; do not edit. -->

Flags take one dash or two: ` + "`-json` and `--json`" + ` are the same. They may stand before or
after arguments, except in ` + "`alloc exec`" + `, where everything after the allocation's id and the
flags behind it belongs to the command that is run. ` + "`--`" + ` ends the flags.

## Which cluster

The commands speak gRPC to a server: ` + "`-addr` or `BERTH_ADDR`" + `, host:port, port 7461 unless it
says otherwise, 127.0.0.1:7461 when nothing is said. Several, separated by commas, are tried
in turn. Any server will do: what needs the leader is passed on. A URL is refused: the HTTP
port (7460) serves the REST API to others, not to this program. While the servers elect a
leader, reads are tried again for 5 seconds.

## Output

Tables are cut to the width of the terminal; columns that say least go first. Where
the output is not a terminal, nothing is cut. Colours go away with ` + "`-no-color`, `NO_COLOR`" + `, and where
the output is not a terminal. Ids are shown by their first 8 characters; every command takes
unique prefixes, and ` + "`-long`" + ` shows them whole.

` + "`-json`" + ` prints what the API answers, with its own field names and every default spelled out; a
list is an array, over all its pages. ` + "`-t`" + ` runs a Go template over the same:
` + "`berth node status -t '{{range .}}{{.name}} {{.status}}{{\"\\n\"}}{{end}}'`" + `.

## Exit codes

| code | of | meaning |
| --- | --- | --- |
| 0 | every command | done; for ` + "`job run`" + `: everything is placed and running; for ` + "`job plan`" + `: nothing would change |
| 1 | every command | an error; for ` + "`job run`" + ` also: a task failed |
| 1 | job plan | something would change |
| 2 | job run, job scale | something cannot be placed now; the job waits for a change |
| 64 | every command | the call itself was wrong: an unknown command or flag, an argument too many or too few |
| 130 | job run, job scale, job stop | Ctrl-C ended the watching; the job was not touched |
| 255 | job plan | the plan could not be made |
| any | alloc exec | that of the command; 128+n when signal n ended it |

## Environment

| variable | meaning |
| --- | --- |
| ` + "`BERTH_ADDR`, `BERTH_NAMESPACE`, `BERTH_TOKEN`, `BERTH_CACERT`, `BERTH_CLIENT_CERT`, `BERTH_CLIENT_KEY`, `BERTH_TLS_SERVER_NAME`" + ` | as the flags below, which go over them |
| ` + "`BERTH_VAR_<name>`" + ` | value of a variable of a job spec |
| ` + "`NO_COLOR`" + ` | no colours |
| others | settings of daemons: [config.md](config.md) |
`

func writeCommands(b *strings.Builder, parent *cobra.Command) {
	for _, cmd := range parent.Commands() {
		if !cmd.IsAvailableCommand() {
			continue
		}
		fmt.Fprintf(b, "\n%s %s\n\n%s.\n", strings.Repeat("#", min(1+strings.Count(cmd.CommandPath(), " "), 4)), cmd.CommandPath(), escape(cmd.Short))
		if cmd.Long != "" {
			fmt.Fprintf(b, "\n%s\n", escape(cmd.Long))
		}
		if cmd.Runnable() && (!cmd.HasAvailableSubCommands() || cmd.Annotations[annotationDaemon] != "") {
			fmt.Fprintf(b, "\n```\n%s\n```\n", useLine(cmd))
			if flags := flagPairs(cmd.NonInheritedFlags()); len(flags) > 0 {
				b.WriteByte('\n')
				writeFlagTable(b, flags)
			}
			if cmd.Example != "" {
				fmt.Fprintf(b, "\nExamples:\n\n```\n%s\n```\n", cmd.Example)
			}
		}
		writeCommands(b, cmd)
	}
}

func writeFlagTable(b *strings.Builder, flags []pair) {
	b.WriteString("| flag | meaning |\n| --- | --- |\n")
	for _, f := range flags {
		fmt.Fprintf(b, "| `%s` | %s |\n", f.name, strings.ReplaceAll(f.text, "|", "\\|"))
	}
}

// escape keeps Markdown from seeing tags in <name>.
func escape(text string) string {
	lines := strings.Split(text, "\n")
	for i, l := range lines {
		if strings.HasPrefix(l, "  ") {
			lines[i] = "    " + strings.TrimSpace(l) // an indented block
			if i > 0 && lines[i-1] != "" && !strings.HasPrefix(lines[i-1], "    ") {
				lines[i] = "\n" + lines[i]
			}
			continue
		}
		if i+1 < len(lines) && !strings.HasPrefix(lines[i+1], "  ") {
			lines[i] += "\n"
		}
	}
	return strings.ReplaceAll(strings.Join(lines, "\n"), "<", "\\<")
}
