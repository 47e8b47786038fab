package command

import (
	"fmt"
	"io"
	"strings"
	"time"
)

// stage is one line of progress: how many of how many have got so far.
type stage struct {
	label    string
	done, of int
	detail   string
}

// progress shows stages as they advance: in place on a terminal, and as lines that are
// only added to elsewhere, so that a log of it can be read.
type progress struct {
	out   io.Writer
	live  bool // a terminal: lines are drawn again
	width int
	began time.Time

	stages []stage
	// when a stage last changed, since began.
	changed []time.Duration
	drawn   int // lines of the live block on the screen
	said    time.Duration
}

func (a *app) newProgress() *progress {
	return &progress{out: a.Out, live: a.term.out, width: a.term.width, began: time.Now(), said: -time.Hour}
}

// update shows where the stages are now.
func (p *progress) update(stages []stage) {
	now := time.Since(p.began)
	changed := make([]time.Duration, len(stages))
	var news []stage
	for i, s := range stages {
		changed[i] = now
		if i < len(p.stages) && p.stages[i] == s {
			changed[i] = p.changed[i]
			continue
		}
		news = append(news, s)
	}
	p.stages, p.changed = stages, changed
	if p.live {
		p.draw()
		return
	}
	// Elsewhere: what is complete at once, what is under way every few seconds.
	for _, s := range news {
		if s.done < s.of && now-p.said < 3*time.Second {
			continue
		}
		if s.done == 0 && s.of > 0 {
			continue
		}
		p.said = now
		fmt.Fprintln(p.out, p.line(s, now))
	}
}

// draw puts the live block on the screen, over the one that is there.
func (p *progress) draw() {
	var b strings.Builder
	p.erase(&b)
	for i, s := range p.stages {
		at := p.changed[i]
		if s.done < s.of {
			at = time.Since(p.began) // still counting
		}
		b.WriteString(cut(p.line(s, at), p.width) + "\n")
	}
	p.drawn = len(p.stages)
	_, _ = io.WriteString(p.out, b.String())
}

func (p *progress) erase(b *strings.Builder) {
	if p.drawn > 0 {
		fmt.Fprintf(b, "\x1b[%dA\x1b[J", p.drawn)
		p.drawn = 0
	}
}

// say prints a line of its own above the stages.
func (p *progress) say(format string, args ...any) {
	var b strings.Builder
	p.erase(&b)
	fmt.Fprintf(&b, format+"\n", args...)
	_, _ = io.WriteString(p.out, b.String())
	if p.live {
		p.draw()
	}
}

func (p *progress) line(s stage, at time.Duration) string {
	const details = 30 // characters that times are lined up behind
	return strings.TrimRight(fmt.Sprintf("  %-8s %5s   %-*s  %s", s.label, fmt.Sprintf("%d/%d", s.done, s.of), details, cut(s.detail, p.room()), seconds(at)), " ")
}

// room is how long a stage's detail may be.
func (p *progress) room() int {
	if p.width == 0 {
		return 200
	}
	return max(30, p.width-32)
}
