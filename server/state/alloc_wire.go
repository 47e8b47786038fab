package state

import (
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

// AppendWire appends the encoding of the row's message, byte for byte what
// proto.Marshal makes of Alloc. Agents' sessions send every allocation, and making
// messages for that cost more than placing it; so plain rows are written as they are.
func (r *AllocRow) AppendWire(b []byte) []byte {
	if r.cold != "" {
		return appendMessage(b, r.Alloc())
	}
	c := r.cohort
	id := r.ID().Text()
	b = append(protowire.AppendVarint(appendTag(b, 1, protowire.BytesType), uint64(len(id))), id[:]...)
	b = appendString(b, 2, c.job.namespace)
	b = appendString(b, 3, c.job.name)
	b = appendUint(b, 4, uint64(r.hot.version))
	b = appendString(b, 5, c.group)
	b = appendUint(b, 6, uint64(r.fixed.index))
	b = appendString(b, 7, r.node.id)
	b = appendString(b, 8, r.node.name)
	b = appendString(b, 9, c.evalID)
	if r.fixed.grant != noGrant {
		wire := c.grants[r.fixed.grant].wire
		b = append(protowire.AppendVarint(appendTag(b, 10, protowire.BytesType), uint64(len(wire))), wire...)
	}
	b = appendUint(b, 11, uint64(r.hot.desired))
	b = appendUint(b, 14, uint64(r.hot.status))
	b = appendTime(b, 16, r.hot.statusTime)
	b = appendTime(b, 30, c.createNano)
	b = appendTime(b, 31, r.hot.modifyTime)
	b = appendUint(b, 50, c.createRevision)
	b = appendUint(b, 51, r.hot.modifyRevision)
	return appendUint(b, 52, r.hot.assignRevision)
}

// appendMessage appends an encoded message, the same for equal messages.
func appendMessage(b []byte, m proto.Message) []byte {
	b, err := proto.MarshalOptions{Deterministic: true}.MarshalAppend(b, m)
	if err != nil {
		// Only invalid UTF-8 fails, and nothing is stored that was not decoded from a valid entry.
		panic("state: a stored message cannot be encoded: " + err.Error())
	}
	return b
}

func appendTag(b []byte, field protowire.Number, kind protowire.Type) []byte {
	return protowire.AppendTag(b, field, kind)
}

// appendString appends a field of text unless it is empty, appendUint one of a number
// unless it is 0: such fields are left out.
func appendString(b []byte, field protowire.Number, s string) []byte {
	if s == "" {
		return b
	}
	return append(protowire.AppendVarint(appendTag(b, field, protowire.BytesType), uint64(len(s))), s...)
}

func appendUint(b []byte, field protowire.Number, v uint64) []byte {
	if v == 0 {
		return b
	}
	return protowire.AppendVarint(appendTag(b, field, protowire.VarintType), v)
}

// appendTime appends a field with a Timestamp, in ns since 1970.
func appendTime(b []byte, field protowire.Number, ns int64) []byte {
	if ns == noTime {
		return b
	}
	seconds, nanos := splitNanos(ns)
	b = append(appendTag(b, field, protowire.BytesType), 0) // a length below 128 follows
	begin := len(b)
	b = appendUint(b, 1, uint64(seconds))
	b = appendUint(b, 2, uint64(nanos))
	b[begin-1] = byte(len(b) - begin)
	return b
}

// grant is an assignment as the rows of a cohort share it.
type grant struct {
	message *berthv1.Assignment
	wire    string // its encoding
}

func grantOf(a *berthv1.Assignment) grant { return grant{a, string(appendMessage(nil, a))} }
