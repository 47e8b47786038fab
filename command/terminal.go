package command

import (
	"os"

	"golang.org/x/term"
)

// terminal is what is known of where the output goes.
type terminal struct {
	// out and err say whether the streams are terminals; in whether somebody types.
	in, out, err bool
	color        bool
	// width in characters; 0: not a terminal, nothing has to fit.
	width int
}

// newTerminal looks at the streams. Colours need a terminal, and that neither NO_COLOR
// (no-color.org) nor TERM=dumb is set.
func newTerminal(s Streams) terminal {
	t := terminal{in: isTerminal(s.In), out: isTerminal(s.Out), err: isTerminal(s.Err)}
	if f, ok := s.Out.(*os.File); ok && t.out {
		if w, _, err := term.GetSize(int(f.Fd())); err == nil && w > 0 {
			t.width = w
		} else {
			t.width = 80
		}
	}
	t.color = t.out && s.Getenv("NO_COLOR") == "" && s.Getenv("TERM") != "dumb"
	return t
}

func isTerminal(stream any) bool {
	f, ok := stream.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// style is how a word stands out where there are colours.
type style string

const (
	plain  style = ""
	good   style = "\x1b[32m"
	warn   style = "\x1b[33m"
	bad    style = "\x1b[31m"
	strong style = "\x1b[1m"
	faint  style = "\x1b[2m"
)

// paint puts text into a style.
func (a *app) paint(s style, text string) string {
	if s == plain || !a.term.color || a.flags.noColor || text == "" {
		return text
	}
	return string(s) + text + "\x1b[0m"
}

// styleOf is the style of a status word.
func styleOf(status string) style {
	switch status {
	case "running", "ready", "complete", "alive", "healthy", "eligible", "started", "passing", "successful", "placed":
		return good
	case "pending", "blocked", "initializing", "disconnected", "unknown", "canary", "not ready", "ineligible", "suspect", "waiting", "preparing", "paused", "suspended", "not placed":
		return warn
	case "failed", "lost", "down", "unhealthy", "failing", "panicked":
		return bad
	case "dead", "superseded", "left", "stopped", "cancelled":
		return faint
	}
	return plain
}
