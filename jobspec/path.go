package jobspec

import (
	"strconv"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/berthd/berth/jobspec/internal/schema"
	"github.com/berthd/berth/jobspec/internal/tree"
)

// join makes a path of a path and a field's own name: groups[web].count.
func join(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}

// elementKeys names the elements of a list of messages for paths: by their label, and
// by their index where there is none or an element before has the same.
func elementKeys(m *schema.Message, list protoreflect.List) []string {
	keys := make([]string, list.Len())
	seen := make(map[string]bool, list.Len())
	for i := range keys {
		keys[i] = strconv.Itoa(i)
		if label := labelOf(m, list.Get(i).Message()); isKey(label) && !seen[label] {
			seen[label] = true
			keys[i] = label
		}
	}
	return keys
}

// isKey says whether a label can stand in a path.
func isKey(label string) bool { return label != "" && len(label) <= 128 }

// elementKeysOf are the keys of a message's field of that name.
func elementKeysOf(msg proto.Message, field protoreflect.Name) []string {
	m := msg.ProtoReflect()
	fd := m.Descriptor().Fields().ByName(field)
	return elementKeys(schema.Of(fd.Message()), m.Get(fd).List())
}

// labelOf is a message's label as people write it; "" where it has none.
func labelOf(m *schema.Message, msg protoreflect.Message) string {
	if m.Label == nil || !msg.Has(m.Label.Desc) {
		return ""
	}
	return m.Label.Human(msg.Get(m.Label.Desc)).Text
}

// places remembers where each path was written.
type places map[string]tree.Pos

// find gives the place of a path, or of the nearest thing around it.
func (p places) find(path string) tree.Pos {
	for {
		if pos, ok := p[path]; ok {
			return pos
		}
		if path == "" {
			return tree.Pos{}
		}
		path = parent(path)
	}
}

// parent is the path around a path: groups[web].count -> groups[web] -> groups.
func parent(path string) string {
	depth := 0
	for i := len(path) - 1; i >= 0; i-- {
		switch path[i] {
		case ']':
			depth++
		case '[':
			depth--
			if depth == 0 {
				return path[:i]
			}
		case '.':
			if depth == 0 {
				return path[:i]
			}
		}
	}
	return ""
}
