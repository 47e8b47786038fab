package jobspec

import (
	"errors"
	"fmt"
	"regexp"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"

	"github.com/berthd/berth/jobspec/internal/tree"
)

// yamlLine matches a text whose first line that says anything is one of YAML: a key and
// a colon, or the beginning of a document.
var yamlLine = regexp.MustCompile(`^(?:\s*#[^\n]*\n|\s*\n)*(?:---|["']?[A-Za-z_][\w.-]*["']?:(?:\s|$))`)

// yamlReader makes a tree of a YAML document. Aliases are copied, and every copy counts
// against MaxNodes.
type yamlReader struct {
	nodes   int
	anchors map[string]ast.Node
	inside  map[string]bool // anchors that are being copied
}

// yamlError is what is wrong, and where.
type yamlError struct {
	pos  tree.Pos
	text string
}

func (e *yamlError) Error() string { return e.text }

// readYAML gives the tree; nil: it was complained about.
func readYAML(src []byte, found *findings) (root *tree.Node) {
	defer func() {
		if p := recover(); p != nil { // the library's parser has been seen to
			found.add(tree.Pos{}, "", "", "the YAML cannot be read")
			root = nil
		}
	}()
	root, err := yamlDocument(string(src))
	if err == nil {
		return root
	}
	var bad *yamlError
	var library interface {
		GetToken() *token.Token
		GetMessage() string
	}
	switch {
	case errors.As(err, &bad):
		found.add(bad.pos, "", "", "%s", bad.text)
	case errors.As(err, &library):
		found.add(tokenPos(library.GetToken()), "", "", "not YAML: %s", library.GetMessage())
	default:
		found.add(tree.Pos{}, "", "", "not YAML: %v", err)
	}
	return nil
}

func yamlDocument(src string) (*tree.Node, error) {
	tokens := lexer.Tokenize(src)
	if err := boundYAML(tokens); err != nil {
		return nil, err
	}
	file, err := parser.Parse(tokens, 0)
	if err != nil {
		return nil, err
	}
	r := &yamlReader{anchors: map[string]ast.Node{}, inside: map[string]bool{}}
	var root *tree.Node
	for _, doc := range file.Docs {
		if doc.Body == nil {
			continue
		}
		if root != nil {
			return nil, &yamlError{tokenPos(doc.Start), "a second document: a file holds one job"}
		}
		if root, err = r.node(doc.Body, 0); err != nil {
			return nil, err
		}
	}
	if root == nil {
		return nil, &yamlError{tree.Pos{}, "there is no job in the file"}
	}
	return root, nil
}

// boundYAML refuses what would take the recursive parser deep, or long.
func boundYAML(tokens token.Tokens) error {
	var columns []int // where the lines begin that the current one is inside of
	flow, inLine, line, documents := 0, 0, 0, 0
	for i, t := range tokens {
		if i > 4*MaxNodes {
			return &yamlError{tokenPos(t), fmt.Sprintf("more than %d values", MaxNodes)}
		}
		if t.Position.Line != line {
			line, inLine = t.Position.Line, 0
			for len(columns) > 0 && columns[len(columns)-1] >= t.Position.Column {
				columns = columns[:len(columns)-1]
			}
			columns = append(columns, t.Position.Column)
		}
		switch t.Type {
		case token.SequenceStartType, token.MappingStartType:
			flow++
		case token.SequenceEndType, token.MappingEndType:
			flow = max(0, flow-1)
		case token.SequenceEntryType, token.MappingKeyType, token.TagType, token.AnchorType:
			inLine++
		case token.MappingValueType:
			if flow == 0 {
				inLine++
			}
		case token.DocumentHeaderType, token.DocumentEndType:
			documents++
		}
		if len(columns)+flow+inLine > MaxDepth+16 {
			return &yamlError{tokenPos(t), fmt.Sprintf("lists and objects nest deeper than %d", MaxDepth)}
		}
		if documents > 4 {
			return &yamlError{tokenPos(t), "a second document: a file holds one job"}
		}
		if (t.Type == token.TagType || t.Type == token.AnchorType) && i > 2 &&
			isProperty(tokens[i-1]) && (isProperty(tokens[i-2]) || isProperty(tokens[i-3])) {
			return &yamlError{tokenPos(t), "too many tags and anchors in a row"}
		}
	}
	return nil
}

func isProperty(t *token.Token) bool { return t.Type == token.TagType || t.Type == token.AnchorType }

func tokenPos(t *token.Token) tree.Pos {
	if t == nil || t.Position == nil {
		return tree.Pos{}
	}
	return tree.Pos{Line: t.Position.Line, Col: t.Position.Column}
}

func (r *yamlReader) node(n ast.Node, depth int) (*tree.Node, error) {
	if n == nil {
		return &tree.Node{Kind: tree.Null}, nil
	}
	pos := tokenPos(n.GetToken())
	fail := func(format string, args ...any) (*tree.Node, error) {
		return nil, &yamlError{pos, fmt.Sprintf(format, args...)}
	}
	if r.nodes++; r.nodes > MaxNodes {
		return fail("more than %d values, aliases followed", MaxNodes)
	}
	if depth > MaxDepth {
		return fail("lists and objects nest deeper than %d", MaxDepth)
	}
	switch n := n.(type) {
	case *ast.NullNode:
		return &tree.Node{Kind: tree.Null, Pos: pos}, nil
	case *ast.BoolNode:
		b := tree.NewBool(n.Value)
		b.Pos = pos
		return b, nil
	case *ast.IntegerNode:
		return r.number(n.Token, pos)
	case *ast.FloatNode:
		return r.number(n.Token, pos)
	case *ast.StringNode:
		if n.Token.Type == token.StringType && plain.MatchString(n.Token.Value) {
			return r.number(n.Token, pos) // the library takes 1e3 for a string
		}
		return &tree.Node{Kind: tree.String, Text: n.Value, Pos: pos}, nil
	case *ast.LiteralNode:
		return &tree.Node{Kind: tree.String, Text: n.Value.Value, Pos: pos}, nil
	case *ast.SequenceNode:
		list := &tree.Node{Kind: tree.List, Pos: pos}
		for _, v := range n.Values {
			item, err := r.node(v, depth+1)
			if err != nil {
				return nil, err
			}
			list.Items = append(list.Items, item)
		}
		return list, nil
	case *ast.MappingNode:
		return r.object(n.Values, pos, depth)
	case *ast.MappingValueNode:
		return r.object([]*ast.MappingValueNode{n}, pos, depth)
	case *ast.AnchorNode:
		r.anchors[n.Name.GetToken().Value] = n.Value
		return r.node(n.Value, depth)
	case *ast.AliasNode:
		return r.alias(n, depth)
	case *ast.TagNode:
		if s, ok := n.Value.(ast.ScalarNode); ok && n.Start.Value == "!!str" && s.GetToken() != nil {
			return &tree.Node{Kind: tree.String, Text: s.GetToken().Value, Pos: pos}, nil
		}
		return fail("the tag %s means nothing in a job spec", n.Start.Value)
	case *ast.InfinityNode, *ast.NanNode:
		return fail("%s is no number for a job spec", n.GetToken().Value)
	}
	return fail("this is not understood in a job spec")
}

// plain is a number that nobody reads as another one.
var plain = regexp.MustCompile(`^-?(0|[1-9]\d*)(\.\d+)?([eE][+-]?\d{1,3})?$`)

func (r *yamlReader) number(t *token.Token, pos tree.Pos) (*tree.Node, error) {
	if !plain.MatchString(t.Value) {
		return nil, &yamlError{pos, fmt.Sprintf("%s may be read as several numbers: write it plainly, or in quotes", t.Value)}
	}
	return &tree.Node{Kind: tree.Number, Text: t.Value, Pos: pos}, nil
}

func (r *yamlReader) alias(n *ast.AliasNode, depth int) (*tree.Node, error) {
	pos := tokenPos(n.GetToken())
	name := n.Value.GetToken().Value
	value, ok := r.anchors[name]
	if !ok {
		return nil, &yamlError{pos, fmt.Sprintf("there is no anchor %q before here", name)}
	}
	if r.inside[name] {
		return nil, &yamlError{pos, fmt.Sprintf("the anchor %q holds itself", name)}
	}
	r.inside[name] = true
	defer delete(r.inside, name)
	copied, err := r.node(value, depth+1)
	if r.nodes > MaxNodes { // the alias is at fault, not what it stands for
		return nil, &yamlError{pos, err.Error()}
	}
	return copied, err
}

func (r *yamlReader) object(values []*ast.MappingValueNode, pos tree.Pos, depth int) (*tree.Node, error) {
	n := &tree.Node{Kind: tree.Object, Pos: pos}
	if len(values) > 0 && values[0].Key != nil {
		n.Pos = tokenPos(values[0].Key.GetToken())
	}
	seen := map[string]bool{}
	var merged []*tree.Member
	for _, v := range values {
		at := tokenPos(v.Key.GetToken())
		if depth >= MaxDepth {
			return nil, &yamlError{at, fmt.Sprintf("lists and objects nest deeper than %d", MaxDepth)}
		}
		value, err := r.node(v.Value, depth+1)
		if err != nil {
			return nil, err
		}
		if value.Pos.Line == 0 {
			value.Pos = at
		}
		if _, ok := v.Key.(*ast.MergeKeyNode); ok {
			if value.Kind != tree.Object {
				return nil, &yamlError{at, "<< takes an object"}
			}
			merged = append(merged, value.Members...)
			continue
		}
		key, err := r.key(v.Key)
		if err != nil {
			return nil, err
		}
		if seen[key] {
			return nil, &yamlError{at, fmt.Sprintf("the key %q is given twice", key)}
		}
		seen[key] = true
		n.Members = append(n.Members, &tree.Member{Name: key, Pos: at, Value: value})
	}
	for _, m := range merged { // what stands here goes over what is merged
		if !seen[m.Name] {
			seen[m.Name] = true
			n.Members = append(n.Members, m)
		}
	}
	return n, nil
}

// key is the text of a key; numbers and bools are taken as they are written.
func (r *yamlReader) key(n ast.Node) (string, error) {
	switch n := n.(type) {
	case *ast.StringNode:
		return n.Value, nil
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode, *ast.NullNode:
		return n.GetToken().Value, nil
	case *ast.MappingKeyNode:
		return r.key(n.Value)
	}
	return "", &yamlError{tokenPos(n.GetToken()), "a key wants to be a string"}
}
