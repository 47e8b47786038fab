package rows

import (
	"encoding/binary"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

// ReportVersion is the newest format of reports.
const ReportVersion = 1

// Records of reports.
const (
	// recordPlain: a status (one byte), the allocation's id (16 bytes), and when, in ns
	// since the record before (signed; the first since 1970).
	recordPlain = 1
	// recordUpdate: an encoded AllocStatusUpdate (bytes).
	recordUpdate = 2
)

// MaxSeconds bounds the times of plain updates, so that they are within what 64 bits of
// nanoseconds reach; MaxStatus their statuses.
const (
	MaxSeconds = 1 << 33
	MaxStatus  = 128
)

// ReportWriter encodes what agents report.
type ReportWriter struct {
	buf  []byte
	last int64
	rows int
}

// Rows is how many updates were added since the last Bytes, Size how many bytes they take.
func (w *ReportWriter) Rows() int { return w.rows }

// Size is how many bytes they take.
func (w *ReportWriter) Size() int { return len(w.buf) }

// Add appends an update; as it is where it is more than a status.
func (w *ReportWriter) Add(u *berthv1.AllocStatusUpdate) {
	id, ok := ParseID(u.GetAllocId())
	at := u.GetStatusTime()
	plain := ok && u.GetStatusReason() == "" && len(u.GetTasks()) == 0 && u.GetStatus() >= 0 && u.GetStatus() < MaxStatus &&
		u.GetHealth() == berthv1.Alloc_undecided && !u.GetHasServices() && at != nil && at.IsValid() && max(at.GetSeconds(), -at.GetSeconds()) < MaxSeconds
	if !plain {
		w.begin()
		b, _ := proto.Marshal(u) // it was decoded from valid UTF-8
		w.buf = appendBytes(append(w.buf, recordUpdate), b)
		return
	}
	w.AddPlain(id, u.GetStatus(), at.GetSeconds()*1e9+int64(at.GetNanos()))
}

// AddPlain appends an update that is only a status, below MaxStatus, at a time in ns since
// 1970.
func (w *ReportWriter) AddPlain(id ID, status berthv1.Alloc_Status, at int64) {
	w.begin()
	w.buf = append(w.buf, recordPlain, byte(status))
	w.buf = append(w.buf, id[:]...)
	w.buf = binary.AppendVarint(w.buf, at-w.last)
	w.last = at
}

func (w *ReportWriter) begin() {
	if len(w.buf) == 0 {
		w.buf = append(w.buf, ReportVersion)
	}
	w.rows++
}

// Bytes gives what was written and begins anew.
func (w *ReportWriter) Bytes() []byte {
	b := w.buf
	*w = ReportWriter{}
	return b
}

// Reports is told what reports say.
type Reports interface {
	// Plain is a status without words; at is in ns since 1970.
	Plain(id ID, status berthv1.Alloc_Status, at int64)
	// Update is everything else.
	Update(u *berthv1.AllocStatusUpdate)
}

// ReadReports tells what reports say, until something is wrong.
func ReadReports(data []byte, to Reports) error {
	r := in{b: data}
	r.version(ReportVersion)
	last := int64(0)
	for rows := 0; r.err == nil && len(r.b) > 0; rows++ {
		switch record := r.byte(); record {
		case recordPlain:
			status, id := r.byte(), r.id()
			at := last + r.int()
			if status >= MaxStatus || max(at, -at) > MaxSeconds*1e9 || at == -1<<63 {
				r.fail("a status of %d or a time of %d ns is out of bounds", status, at)
			}
			if r.err == nil {
				last = at
				to.Plain(id, berthv1.Alloc_Status(status), at)
			}
		case recordUpdate:
			u := &berthv1.AllocStatusUpdate{}
			if unmarshal(&r, u); r.err == nil {
				to.Update(u)
			}
		default:
			if r.err == nil {
				r.fail("a record of kind %d is not known", record)
			}
		}
	}
	return r.err
}

// ToUpdates gives reports as messages.
func ToUpdates(data []byte) ([]*berthv1.AllocStatusUpdate, error) {
	var l updates
	err := ReadReports(data, &l)
	return l, err
}

type updates []*berthv1.AllocStatusUpdate

func (l *updates) Update(u *berthv1.AllocStatusUpdate) { *l = append(*l, u) }

func (l *updates) Plain(id ID, status berthv1.Alloc_Status, at int64) {
	t := &timestamppb.Timestamp{Seconds: at / 1e9, Nanos: int32(at % 1e9)}
	if t.Nanos < 0 {
		t.Seconds, t.Nanos = t.Seconds-1, t.Nanos+1e9
	}
	*l = append(*l, &berthv1.AllocStatusUpdate{AllocId: id.String(), Status: status, StatusTime: t})
}
