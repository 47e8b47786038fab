package jobspec

import (
	"regexp"
	"strings"
	"text/template/parse"

	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

// templateFunctions are all that a template may call, by name.
var templateFunctions = func() map[string]any {
	names := map[string]any{}
	for _, name := range append([]string{ // those of text/template
		"and", "or", "not", "len", "index", "slice", "call", "eq", "ne", "lt", "le", "gt", "ge",
		"html", "js", "print", "printf", "println", "urlquery",
	}, berthv1.TemplateFunctions...) {
		names[name] = true
	}
	return names
}()

// templateText checks the syntax of a template, and that the functions which it calls exist.
// One with a source is seen by the agent only.
func (c *checker) templateText(t *berthv1.Template, path string) {
	left, right := t.GetLeftDelimiter(), t.GetRightDelimiter()
	if _, err := parse.Parse("line", t.GetData(), left, right, templateFunctions); err != nil {
		words := strings.TrimPrefix(err.Error(), "template: line:")
		c.add(path+".data", "docs/artifacts-templates.md has the functions", "the template cannot be read: its line %s", words)
	}
}

// commits are whole ids of commits, which say what is fetched as well as a checksum does.
var commits = regexp.MustCompile(`^[0-9a-f]{40}([0-9a-f]{24})?$`)

// pinned says that always the same is fetched, or nothing.
func pinned(a *berthv1.Artifact) bool {
	return a.GetChecksum() != "" || strings.HasPrefix(a.GetSource(), "git::") && commits.MatchString(a.GetOptions()["ref"])
}
