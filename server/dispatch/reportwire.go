package dispatch

import (
	"errors"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	berthv1 "github.com/berthd/berth/proto/berth/v1"
	"github.com/berthd/berth/server/rows"
)

var errWire = errors.New("the bytes are no message")

// field reads the next field of a message: its number, its kind, and its value in bytes
// (BytesType) or as a number (VarintType).
func field(b []byte) (number protowire.Number, kind protowire.Type, value []byte, v uint64, rest []byte, err error) {
	number, kind, n := protowire.ConsumeTag(b)
	if n < 0 || number > protowire.MaxValidNumber {
		return 0, 0, nil, 0, nil, errWire
	}
	b = b[n:]
	switch kind {
	case protowire.BytesType:
		value, n = protowire.ConsumeBytes(b)
	case protowire.VarintType:
		v, n = protowire.ConsumeVarint(b)
	default:
		n = protowire.ConsumeFieldValue(number, kind, b)
	}
	if n < 0 {
		return 0, 0, nil, 0, nil, errWire
	}
	return number, kind, value, v, b[n:], nil
}

// reportOf gives the StatusReport in an encoded AgentMessage that is nothing else; nil:
// it is something else, or in several parts.
func reportOf(m []byte) []byte {
	number, kind, report, _, rest, err := field(m)
	if err != nil || number != agentReport || kind != protowire.BytesType || len(rest) > 0 {
		return nil
	}
	return report
}

// readReport gives the sequence of an encoded StatusReport, and tells of its updates.
func readReport(report []byte, update func([]byte) error) (sequence uint64, err error) {
	for len(report) > 0 {
		var number protowire.Number
		var kind protowire.Type
		var value []byte
		var v uint64
		if number, kind, value, v, report, err = field(report); err != nil {
			return 0, err
		}
		switch {
		case number == reportSequence && kind == protowire.VarintType:
			sequence = v
		case number == reportUpdates && kind == protowire.BytesType && update != nil:
			if err := update(value); err != nil {
				return 0, err
			}
		}
	}
	return sequence, nil
}

// plainUpdate reads an encoded AllocStatusUpdate that is a status and a time, in ns since
// 1970; false: there is more to it, or something is wrong with it.
func plainUpdate(b []byte) (id rows.ID, status berthv1.Alloc_Status, at int64, ok bool) {
	timed := false
	for len(b) > 0 {
		number, kind, value, v, rest, err := field(b)
		if err != nil {
			return id, 0, 0, false
		}
		b = rest
		switch {
		case number == updateAlloc && kind == protowire.BytesType && !ok:
			if id, ok = rows.ParseID(string(value)); !ok {
				return id, 0, 0, false
			}
		case number == updateStatus && kind == protowire.VarintType && status == 0 && v < rows.MaxStatus:
			status = berthv1.Alloc_Status(v)
		case number == updateTime && kind == protowire.BytesType && !timed:
			if at, timed = plainTime(value); !timed {
				return id, 0, 0, false
			}
		default:
			return id, 0, 0, false
		}
	}
	return id, status, at, ok && timed
}

// plainTime reads an encoded Timestamp after 1970.
func plainTime(b []byte) (at int64, ok bool) {
	var seconds, nanos uint64
	for len(b) > 0 {
		number, kind, _, v, rest, err := field(b)
		switch {
		case err != nil:
			return 0, false
		case number == timeSeconds && kind == protowire.VarintType && v < rows.MaxSeconds && seconds == 0:
			seconds = v
		case number == timeNanos && kind == protowire.VarintType && v < 1e9 && nanos == 0:
			nanos = v
		default:
			return 0, false
		}
		b = rest
	}
	return int64(seconds)*1e9 + int64(nanos), true
}

// addUpdate appends an encoded update to the rows of a report.
func addUpdate(w *rows.ReportWriter, update []byte) error {
	if id, status, at, plain := plainUpdate(update); plain {
		w.AddPlain(id, status, at)
		return nil
	}
	u := &berthv1.AllocStatusUpdate{}
	if err := proto.Unmarshal(update, u); err != nil {
		return err
	}
	w.Add(u)
	return nil
}
