package jobspec

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sort"
	"strings"
	"unicode/utf8"

	"github.com/berthd/berth/jobspec/internal/tree"
)

// jsonReader makes a tree of JSON, token by token so that places are known.
type jsonReader struct {
	dec   *json.Decoder
	src   []byte
	lines []int // offsets at which the lines begin
	nodes int
	// last is the offset that was asked for last, and where it was: lines may be long.
	last   int
	lastAt tree.Pos
}

// readJSON gives the tree; nil: it was complained about.
func readJSON(src []byte, found *findings) *tree.Node {
	r := &jsonReader{dec: json.NewDecoder(bytes.NewReader(src)), src: src, lines: lineStarts(src)}
	r.dec.UseNumber()
	n, err := r.value(0)
	if err == nil {
		if _, more := r.dec.Token(); more != io.EOF {
			err = r.fail(r.next(), "something follows the end of the JSON")
		}
	}
	var bad *jsonError
	if errors.As(err, &bad) {
		found.add(bad.pos, "", "", "%s", bad.text)
		return nil
	}
	if err != nil {
		text := strings.TrimPrefix(err.Error(), "json: ")
		at := int(r.dec.InputOffset())
		var syntax *json.SyntaxError
		switch {
		case errors.As(err, &syntax):
			at = max(0, int(syntax.Offset)-1)
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
			text, at = "the text ends in the middle", len(src)
		}
		found.add(r.pos(at), "", "", "not JSON: %s", text)
		return nil
	}
	return n
}

type jsonError struct {
	pos  tree.Pos
	text string
}

func (e *jsonError) Error() string { return e.text }

func (r *jsonReader) fail(at int, format string, args ...any) error {
	return &jsonError{r.pos(at), fmt.Sprintf(format, args...)}
}

func lineStarts(src []byte) []int {
	starts := []int{0}
	for i, c := range src {
		if c == '\n' {
			starts = append(starts, i+1)
		}
	}
	return starts
}

// pos is the line and column of an offset.
func (r *jsonReader) pos(at int) tree.Pos {
	at = min(at, len(r.src))
	line := sort.SearchInts(r.lines, at+1)
	from, col := r.lines[line-1], 1
	if line == r.lastAt.Line && r.last <= at {
		from, col = r.last, r.lastAt.Col
	}
	r.last, r.lastAt = at, tree.Pos{Line: line, Col: col + utf8.RuneCount(r.src[from:at])}
	return r.lastAt
}

// next is the offset at which the next token begins.
func (r *jsonReader) next() int {
	at := int(r.dec.InputOffset())
	for at < len(r.src) && strings.IndexByte(" \t\r\n,:", r.src[at]) >= 0 {
		at++
	}
	return at
}

func (r *jsonReader) value(depth int) (*tree.Node, error) {
	at := r.next()
	if r.nodes++; r.nodes > MaxNodes {
		return nil, r.fail(at, "more than %d values", MaxNodes)
	}
	if depth > MaxDepth {
		return nil, r.fail(at, "lists and objects nest deeper than %d", MaxDepth)
	}
	token, err := r.dec.Token()
	if err != nil {
		return nil, err
	}
	n := &tree.Node{Pos: r.pos(at), Kind: tree.Null}
	switch t := token.(type) {
	case bool:
		n.Kind, n.Text = tree.Bool, fmt.Sprint(t)
	case json.Number:
		n.Kind, n.Text = tree.Number, t.String()
	case string:
		n.Kind, n.Text = tree.String, t
	case json.Delim:
		if t == '[' {
			return n, r.list(n, depth)
		}
		return n, r.object(n, depth)
	}
	return n, nil
}

func (r *jsonReader) list(n *tree.Node, depth int) error {
	n.Kind = tree.List
	for r.dec.More() {
		item, err := r.value(depth + 1)
		if err != nil {
			return err
		}
		n.Items = append(n.Items, item)
	}
	_, err := r.dec.Token()
	return err
}

func (r *jsonReader) object(n *tree.Node, depth int) error {
	n.Kind = tree.Object
	seen := map[string]bool{}
	for r.dec.More() {
		at := r.next()
		key, err := r.dec.Token()
		if err != nil {
			return err
		}
		name, ok := key.(string)
		if !ok {
			return r.fail(at, "a key wants to be a string")
		}
		if seen[name] {
			return r.fail(at, "the key %q is given twice", name)
		}
		seen[name] = true
		value, err := r.value(depth + 1)
		if err != nil {
			return err
		}
		n.Members = append(n.Members, &tree.Member{Name: name, Pos: r.pos(at), Value: value})
	}
	_, err := r.dec.Token()
	return err
}
