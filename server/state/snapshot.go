package state

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"iter"

	"google.golang.org/protobuf/encoding/protodelim"
	"google.golang.org/protobuf/proto"

	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

// SnapshotVersion is the format that Write writes and the newest that Read reads.
const SnapshotVersion = 2

// maxRecord bounds one record of a snapshot, in bytes, so that a damaged length cannot
// ask for all memory. A log entry has at most 64 KiB; a job may have a source besides.
const maxRecord = 16 << 20

// records iterates over the view as snapshot records in their fixed order.
func (v *View) records() iter.Seq[*berthv1.SnapshotRecord] {
	return func(yield func(*berthv1.SnapshotRecord) bool) {
		ok := yield(&berthv1.SnapshotRecord{Record: &berthv1.SnapshotRecord_Header{Header: &berthv1.SnapshotHeader{
			Version: SnapshotVersion, Revision: v.revision, ClusterId: v.clusterID,
		}}}) && yield(&berthv1.SnapshotRecord{Record: &berthv1.SnapshotRecord_SchedulerConfig{SchedulerConfig: v.config}})
		for x := range v.Namespaces() {
			ok = ok && yield(&berthv1.SnapshotRecord{Record: &berthv1.SnapshotRecord_Namespace{Namespace: x}})
		}
		for x := range v.Reservations() {
			ok = ok && yield(&berthv1.SnapshotRecord{Record: &berthv1.SnapshotRecord_Reservation{Reservation: x}})
		}
		for x := range v.JobsFrom("", "") {
			ok = ok && yield(&berthv1.SnapshotRecord{Record: &berthv1.SnapshotRecord_Job{Job: x}})
		}
		for x := range v.allJobVersions() {
			ok = ok && yield(&berthv1.SnapshotRecord{Record: &berthv1.SnapshotRecord_JobVersion{JobVersion: x}})
		}
		for x := range v.Nodes("") {
			ok = ok && yield(&berthv1.SnapshotRecord{Record: &berthv1.SnapshotRecord_Node{Node: x}})
		}
		for x := range v.Evaluations("") {
			ok = ok && yield(&berthv1.SnapshotRecord{Record: &berthv1.SnapshotRecord_Evaluation{Evaluation: x}})
		}
		for x := range v.allocs.blocks() {
			if ok = ok && yield(&berthv1.SnapshotRecord{Record: &berthv1.SnapshotRecord_AllocRows{AllocRows: x}}); !ok {
				break
			}
		}
		for x := range v.Deployments("") {
			ok = ok && yield(&berthv1.SnapshotRecord{Record: &berthv1.SnapshotRecord_Deployment{Deployment: x}})
		}
		for x := range v.Services("", "") {
			ok = ok && yield(&berthv1.SnapshotRecord{Record: &berthv1.SnapshotRecord_ServiceInstance{ServiceInstance: x}})
		}
		for x := range v.allScalingEvents() {
			ok = ok && yield(&berthv1.SnapshotRecord{Record: &berthv1.SnapshotRecord_ScalingEvent{ScalingEvent: x}})
		}
		for x := range v.VariablesFrom("", "") {
			ok = ok && yield(&berthv1.SnapshotRecord{Record: &berthv1.SnapshotRecord_Variable{Variable: x}})
		}
		for x := range v.Images("") {
			ok = ok && yield(&berthv1.SnapshotRecord{Record: &berthv1.SnapshotRecord_Image{Image: x}})
		}
		for x := range v.StagedGangs() {
			ok = ok && yield(&berthv1.SnapshotRecord{Record: &berthv1.SnapshotRecord_StagedGang{StagedGang: x}})
		}
	}
}

// Hash is the SHA-256 of everything in the view. Equal states have equal hashes.
func (v *View) Hash() []byte {
	sum := &summer{h: sha256.New()}
	for r := range v.records() {
		sum.add(r)
	}
	return sum.h.Sum(nil)
}

// summer hashes records in an encoding that is the same for equal records.
type summer struct {
	h   hash.Hash
	buf []byte
	n   uint64
}

func (s *summer) add(r *berthv1.SnapshotRecord) {
	var err error
	s.buf, err = proto.MarshalOptions{Deterministic: true}.MarshalAppend(s.buf[:0], r)
	if err != nil {
		// Only invalid UTF-8 fails, and nothing is stored that was not decoded from a valid entry.
		panic(fmt.Sprintf("state: record cannot be encoded: %v", err))
	}
	fmt.Fprintf(s.h, "%d:", len(s.buf))
	s.h.Write(s.buf)
	s.n++
}

// Write writes the view as a snapshot.
func (v *View) Write(w io.Writer) error {
	sum := &summer{h: sha256.New()}
	buffered := bufio.NewWriterSize(w, 1<<20)
	for r := range v.records() {
		sum.add(r)
		if err := writeRecord(buffered, sum.buf); err != nil {
			return fmt.Errorf("writing record %d of the snapshot: %w", sum.n, err)
		}
	}
	end := &berthv1.SnapshotRecord{Record: &berthv1.SnapshotRecord_End{End: &berthv1.SnapshotEnd{Records: sum.n, Hash: sum.h.Sum(nil)}}}
	if _, err := protodelim.MarshalTo(buffered, end); err != nil {
		return fmt.Errorf("writing the end of the snapshot: %w", err)
	}
	if err := buffered.Flush(); err != nil {
		return fmt.Errorf("writing the snapshot: %w", err)
	}
	return nil
}

// writeRecord writes an encoded record as protodelim does: its length, then itself.
func writeRecord(w *bufio.Writer, encoded []byte) error {
	for n := uint64(len(encoded)); ; n >>= 7 {
		if n < 0x80 {
			if err := w.WriteByte(byte(n)); err != nil {
				return err
			}
			break
		}
		if err := w.WriteByte(byte(n) | 0x80); err != nil {
			return err
		}
	}
	_, err := w.Write(encoded)
	return err
}

// Read makes a store of a snapshot. Anything that is wrong with it (cut short, damaged, of
// a newer version) is an error, and nothing else happens.
func Read(r io.Reader) (*Store, error) {
	s := New()
	s.live.allocs.w.loading = map[cohortKey]*cohort{}
	in := &reader{store: s, tx: &Tx{tables: &s.live, store: s}, sum: summer{h: sha256.New()}}
	buffered := bufio.NewReaderSize(r, 1<<20)
	for {
		record := &berthv1.SnapshotRecord{}
		err := protodelim.UnmarshalOptions{MaxSize: maxRecord}.UnmarshalFrom(buffered, record)
		if errors.Is(err, io.EOF) {
			return nil, fmt.Errorf("reading the snapshot: it ends after %d records without its end mark", in.sum.n)
		}
		if err != nil {
			return nil, fmt.Errorf("reading record %d of the snapshot: %w", in.sum.n+1, err)
		}
		if end := record.GetEnd(); end != nil {
			if err := in.finish(end); err != nil {
				return nil, err
			}
			return s, nil
		}
		if err := in.add(record); err != nil {
			return nil, fmt.Errorf("reading record %d of the snapshot: %w", in.sum.n+1, err)
		}
		in.sum.add(record)
	}
}

type reader struct {
	store *Store
	tx    *Tx
	sum   summer
}

func (in *reader) add(record *berthv1.SnapshotRecord) error {
	if (in.sum.n == 0) != (record.GetHeader() != nil) {
		return errors.New("the header must be the first record, and only the first")
	}
	switch r := record.GetRecord().(type) {
	case *berthv1.SnapshotRecord_Header:
		if v := r.Header.GetVersion(); v == 0 || v > SnapshotVersion {
			return fmt.Errorf("the snapshot has format %d, this server reads up to %d: use a newer server", v, SnapshotVersion)
		}
		in.tx.revision = r.Header.GetRevision()
		in.store.live.revision = in.tx.revision
		in.store.live.clusterID = r.Header.GetClusterId()
	case *berthv1.SnapshotRecord_SchedulerConfig:
		in.tx.PutSchedulerConfig(r.SchedulerConfig)
	case *berthv1.SnapshotRecord_Namespace:
		in.tx.PutNamespace(r.Namespace)
	case *berthv1.SnapshotRecord_Reservation:
		in.tx.PutReservation(r.Reservation)
	case *berthv1.SnapshotRecord_Job:
		in.tx.PutJob(r.Job)
	case *berthv1.SnapshotRecord_JobVersion:
		in.store.live.jobVersions.Set(r.JobVersion)
	case *berthv1.SnapshotRecord_Node:
		in.tx.PutNode(r.Node)
	case *berthv1.SnapshotRecord_Evaluation:
		in.tx.PutEvaluation(r.Evaluation)
	case *berthv1.SnapshotRecord_ServiceInstance:
		in.tx.storeService(r.ServiceInstance)
	case *berthv1.SnapshotRecord_Alloc: // of version 1
		if _, ok := ParseAllocID(r.Alloc.GetId()); !ok {
			return fmt.Errorf("%q is no id of an allocation", r.Alloc.GetId())
		}
		in.tx.PutAlloc(r.Alloc)
	case *berthv1.SnapshotRecord_AllocRows:
		return in.tx.loadAllocs(r.AllocRows)
	case *berthv1.SnapshotRecord_ScalingEvent:
		in.store.live.scaling.Set(r.ScalingEvent)
	case *berthv1.SnapshotRecord_Variable:
		in.tx.PutVariable(r.Variable)
	case *berthv1.SnapshotRecord_Image:
		in.tx.PutImage(r.Image)
	case *berthv1.SnapshotRecord_Deployment:
		in.tx.PutDeployment(r.Deployment)
	case *berthv1.SnapshotRecord_StagedGang:
		in.tx.PutStagedGang(r.StagedGang)
	default:
		return errors.New("a record of a kind that this server does not know: use a newer server")
	}
	return nil
}

func (in *reader) finish(end *berthv1.SnapshotEnd) error {
	if in.sum.n == 0 {
		return errors.New("reading the snapshot: it has no header")
	}
	if end.GetRecords() != in.sum.n {
		return fmt.Errorf("reading the snapshot: it says %d records and has %d", end.GetRecords(), in.sum.n)
	}
	if hash := in.sum.h.Sum(nil); !bytes.Equal(hash, end.GetHash()) {
		return errors.New("reading the snapshot: its hash does not match, it is damaged")
	}
	if !in.store.live.allocs.loaded() {
		return errors.New("reading the snapshot: it has an allocation twice")
	}
	in.store.history.reset(in.tx.revision)
	return nil
}
