package dispatch

import (
	"encoding/binary"
	"slices"
	"sync"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

// Assignments and reports are most of what goes over sessions. They are encoded and read
// by hand, without messages in between: that cost more than placing what they tell of.
// What goes over the wire is what the schema says; FuzzReportsWire and the tests hold it
// against the generated code.

// Fields of the schema that are written and read by hand.
const (
	agentReport      protowire.Number = 3 // AgentMessage.report
	reportSequence   protowire.Number = 1 // StatusReport
	reportUpdates    protowire.Number = 2
	updateAlloc      protowire.Number = 1 // AllocStatusUpdate
	updateStatus     protowire.Number = 2
	updateTime       protowire.Number = 4
	timeSeconds      protowire.Number = 1 // Timestamp
	timeNanos        protowire.Number = 2
	assignComplete   protowire.Number = 1 // Assignments
	assignAppliesTo  protowire.Number = 2
	assignResultsIn  protowire.Number = 3
	assignJobs       protowire.Number = 4
	assignAllocs     protowire.Number = 5
	assignRemoved    protowire.Number = 6
	serverAssignment protowire.Number = 2 // ServerMessage.assignments
)

// wireHead is room before the body of assignments for their tag and length.
const wireHead = 1 + binary.MaxVarintLen64

// wires are buffers for assignments, to be used again once they are sent.
var wires = sync.Pool{New: func() any { b := make([]byte, 0, 4096); return &b }}

// maxPooled bounds the buffers that are kept, in bytes.
const maxPooled = 1 << 20

// wrap makes a ServerMessage of the body of assignments, which follows wireHead bytes.
func wrap(b []byte) *berthv1.ServerMessage {
	head := protowire.AppendVarint(protowire.AppendTag(make([]byte, 0, wireHead), serverAssignment, protowire.BytesType), uint64(len(b)-wireHead))
	copy(b[wireHead-len(head):], head)
	m := &berthv1.ServerMessage{}
	// Fields that a message does not know are sent as they are, and these are encoded already.
	m.ProtoReflect().SetUnknown(b[wireHead-len(head):])
	return m
}

// release gives a buffer back whose message was sent.
func release(b *[]byte) {
	if cap(*b) <= maxPooled {
		wires.Put(b)
	}
}

// nested appends a field whose value is a message that write appends.
func nested(b []byte, field protowire.Number, write func([]byte) []byte) []byte {
	const usual = 2 // bytes of a length from 128 to 16383
	b = protowire.AppendTag(b, field, protowire.BytesType)
	begin := len(b)
	b = write(append(b, 0, 0))
	n := len(b) - begin - usual
	switch size := protowire.SizeVarint(uint64(n)); {
	case size < usual:
		b = slices.Delete(b, begin, begin+usual-size)
	case size > usual:
		b = slices.Insert(b, begin, make([]byte, size-usual)...)
	}
	binary.PutUvarint(b[begin:], uint64(n))
	return b
}

// encodedJobs has the encoding of jobs that sessions were sent, for the next session: a
// job of many instances goes to as many agents.
type encodedJobs struct {
	mu   sync.Mutex
	jobs map[*berthv1.Job][]byte
}

// maxEncodedJobs bounds encodedJobs; all are forgotten when there are more.
const maxEncodedJobs = 512

func (e *encodedJobs) of(job *berthv1.Job) []byte {
	e.mu.Lock()
	defer e.mu.Unlock()
	b, known := e.jobs[job]
	if !known {
		b, _ = proto.Marshal(job) // it was decoded from valid UTF-8
		if e.jobs == nil || len(e.jobs) >= maxEncodedJobs {
			e.jobs = map[*berthv1.Job][]byte{}
		}
		e.jobs[job] = b
	}
	return b
}
