package jobspec

import (
	"bytes"
	"encoding/json"
	"fmt"
	"regexp"
	"strings"

	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/hashicorp/hcl/v2/hclwrite"
	"github.com/zclconf/go-cty/cty"

	"github.com/berthd/berth/jobspec/internal/tree"
	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

// Marshal is the text of a job as a spec, without what the servers set: Parse of it
// gives the job again.
func Marshal(job *berthv1.Job, syntax Syntax) ([]byte, error) {
	switch syntax {
	case HCL, Auto:
		w := &hclWriter{}
		w.member(&tree.Member{
			Name: "job", Block: true, Labels: []tree.Label{{Text: job.GetName()}}, Value: encode(job.ProtoReflect(), true),
		})
		return hclwrite.Format(w.Bytes()), nil
	case JSON:
		var b, out bytes.Buffer
		writeJSON(&b, encode(job.ProtoReflect(), false))
		if err := json.Indent(&out, b.Bytes(), "", "  "); err != nil {
			return nil, fmt.Errorf("writing the job as JSON: %w", err)
		}
		return append(out.Bytes(), '\n'), nil
	case YAML:
		var b bytes.Buffer
		writeYAML(&b, encode(job.ProtoReflect(), false), 0)
		return b.Bytes(), nil
	}
	return nil, fmt.Errorf("unknown format %q", syntax)
}

// hclWriter prints a tree as HCL; hclwrite.Format sets it straight afterwards.
type hclWriter struct{ bytes.Buffer }

func (w *hclWriter) member(m *tree.Member) {
	if !m.Block || !m.Value.Body && !identifiers(m.Value) {
		fmt.Fprintf(w, "%s = ", m.Name)
		w.value(m.Value, true)
		w.WriteByte('\n')
		return
	}
	w.WriteString(m.Name)
	for _, label := range m.Labels {
		w.WriteByte(' ')
		w.quoted(label.Text)
	}
	w.WriteString(" {\n")
	for _, inner := range m.Value.Members {
		w.member(inner)
	}
	w.WriteString("}\n")
}

// identifiers says whether the keys can be names of attributes.
func identifiers(n *tree.Node) bool {
	for _, m := range n.Members {
		// The library takes a byte order mark before a name for the file's.
		if !hclsyntax.ValidIdentifier(m.Name) || strings.HasPrefix(m.Name, "\ufeff") {
			return false
		}
	}
	return true
}

func (w *hclWriter) value(n *tree.Node, open bool) {
	switch n.Kind {
	case tree.String:
		w.quoted(n.Text)
	case tree.List:
		w.WriteByte('[')
		for i, item := range n.Items {
			if i > 0 {
				w.WriteString(", ")
			}
			w.value(item, false)
		}
		w.WriteByte(']')
	case tree.Object:
		w.object(n, open)
	case tree.Null:
		w.WriteString("null")
	default:
		w.WriteString(n.Text)
	}
}

// object prints an object, on lines of its own where open says so.
func (w *hclWriter) object(n *tree.Node, open bool) {
	open = open && len(n.Members) > 0
	separator, end := ", ", " }"
	if open {
		separator, end = "\n", "\n}"
	}
	w.WriteByte('{')
	for i, m := range n.Members {
		switch {
		case i > 0:
			w.WriteString(separator)
		case open:
			w.WriteByte('\n')
		default:
			w.WriteByte(' ')
		}
		w.Write(hclwrite.TokensForValue(cty.StringVal(m.Name)).Bytes())
		w.WriteString(" = ")
		w.value(m.Value, open)
	}
	w.WriteString(end)
}

// escaped is ${...} of the agent's in an escaped string: it needs no escape.
var escaped = regexp.MustCompile(`\$\$\{((?:node|meta|attr|env|BERTH_\w+)(?:\.[A-Za-z_][\w-]*)*)\}`)

func (w *hclWriter) quoted(s string) {
	text := hclwrite.TokensForValue(cty.StringVal(s)).Bytes()
	if !strings.Contains(s, "$$") {
		text = escaped.ReplaceAll(text, []byte("$${$1}"))
	}
	w.Write(text)
}

func jsonString(s string) []byte {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	_ = enc.Encode(s) // a string can always be encoded
	return bytes.TrimSuffix(b.Bytes(), []byte("\n"))
}

func writeJSON(b *bytes.Buffer, n *tree.Node) {
	switch n.Kind {
	case tree.String:
		b.Write(jsonString(n.Text))
	case tree.List:
		b.WriteByte('[')
		for i, item := range n.Items {
			if i > 0 {
				b.WriteByte(',')
			}
			writeJSON(b, item)
		}
		b.WriteByte(']')
	case tree.Object:
		b.WriteByte('{')
		for i, m := range n.Members {
			if i > 0 {
				b.WriteByte(',')
			}
			b.Write(jsonString(m.Name))
			b.WriteByte(':')
			writeJSON(b, m.Value)
		}
		b.WriteByte('}')
	case tree.Null:
		b.WriteString("null")
	default:
		b.WriteString(n.Text)
	}
}

// writeYAML prints an object in block style, at an indent.
func writeYAML(b *bytes.Buffer, n *tree.Node, indent int) {
	pad := strings.Repeat("  ", indent)
	for _, m := range n.Members {
		b.WriteString(pad)
		b.Write(yamlString(m.Name))
		b.WriteByte(':')
		yamlValue(b, m.Value, indent)
	}
}

// yamlValue prints what follows a key and its colon.
func yamlValue(b *bytes.Buffer, n *tree.Node, indent int) {
	switch {
	case n.Kind == tree.Object && len(n.Members) > 0:
		b.WriteByte('\n')
		writeYAML(b, n, indent+1)
	case n.Kind == tree.List && len(n.Items) > 0:
		b.WriteByte('\n')
		for _, item := range n.Items {
			yamlItem(b, item, indent+1)
		}
	case n.Kind == tree.String && literalYAML.MatchString(n.Text):
		b.WriteString(" |\n")
		for line := range strings.Lines(n.Text) {
			if line != "\n" {
				b.WriteString(strings.Repeat("  ", indent+1))
			}
			b.WriteString(line)
		}
	default:
		b.WriteByte(' ')
		yamlInline(b, n)
		b.WriteByte('\n')
	}
}

// yamlItem prints one of a list: an object begins on the line of its dash.
func yamlItem(b *bytes.Buffer, n *tree.Node, indent int) {
	b.WriteString(strings.Repeat("  ", indent) + "- ")
	if n.Kind == tree.Object && len(n.Members) > 0 {
		var inner bytes.Buffer
		writeYAML(&inner, n, indent+1)
		b.Write(bytes.TrimLeft(inner.Bytes(), " "))
		return
	}
	yamlInline(b, n)
	b.WriteByte('\n')
}

// yamlInline prints a value on one line; what is not a plain word is JSON, which YAML
// contains.
func yamlInline(b *bytes.Buffer, n *tree.Node) {
	if n.Kind == tree.String {
		b.Write(yamlString(n.Text))
		return
	}
	writeJSON(b, n)
}

var (
	wordYAML    = regexp.MustCompile(`^[A-Za-z/][A-Za-z0-9_./-]*$`)
	literalYAML = regexp.MustCompile(`^[!-~](?:[ -~]*[!-~])?\n(?:(?:[ -~]*[!-~])?\n)*(?:[ -~]*[!-~])\n$`)
	notWords    = map[string]bool{"true": true, "false": true, "null": true, "yes": true, "no": true, "on": true, "off": true, "y": true, "n": true}
)

func yamlString(s string) []byte {
	if wordYAML.MatchString(s) && !notWords[strings.ToLower(s)] {
		return []byte(s)
	}
	return jsonString(s)
}

// Format sets an HCL spec straight: one way to indent and align. It keeps comments and
// changes no meaning. JSON and YAML are given back as they are.
func Format(src []byte, filename string) ([]byte, error) {
	src = bytes.TrimPrefix(src, bom)
	if len(src) <= MaxSource && guess(filename, src) != HCL {
		return src, nil
	}
	found := &findings{}
	if len(src) > MaxSource {
		found.add(tree.Pos{}, "", "", "the spec is larger than %d MiB", MaxSource>>20)
	} else {
		parseHCL(src, filename, found)
	}
	if err := found.err(filename, src); err != nil {
		return nil, err
	}
	return hclwrite.Format(src), nil
}
