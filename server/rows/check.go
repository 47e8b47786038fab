package rows

import (
	"unicode/utf8"

	"google.golang.org/protobuf/proto"

	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

// validText refuses what no message could carry.
func validText(r *in, all ...string) bool {
	for _, s := range all {
		if !utf8.ValidString(s) {
			r.fail("a name is no valid UTF-8")
			return false
		}
	}
	return true
}

// unmarshal reads an encoded message and gives its bytes.
func unmarshal(r *in, m proto.Message) []byte {
	b := r.bytes()
	if r.err != nil {
		return nil
	}
	if err := proto.Unmarshal(b, m); err != nil {
		r.fail("decoding a part of it: %w", err)
	}
	return b
}

// CheckPlacements says what is wrong with placements.
func CheckPlacements(data []byte) error { return ReadPlacements(data, nobody{}) }

// nobody listens to nothing.
type nobody struct{}

func (nobody) Cohort(Cohort)                            {}
func (nobody) Node(string)                              {}
func (nobody) Grant(*berthv1.Assignment, []byte)        {}
func (nobody) Run(*IDs, int, int, int, uint32, int)     {}
func (nobody) Row(ID, int, int, uint32, *berthv1.Alloc) {}

// ToAllocs gives placements as messages.
func ToAllocs(data []byte) ([]*berthv1.Alloc, error) {
	var l messages
	if err := ReadPlacements(data, &l); err != nil {
		return nil, err
	}
	return l.allocs, nil
}

// messages makes messages of placements.
type messages struct {
	cohort Cohort
	nodes  []string
	grants []*berthv1.Assignment
	allocs []*berthv1.Alloc
}

func (l *messages) Cohort(c Cohort)                       { l.cohort, l.grants = c, nil }
func (l *messages) Node(id string)                        { l.nodes = append(l.nodes, id) }
func (l *messages) Grant(a *berthv1.Assignment, _ []byte) { l.grants = append(l.grants, a) }

func (l *messages) Run(ids *IDs, row, node, grant int, first uint32, count int) {
	for i := range count {
		l.Row(ids.At(row+i), node, grant, first+uint32(i), &berthv1.Alloc{})
	}
}

func (l *messages) Row(id ID, node, grant int, index uint32, a *berthv1.Alloc) {
	c := l.cohort
	a.Id, a.Namespace, a.Job, a.Group, a.EvalId, a.JobVersion = id.String(), c.Namespace, c.Job, c.Group, c.EvalID, c.JobVersion
	a.NodeId, a.Index, a.Assignment = l.nodes[node], index, l.grants[grant]
	l.allocs = append(l.allocs, a)
}
