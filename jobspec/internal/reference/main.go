// Command reference writes docs/job-spec.md: the reference of the job spec, from the
// schema that the parser goes by and the comments of the .proto files. Run it by
// "go generate ./jobspec"; a test holds that the page is up to date.
package main

import (
	"context"
	_ "embed"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/bufbuild/protocompile"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/berthd/berth/jobspec"
	"github.com/berthd/berth/jobspec/internal/schema"
	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

//go:embed head.md
var head string

//go:embed language.md
var language string

// page is where the reference stands in the repository.
const page = "docs/job-spec.md"

func main() {
	root, err := repository()
	if err == nil {
		var text string
		if text, err = generate(root); err == nil {
			err = os.WriteFile(filepath.Join(root, page), []byte(text), 0o644)
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "reference:", err)
		os.Exit(1)
	}
}

// repository finds the folder that holds go.mod, from here upwards.
func repository() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir, nil
		}
		if filepath.Dir(dir) == dir {
			return "", fmt.Errorf("no go.mod above the working directory")
		}
		dir = filepath.Dir(dir)
	}
}

// configs are the drivers whose config is in the schema.
var configs = []struct {
	driver string
	config protoreflect.ProtoMessage
}{
	{"exec", &berthv1.ExecConfig{}},
	{"mock", &berthv1.MockConfig{}},
	{"qemu", &berthv1.QemuConfig{}},
}

// generate makes the page.
func generate(root string) (string, error) {
	comments, err := readComments(root)
	if err != nil {
		return "", err
	}
	w := &writer{comments: comments, places: map[protoreflect.FullName][]string{}}
	job := (&berthv1.Job{}).ProtoReflect().Descriptor()
	w.collect("job", job)
	fmt.Fprintf(w, "%s```hcl\n%s```\n\n", head, jobspec.Example(""))
	w.WriteString("## Blocks\n\n```\njob \"name\"\n")
	w.tree(job, "  ")
	w.WriteString("```\n\n")
	for _, s := range w.sections {
		w.section(s)
	}
	for _, c := range configs {
		w.sections = nil
		w.collect("config of driver "+c.driver, c.config.ProtoReflect().Descriptor())
		for _, s := range w.sections {
			w.section(s)
		}
	}
	names := jobspec.Functions()
	for i, name := range names {
		names[i] = "`" + name + "`"
	}
	limits := fmt.Sprintf("| | |\n|---|---|\n| text of a spec, or of a file that it reads | %d MiB |\n"+
		"| nesting of braces, brackets and templates | %d |\n| operators, lists and templates in an HCL spec | %d |\n"+
		"| values that its expressions make | %d MiB |\n| values in a spec, YAML aliases followed | %d |\n"+
		"| blocks of one kind in another | %d |\n| entries of a map, locals, variables | %d |\n| tasks in all groups | %d |\n| a string | %d KiB |\n| the job | %d MiB |\n",
		jobspec.MaxSource>>20, jobspec.MaxDepth, jobspec.MaxOperators, jobspec.MaxWork>>20, jobspec.MaxNodes,
		jobspec.MaxElements, jobspec.MaxEntries, jobspec.MaxTasks, jobspec.MaxText>>10, jobspec.MaxJob>>20)
	text := strings.NewReplacer("FUNCTIONS", strings.Join(names, ", "), "LIMITS", limits).Replace(language)
	fmt.Fprintf(w, "%s\n## All of it\n\n```hcl\n%s```\n", text, jobspec.Example("full"))
	return w.String(), nil
}

// readComments gives what stands above each name in the .proto files.
func readComments(root string) (map[protoreflect.FullName]string, error) {
	compiler := protocompile.Compiler{
		Resolver:       protocompile.WithStandardImports(&protocompile.SourceResolver{ImportPaths: []string{filepath.Join(root, "proto")}}),
		SourceInfoMode: protocompile.SourceInfoStandard,
	}
	out := map[protoreflect.FullName]string{}
	files := []string{"berth/v1/job.proto", "berth/v1/resources.proto", "berth/v1/constraint.proto", "berth/v1/driver.proto"}
	compiled, err := compiler.Compile(context.Background(), files...)
	if err != nil {
		return nil, fmt.Errorf("reading the schema: %w", err)
	}
	for _, f := range compiled {
		keep := func(d protoreflect.Descriptor) {
			text := f.SourceLocations().ByDescriptor(d).LeadingComments
			out[d.FullName()] = strings.Join(strings.Fields(text), " ")
		}
		for i := range f.Messages().Len() {
			m := f.Messages().Get(i)
			keep(m)
			for j := range m.Fields().Len() {
				keep(m.Fields().Get(j))
			}
			for j := range m.Enums().Len() {
				values := m.Enums().Get(j).Values()
				for k := range values.Len() {
					keep(values.Get(k))
				}
			}
		}
	}
	return out, nil
}

// section is a block of the spec.
type section struct {
	name string
	m    *schema.Message
}

type writer struct {
	strings.Builder
	comments map[protoreflect.FullName]string
	sections []section
	// places says in which blocks each block may stand.
	places map[protoreflect.FullName][]string
}

// collect gathers the blocks under a message, each once, outer ones first.
func (w *writer) collect(name string, md protoreflect.MessageDescriptor) {
	queue := []section{{name, schema.Of(md)}}
	for len(queue) > 0 {
		s := queue[0]
		queue = queue[1:]
		w.sections = append(w.sections, s)
		for _, f := range s.m.Fields {
			if f.Kind != schema.Block {
				continue
			}
			seen := len(w.places[f.Desc.Message().FullName()]) > 0
			w.places[f.Desc.Message().FullName()] = append(w.places[f.Desc.Message().FullName()], s.name)
			if !seen {
				queue = append(queue, section{f.Name, f.Message()})
			}
		}
	}
}

// tree draws the blocks as they nest.
func (w *writer) tree(md protoreflect.MessageDescriptor, indent string) {
	for _, f := range schema.Of(md).Fields {
		switch f.Kind {
		case schema.Block:
			label, many := "", ""
			if l := f.Message().Label; l != nil {
				label = fmt.Sprintf(" %q", l.Name)
			}
			if f.List {
				many = " ..."
			}
			fmt.Fprintf(w, "%s%s%s%s\n", indent, f.Name, label, many)
			w.tree(f.Desc.Message(), indent+"  ")
		case schema.Map, schema.Free:
			fmt.Fprintf(w, "%s%s\n", indent, f.Name)
		}
	}
}

func (w *writer) section(s section) {
	title := "`" + s.name + "`"
	if s.m.Label != nil {
		title = fmt.Sprintf("`%s %q`", s.name, s.m.Label.Name)
	}
	fmt.Fprintf(w, "### %s\n\n", title)
	if in := w.places[s.m.Desc.FullName()]; len(in) > 0 {
		fmt.Fprintf(w, "In `%s`. ", strings.Join(in, "`, `"))
	}
	fmt.Fprintf(w, "%s\n\n", w.about(s.m.Desc))
	w.WriteString("| name | type | default | |\n|---|---|---|---|\n")
	var enums []*schema.Field
	for _, f := range s.m.Fields {
		if f.Kind == schema.Internal {
			continue
		}
		name := "`" + f.Name + "`"
		if f == s.m.Label {
			name += " (label)"
		}
		fmt.Fprintf(w, "| %s | %s | %s | %s |\n", name, cell(w.typ(f)), cell(defaultOf(f, s.m)), cell(w.describe(f)))
		if f.Desc.Enum() != nil {
			enums = append(enums, f)
		}
	}
	w.WriteByte('\n')
	for _, f := range enums {
		for i := range f.Desc.Enum().Values().Len() {
			v := f.Desc.Enum().Values().Get(i)
			fmt.Fprintf(w, "- `%s = %q`: %s\n", f.Name, v.Name(), w.comments[f.Desc.Enum().Parent().FullName().Append(v.Name())])
		}
		w.WriteByte('\n')
	}
}

// about is the comment of a message without the name that Go asks for.
func (w *writer) about(md protoreflect.MessageDescriptor) string {
	text := w.comments[md.FullName()]
	for _, is := range []string{" is ", " says ", " puts ", " bounds ", " are "} {
		prefix := string(md.Name()) + is
		if rest, ok := strings.CutPrefix(text, prefix); ok {
			if is == " is " || is == " are " {
				return strings.ToUpper(rest[:1]) + rest[1:]
			}
			return strings.ToUpper(is[1:2]) + is[2:] + rest
		}
	}
	return text
}

// typ is the type of a field in words.
func (w *writer) typ(f *schema.Field) string {
	list := ""
	if f.List {
		list = "list of "
	}
	switch f.Kind {
	case schema.Block:
		if f.List {
			return "blocks"
		}
		return "block"
	case schema.Map:
		return "map of strings"
	case schema.Free:
		return "block"
	}
	switch f.Options.GetUnit() {
	case berthv1.Unit_UNIT_MIB, berthv1.Unit_UNIT_KIB:
		return list + "size"
	case berthv1.Unit_UNIT_MILLI:
		return list + "cores"
	}
	switch f.Desc.Kind() {
	case protoreflect.BoolKind:
		return list + "bool"
	case protoreflect.MessageKind:
		return list + "duration"
	case protoreflect.StringKind, protoreflect.EnumKind:
		return list + "string"
	}
	return list + "number"
}

func defaultOf(f *schema.Field, m *schema.Message) string {
	switch {
	case f.Options.GetDefault() != "":
		value, remark, found := strings.Cut(f.Options.GetDefault(), " (")
		if found {
			return "`" + value + "` (" + remark
		}
		return "`" + value + "`"
	case f.Options.GetRequired():
		return "required"
	}
	return ""
}

// describe is a field's comment, and what its options add to it.
func (w *writer) describe(f *schema.Field) string {
	text := w.comments[f.Desc.FullName()]
	if f.Kind == schema.Block && text == "" {
		text = w.about(f.Desc.Message())
	}
	if values := f.Values(); len(values) > 0 && f.Desc.Enum() == nil {
		text = strings.TrimSpace(text + " One of `" + strings.Join(values, "`, `") + "`.")
	}
	low, high := f.Options.GetMin(), f.Options.GetMax()
	switch between := fmt.Sprintf("%s to %s", f.Bound(low), f.Bound(high)); {
	case low != 0 && high != 0 && !strings.Contains(text, between):
		text += " From " + between + "."
	case low == 0 && high != 0:
		text += " At most " + f.Bound(high) + "."
	}
	if own := string(f.Desc.Name()); own != f.Name {
		text += fmt.Sprintf(" In the API: `%s`.", own)
	}
	return variable.ReplaceAllString(strings.TrimSpace(text), "`$0`")
}

// variable is a variable's name with a part in angle brackets, which Markdown would take
// for HTML.
var variable = regexp.MustCompile(`BERTH_\w*<\w+>`)

func cell(s string) string { return strings.ReplaceAll(s, "|", `\|`) }
