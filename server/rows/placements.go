package rows

import (
	"encoding/binary"
	"math"

	"google.golang.org/protobuf/proto"

	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

// PlacementVersion is the newest format of placements.
const PlacementVersion = 1

// Records of placements. After the version come the 16 bytes of the base of ids.
const (
	// recordCohort: namespace, job, group, evaluation (bytes each), version of the job.
	// Grants are counted anew from here.
	recordCohort = 1
	// recordNode: id (bytes). Nodes are counted through the whole entry.
	recordNode = 2
	// recordGrant: an encoded Assignment (bytes).
	recordGrant = 3
	// recordRun: instances that follow each other on one node with the same grant: the
	// node's number, the first index less the one that would follow the row before
	// (signed), the grant's number, how many.
	recordRun = 4
	// recordRow: as recordRun without the count, for one; then an encoded Alloc with what
	// else there is to say of it (bytes): its predecessor, its reschedules.
	recordRow = 5
)

// Cohort is what the rows that follow it have in common.
type Cohort struct {
	Namespace, Job, Group, EvalID string
	JobVersion                    uint64
}

// PlacementWriter encodes placements.
type PlacementWriter struct {
	buf    []byte
	base   [16]byte
	ids    *IDs
	rows   int
	cohort Cohort
	begun  bool

	nodes    map[string]uint64
	lastNode string
	nodeNum  uint64

	grants  map[string]uint64 // by encoding
	recent  [8]*berthv1.Assignment
	numbers [8]uint64
	scratch []byte

	next uint64 // index that would follow
	run  run    // not written yet
}

type run struct{ node, first, grant, count uint64 }

// NewPlacementWriter begins with a base of ids, which must be random.
func NewPlacementWriter(base ID) *PlacementWriter {
	w := &PlacementWriter{base: base, ids: NewIDs(base), nodes: map[string]uint64{}}
	w.buf = append(append(make([]byte, 0, 1024), PlacementVersion), base[:]...)
	return w
}

// Rows is how many rows were added.
func (w *PlacementWriter) Rows() int { return w.rows }

// Size is about how many bytes it takes by now; the next row adds little beside its
// grant, its node's id and its extra.
func (w *PlacementWriter) Size() int { return len(w.buf) + 5*binary.MaxVarintLen32 }

// Cohort says what the rows that follow have in common.
func (w *PlacementWriter) Cohort(c Cohort) {
	if w.begun && c == w.cohort {
		return
	}
	w.flush()
	w.cohort, w.begun, w.next = c, true, 0
	w.grants, w.recent = nil, [8]*berthv1.Assignment{}
	w.buf = append(w.buf, recordCohort)
	for _, s := range []string{c.Namespace, c.Job, c.Group, c.EvalID} {
		w.buf = appendBytes(w.buf, s)
	}
	w.buf = binary.AppendUvarint(w.buf, c.JobVersion)
}

// Add appends an allocation and gives its id. extra may be nil; of it, only what the
// row does not say is written.
func (w *PlacementWriter) Add(nodeID string, index uint32, grant *berthv1.Assignment, extra *berthv1.Alloc) ID {
	node, number := w.node(nodeID), w.grant(grant)
	id := w.ids.At(w.rows)
	w.rows++
	if extra != nil {
		w.flush()
		w.place(recordRow, node, uint64(index), number)
		w.scratch, _ = proto.MarshalOptions{Deterministic: true}.MarshalAppend(w.scratch[:0], extra) // it fails only on invalid UTF-8
		w.buf = appendBytes(w.buf, w.scratch)
		return id
	}
	if r := &w.run; r.count > 0 && r.node == node && r.grant == number && r.first+r.count == uint64(index) {
		r.count++
		return id
	}
	w.flush()
	w.run = run{node: node, first: uint64(index), grant: number, count: 1}
	return id
}

func (w *PlacementWriter) place(record byte, node, index, grant uint64) {
	w.buf = append(w.buf, record)
	w.buf = binary.AppendUvarint(w.buf, node)
	w.buf = binary.AppendVarint(w.buf, int64(index)-int64(w.next))
	w.buf = binary.AppendUvarint(w.buf, grant)
	w.next = index + 1
}

// flush writes the run.
func (w *PlacementWriter) flush() {
	if r := w.run; r.count > 0 {
		w.place(recordRun, r.node, r.first, r.grant)
		w.buf = binary.AppendUvarint(w.buf, r.count)
		w.next = r.first + r.count
		w.run = run{}
	}
}

func (w *PlacementWriter) node(id string) uint64 {
	if id == w.lastNode && len(w.nodes) > 0 {
		return w.nodeNum
	}
	number, known := w.nodes[id]
	if !known {
		w.flush()
		number = uint64(len(w.nodes))
		w.nodes[id] = number
		w.buf = appendBytes(append(w.buf, recordNode), id)
	}
	w.lastNode, w.nodeNum = id, number
	return number
}

// grant gives the number of a grant. Most are one of the last few.
func (w *PlacementWriter) grant(a *berthv1.Assignment) uint64 {
	for i, r := range w.recent {
		if r == a && a != nil {
			return w.numbers[i]
		}
	}
	w.scratch, _ = proto.MarshalOptions{Deterministic: true}.MarshalAppend(w.scratch[:0], a) // it fails only on invalid UTF-8
	number, known := w.grants[string(w.scratch)]
	if !known {
		w.flush()
		number = uint64(len(w.grants))
		if w.grants == nil {
			w.grants = map[string]uint64{}
		}
		w.grants[string(w.scratch)] = number
		w.buf = appendBytes(append(w.buf, recordGrant), w.scratch)
	}
	slot := number % uint64(len(w.recent))
	w.recent[slot], w.numbers[slot] = a, number
	return number
}

// Bytes ends the writing and gives what was written.
func (w *PlacementWriter) Bytes() []byte {
	w.flush()
	return w.buf
}

// Placements is told what placements say. Numbers are in bounds: they name a node or a
// grant that was told before, in the present cohort.
type Placements interface {
	Cohort(c Cohort)
	Node(id string)
	// Grant is an assignment, which nobody else has, and its encoding, which lies in what
	// is read.
	Grant(a *berthv1.Assignment, wire []byte)
	// Run places instances with the indexes from first on.
	Run(ids *IDs, row int, node, grant int, first uint32, count int)
	// Row places one of which there is more to say.
	Row(id ID, node, grant int, index uint32, extra *berthv1.Alloc)
}

// ReadPlacements tells what placements say, until something is wrong.
func ReadPlacements(data []byte, to Placements) error {
	r := in{b: data}
	r.version(PlacementVersion)
	ids := NewIDs(r.id())
	next, rows, nodes, grants, cohort := uint64(0), 0, uint64(0), uint64(0), false
	place := func() (node, grant, index uint64) {
		node = r.uint(math.MaxUint32)
		index = next + uint64(r.int())
		grant = r.uint(math.MaxUint32)
		if r.err == nil && (!cohort || node >= nodes || grant >= grants || index > math.MaxUint32) {
			r.fail("a row names a node, a grant or an index that there is not")
		}
		return node, grant, index
	}
	for r.err == nil && len(r.b) > 0 {
		switch record := r.byte(); record {
		case recordCohort:
			c := Cohort{Namespace: string(r.bytes()), Job: string(r.bytes()), Group: string(r.bytes()), EvalID: string(r.bytes()), JobVersion: r.uint(math.MaxUint32)}
			if cohort, next, grants = true, 0, 0; r.err == nil && validText(&r, c.Namespace, c.Job, c.Group, c.EvalID) {
				to.Cohort(c)
			}
		case recordNode:
			if id := string(r.bytes()); r.err == nil && validText(&r, id) {
				nodes++
				to.Node(id)
			}
		case recordGrant:
			a := &berthv1.Assignment{}
			if wire := unmarshal(&r, a); r.err == nil {
				grants++
				to.Grant(a, wire)
			}
		case recordRun:
			node, grant, index := place()
			count := r.uint(uint64(MaxRows - rows))
			if r.err == nil && (count == 0 || index+count > math.MaxUint32+1) {
				r.fail("a run of %d rows from %d on", count, index)
			}
			if r.err == nil {
				to.Run(ids, rows, int(node), int(grant), uint32(index), int(count))
				rows, next = rows+int(count), index+count
			}
		case recordRow:
			node, grant, index := place()
			extra := &berthv1.Alloc{}
			unmarshal(&r, extra)
			if rows == MaxRows {
				r.fail("there are more than %d rows", MaxRows)
			}
			if r.err == nil {
				to.Row(ids.At(rows), int(node), int(grant), uint32(index), extra)
				rows, next = rows+1, index+1
			}
		default:
			if r.err == nil {
				r.fail("a record of kind %d is not known", record)
			}
		}
	}
	return r.err
}
