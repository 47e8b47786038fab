// Package template makes files of what an agent knows: the node, the allocation, services
// and variables. The language is Go's text/template.
//
// It is pure: Render is a function of its arguments, runs no command, reads no file and
// opens no connection. It promises to end within bounds whatever the template says: so
// many steps, so much output. What a template read of the cluster is given back, so that
// the caller can follow it and render again.
package template

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"text/template"
	"text/template/parse"
	"time"

	"github.com/berthd/berth/problem"
	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

const (
	// MaxSource bounds a template's text, in bytes.
	MaxSource = 1 << 20
	// maxText bounds what comes of it, and each value on the way, in bytes.
	maxText = 1 << 20
	// maxSteps bounds rounds of loops and calls of other templates.
	maxSteps = 100_000
	// maxTime bounds how long it takes.
	maxTime = 2 * time.Second
)

// Input is what a template can read.
type Input struct {
	// Values are what stands behind the first dot: node, alloc, env.
	Values map[string]any
	// Env is what the function env reads.
	Env map[string]string
	// Namespace is where services and variables are looked up.
	Namespace string
	// Know gives what is known of a topic; nil: nobody has said anything of it yet.
	Know func(*berthv1.Topic) *berthv1.Known
}

// Output is what came of a template.
type Output struct {
	// Text is what is to be written; it has no meaning when something is missing.
	Text []byte
	// Topics are what it read, in the order of their keys.
	Topics []*berthv1.Topic
	// Missing says in words what it wanted that is not there; Unknown, what no server
	// has said anything of yet.
	Missing, Unknown []string
}

// Render renders a template's text with the delimiters of its definition.
func Render(spec *berthv1.Template, text string, in Input) (Output, error) {
	r := &run{in: in, read: map[string]*berthv1.Topic{}, end: time.Now().Add(maxTime)}
	if len(text) > MaxSource {
		return Output{}, problem.New(problem.Invalid, spec.GetDestination(), "the template has more than %d KiB", MaxSource>>10)
	}
	t, err := template.New("template").Delims(spec.GetLeftDelimiter(), spec.GetRightDelimiter()).
		Option("missingkey=error").Funcs(r.functions()).Parse(text)
	if err != nil {
		return Output{}, problem.New(problem.Invalid, spec.GetDestination(), "%s", words(err))
	}
	for _, part := range t.Templates() {
		if part.Tree != nil {
			bound(part.Root)
		}
	}
	var b limited
	err = t.Execute(&b, in.Values)
	out := Output{Text: b.text, Missing: r.missing, Unknown: r.unknown}
	for _, topic := range r.read {
		out.Topics = append(out.Topics, topic)
	}
	slices.SortFunc(out.Topics, func(a, b *berthv1.Topic) int { return strings.Compare(a.Key(), b.Key()) })
	switch {
	case err == nil:
		return out, nil
	case len(out.Missing)+len(out.Unknown) > 0:
		return out, nil // it went on with nothing in place of something
	case r.readsVariable && strings.Contains(err.Error(), "map has no entry for key"):
		out.Missing = append(out.Missing, "a variable's item: "+words(err))
		return out, nil
	}
	return out, problem.New(problem.Invalid, spec.GetDestination(), "%s", words(err))
}

// words makes of an error of text/template what people read: "line 3: ...".
func words(err error) string {
	s := err.Error()
	if limit := (errLimit)(""); errors.As(err, &limit) {
		return string(limit)
	}
	s = strings.TrimPrefix(s, "template: template:")
	s = strings.ReplaceAll(s, "executing \"template\" ", "")
	if len(s) > 300 {
		s = s[:300] + "..."
	}
	return "line " + s
}

// errLimit says which bound a template goes beyond.
type errLimit string

func (e errLimit) Error() string { return string(e) }

// limited takes output up to maxText.
type limited struct{ text []byte }

func (l *limited) Write(b []byte) (int, error) {
	if len(l.text)+len(b) > maxText {
		return 0, errTooLong
	}
	l.text = append(l.text, b...)
	return len(b), nil
}

var errTooLong = errLimit(fmt.Sprintf("what comes of it has more than %d KiB", maxText>>10))

// bound has every round of a loop and every call of a template counted.
func bound(list *parse.ListNode) {
	if list == nil {
		return
	}
	for _, n := range list.Nodes {
		switch n := n.(type) {
		case *parse.RangeNode:
			bound(n.List)
			bound(n.ElseList)
		case *parse.IfNode:
			bound(n.List)
			bound(n.ElseList)
		case *parse.WithNode:
			bound(n.List)
			bound(n.ElseList)
		}
	}
	step := parse.NewIdentifier(stepName).SetPos(list.Position())
	command := &parse.CommandNode{NodeType: parse.NodeCommand, Pos: list.Position(), Args: []parse.Node{step}}
	pipe := &parse.PipeNode{NodeType: parse.NodePipe, Pos: list.Position(), Cmds: []*parse.CommandNode{command}}
	list.Nodes = append([]parse.Node{&parse.ActionNode{NodeType: parse.NodeAction, Pos: list.Position(), Pipe: pipe}}, list.Nodes...)
}
