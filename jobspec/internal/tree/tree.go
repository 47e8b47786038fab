// Package tree is the small positioned tree that every front end of the job spec (HCL,
// JSON, YAML) makes of its text, and that every printer reads. It knows no schema: the
// walker in package jobspec does.
package tree

// Pos is where something was written. Lines and columns count from 1; columns are
// characters. Line 0: not known.
type Pos struct {
	Line, Col int
}

// Kind is what sort of value a node is.
type Kind uint8

// The kinds of nodes. Invalid stands where a value was written that has been complained
// about already.
const (
	Invalid Kind = iota
	Null
	Bool
	Number
	String
	List
	Object
)

// String names the kind as an error message would.
func (k Kind) String() string {
	return [...]string{"nothing", "null", "a bool", "a number", "a string", "a list", "an object"}[k]
}

// Node is a value.
type Node struct {
	Pos  Pos
	Kind Kind
	// Text is "true" or "false", the decimal number, or the string.
	Text string
	// Items are a list's.
	Items []*Node
	// Members are an object's or a block's body, in the order of the source.
	Members []*Member
	// Body says that the object is the body of an HCL block.
	Body bool
}

// Member is an attribute of an object, or a block in a body.
type Member struct {
	Name string
	Pos  Pos
	// Block says that it was written as a block, with these labels.
	Block  bool
	Labels []Label
	Value  *Node
}

// Label is a block's label.
type Label struct {
	Text string
	Pos  Pos
}

// Get finds the first member of that name; nil: there is none.
func (n *Node) Get(name string) *Member {
	for _, m := range n.Members {
		if m.Name == name {
			return m
		}
	}
	return nil
}

// Str makes a string node.
func Str(s string) *Node { return &Node{Kind: String, Text: s} }

// Num makes a number node of decimal text.
func Num(s string) *Node { return &Node{Kind: Number, Text: s} }

// NewBool makes a bool node.
func NewBool(b bool) *Node {
	if b {
		return &Node{Kind: Bool, Text: "true"}
	}
	return &Node{Kind: Bool, Text: "false"}
}

// Add appends an attribute to an object.
func (n *Node) Add(name string, value *Node) {
	n.Members = append(n.Members, &Member{Name: name, Value: value})
}
