// Package jobspec is the language of job specs: it makes a berthv1.Job of text in HCL,
// JSON or YAML, and text of a Job; it checks jobs, fills in what they leave out, and
// tells two of them apart. The command line, the servers and nobody else call it.
//
// The schema is the proto message Job and its (berth.v1.spec) options; there is no
// second one here. Three readers make a small positioned tree of their text (package
// tree), one walker makes the message of it, and what is wrong is said with the place:
// all of it, not the first thing. What a field may hold beyond its type is checked on
// the message, by Validate, because jobs come through the API as well.
//
// Specs come from strangers: everything here is bounded (limits.go), reads no file
// unless it is told to, and does not panic.
package jobspec

//go:generate go run ./internal/reference

import (
	"bytes"
	"fmt"
	"path/filepath"
	"strings"
	"unicode/utf8"

	"github.com/berthd/berth/jobspec/internal/schema"
	"github.com/berthd/berth/jobspec/internal/tree"
	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

// Syntax is what a spec is written in.
type Syntax string

// The syntaxes. Auto goes by the file's name, then by the text.
const (
	Auto Syntax = ""
	HCL  Syntax = "hcl"
	JSON Syntax = "json"
	YAML Syntax = "yaml"
)

// File is a file of values for variables, HCL or (by its name) JSON.
type File struct {
	Name string
	Data []byte
}

// Options say how a spec is read. The zero value is right for a server.
type Options struct {
	// Filename is for errors and for Auto.
	Filename string
	Format   Syntax
	// Variables are values given one by one (-var); each must be declared. They go over
	// VarFiles, the later over the earlier, and those over EnvVariables, of which what is
	// not declared is passed over.
	Variables    map[string]string
	VarFiles     []File
	EnvVariables map[string]string
	// Dir is where relative names in file() and its like begin. Empty: these functions
	// are refused.
	Dir string
}

// bom begins a text that some editors have saved.
var bom = []byte("\ufeff")

// Parse makes a job of a spec, with nothing filled in that the spec leaves out. The
// error is *Errors, which is a problem of kind Invalid.
func Parse(src []byte, opts Options) (*berthv1.Job, error) {
	if opts.Filename == "" {
		opts.Filename = "job"
	}
	src = bytes.TrimPrefix(src, bom)
	found := &findings{}
	if len(src) > MaxSource {
		found.add(tree.Pos{}, "", "", "the spec is larger than %d MiB", MaxSource>>20)
		return nil, found.err(opts.Filename, nil)
	}
	if at := invalidUTF8(src); at >= 0 {
		r := &jsonReader{src: src, lines: lineStarts(src)}
		found.add(r.pos(at), "", "", "the spec is not UTF-8 text")
		return nil, found.err(opts.Filename, src)
	}
	syntax := opts.Format
	if syntax == Auto {
		syntax = guess(opts.Filename, src)
	}
	d := newDecoder(syntax == HCL)
	d.found = found
	job := &berthv1.Job{}
	if member := read(syntax, src, &opts, found); member != nil {
		d.job(job, member)
	}
	d.check(job)
	if err := found.err(opts.Filename, src); err != nil {
		return nil, err
	}
	return job, nil
}

// read makes a tree of the text: the job as a member with its label.
func read(syntax Syntax, src []byte, opts *Options, found *findings) *tree.Member {
	if syntax != HCL && len(opts.Variables)+len(opts.VarFiles) > 0 {
		found.add(tree.Pos{}, "", "write the spec in HCL", "a spec in %s has no variables", strings.ToUpper(string(syntax)))
		return nil
	}
	var root *tree.Node
	switch syntax {
	case HCL:
		return readHCL(src, opts, found)
	case JSON:
		root = readJSON(src, found)
	case YAML:
		root = readYAML(src, found)
	default:
		found.add(tree.Pos{}, "", `known are "hcl", "json" and "yaml"`, "unknown format %q", string(syntax))
	}
	if root == nil {
		return nil
	}
	return unwrap(root, found)
}

// unwrap finds the job in a JSON or YAML document: the object itself, {"job": it}, or
// {"job": {"name": it}}.
func unwrap(root *tree.Node, found *findings) *tree.Member {
	job := &tree.Member{Name: "job", Pos: root.Pos, Value: root}
	if root.Kind == tree.Object && len(root.Members) == 1 && root.Members[0].Name == "job" {
		job = root.Members[0]
		inner := job.Value
		if inner.Kind == tree.Object && len(inner.Members) == 1 && inner.Members[0].Value.Kind == tree.Object &&
			schema.Of((&berthv1.Job{}).ProtoReflect().Descriptor()).Lookup(inner.Members[0].Name) == nil {
			m := inner.Members[0]
			job = &tree.Member{Name: "job", Pos: m.Pos, Labels: []tree.Label{{Text: m.Name, Pos: m.Pos}}, Value: m.Value}
		}
	}
	if job.Value.Kind != tree.Object {
		found.add(job.Value.Pos, "", `begin with {"name": "...", "group": {...}}`, "a job is an object, not %s", job.Value.Kind)
		return nil
	}
	return job
}

// job decodes the job itself.
func (d *decoder) job(job *berthv1.Job, m *tree.Member) {
	d.places[""] = m.Pos
	where := "job"
	switch {
	case len(m.Labels) == 1:
		job.Name = m.Labels[0].Text
		d.places["name"] = m.Labels[0].Pos
		where = fmt.Sprintf("job %q", job.Name)
	case len(m.Labels) > 1:
		d.fail(m.Labels[1].Pos, "name", "", "job takes one label")
	case m.Block && m.Value.Get("name") == nil: // inside it may depend on variables, as no label can
		d.fail(m.Pos, "name", `write job "name" { ... }`, "job needs a label: its name")
	}
	if inside := m.Value.Get("name"); len(m.Labels) == 1 && inside != nil && !m.Value.Body && inside.Value.Text != job.Name {
		d.fail(inside.Pos, "name", "leave one of them out", "the job is %q by its key and %q inside", job.Name, inside.Value.Text)
		return
	}
	d.message(job.ProtoReflect(), m.Value, "", where)
}

// check runs the checks of Validate and puts each problem where the field was written.
func (d *decoder) check(job *berthv1.Job) {
	if len(d.places) == 0 {
		return // there was no job
	}
	for _, p := range Validate(job) {
		if d.complained(p.Field) {
			continue
		}
		d.found.add(d.places.find(p.Field), p.Field, p.Remedy, "%s", p.Reason)
	}
}

// complained says whether the path or anything around it is known to be wrong.
func (d *decoder) complained(path string) bool {
	for ; path != ""; path = parent(path) {
		if d.bad[path] {
			return true
		}
	}
	return false
}

// guess finds the syntax by the file's name, then by how the text begins.
func guess(name string, src []byte) Syntax {
	switch strings.ToLower(filepath.Ext(name)) {
	case ".json":
		return JSON
	case ".yaml", ".yml":
		return YAML
	case ".hcl", ".berth", ".tf":
		return HCL
	}
	text := bytes.TrimSpace(src)
	switch {
	case bytes.HasPrefix(text, []byte("{")):
		return JSON
	case yamlLine.Match(text):
		return YAML
	}
	return HCL
}

func invalidUTF8(src []byte) int {
	for i := 0; i < len(src); {
		r, size := utf8.DecodeRune(src[i:])
		if r == utf8.RuneError && size == 1 {
			return i
		}
		i += size
	}
	return -1
}
