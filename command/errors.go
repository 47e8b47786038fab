package command

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/berthd/berth/jobspec"
	"github.com/berthd/berth/problem"
)

// printError writes an error as one plain paragraph: where, what, why, what to do. When
// several things are wrong, each gets its own, and the sum comes last.
func (a *app) printError(err error) {
	last := ""
	if errors.As(err, new(specError)) {
		last = " Nothing was submitted."
	}
	var found *jobspec.Errors
	if errors.As(err, &found) {
		// Each comes with its line and a mark under what was wrong.
		fmt.Fprintf(a.Err, "%s\n%s.%s\n", found.Error(), count(len(found.Diagnostics)+found.More, "error"), last)
		return
	}
	p := problem.From(err)
	if len(p.Causes) == 0 {
		fmt.Fprintln(a.Err, a.paragraph("Error: ", p)+last)
		return
	}
	causes := flatten(p.Causes)
	for _, cause := range causes {
		fmt.Fprintln(a.Err, a.paragraph("", cause))
	}
	sum := &problem.Error{Reason: or(p.Reason, count(len(causes), "error")), Remedy: p.Remedy}
	fmt.Fprintln(a.Err, a.paragraph("Error: ", sum)+last)
}

func (a *app) paragraph(prefix string, p *problem.Error) string {
	var b strings.Builder
	b.WriteString(prefix)
	if p.Field != "" {
		b.WriteString(p.Field + ": ")
	}
	b.WriteString(p.Reason)
	if p.Remedy != "" {
		b.WriteString(fullStop(p.Reason) + " " + sentence(p.Remedy))
	}
	text := oneLine(strings.TrimRight(b.String(), ". "))
	width := 0
	if a.term.err {
		width = a.term.width
	}
	return wrap(text+fullStop(text), width, "")
}

// fullStop is what ends a sentence that has no end yet.
func fullStop(text string) string {
	if strings.HasSuffix(text, "?") || strings.HasSuffix(text, "!") || strings.HasSuffix(text, ".") {
		return ""
	}
	return "."
}

// flatten is the leaves of a tree of problems.
func flatten(causes []*problem.Error) []*problem.Error {
	var leaves []*problem.Error
	for _, c := range causes {
		if len(c.Causes) == 0 {
			leaves = append(leaves, c)
			continue
		}
		leaves = append(leaves, flatten(c.Causes)...)
	}
	return leaves
}

// sentence gives text a capital letter, unless it begins with a command or a quote.
func sentence(text string) string {
	if text == "" || text[0] < 'a' || text[0] > 'z' || strings.HasPrefix(text, "berth ") {
		return text
	}
	return strings.ToUpper(text[:1]) + text[1:]
}

// usageError says that the call was wrong, and how a right one looks.
func usageError(cmd *cobra.Command, format string, args ...any) error {
	e := problem.New(problem.Invalid, cmd.CommandPath(), format, args...).
		WithRemedy("usage: %s; `%s -help` tells more", useLine(cmd), cmd.CommandPath())
	return &exitStatus{code: exitUsage, err: e}
}

// flagError puts pflag's words into ours: flags have one dash here, and a near miss is
// named.
func flagError(cmd *cobra.Command, err error) error {
	text := err.Error()
	name := ""
	if rest, ok := strings.CutPrefix(text, "unknown flag: --"); ok {
		name = rest
	} else if _, rest, ok := strings.Cut(text, "unknown shorthand flag: "); ok {
		_, rest, _ = strings.Cut(rest, " in -")
		name = rest
	}
	if name == "" {
		text = strings.ReplaceAll(text, "--", "-")
		text = strings.TrimSuffix(text, ".")
		return usageError(cmd, "%s", text)
	}
	name, _, _ = strings.Cut(name, "=")
	if near := nearestFlag(cmd, name); near != "" {
		return usageError(cmd, "there is no flag -%s; did you mean -%s?", name, near)
	}
	return usageError(cmd, "there is no flag -%s", name)
}
