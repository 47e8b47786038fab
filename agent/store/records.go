package store

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"time"

	"go.etcd.io/bbolt"
	"google.golang.org/protobuf/proto"

	"github.com/berthd/berth/drivers"
	"github.com/berthd/berth/problem"
	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

// The buckets, inside one that is named after the format ("v1").
var (
	bucketMeta    = []byte("meta")
	bucketAllocs  = []byte("allocs")  // alloc id -> Alloc
	bucketJobs    = []byte("jobs")    // namespace 0 name 0 version -> Job
	bucketTasks   = []byte("tasks")   // alloc id / task -> Task
	bucketReports = []byte("reports") // alloc id -> AllocStatusUpdate that no server has confirmed
	bucketRemoved = []byte("removed") // alloc id: the servers have forgotten it, clean it up
	buckets       = [][]byte{bucketMeta, bucketAllocs, bucketJobs, bucketTasks, bucketReports, bucketRemoved}
	// Added later: a file of an older agent does not have them.
	bucketHealth = []byte("health") // alloc id -> AllocStatusUpdate: its health and checks
	laterBuckets = [][]byte{bucketHealth}
)

// Phase is how far a task is. It goes forward, and back to Waiting only by a restart.
type Phase string

// The phases, in their order.
const (
	// Waiting: nothing is started. The driver may have begun to prepare.
	Waiting Phase = "waiting"
	// Starting: prepared; the driver may have been told to start.
	Starting Phase = "starting"
	// Running: the driver gave a handle.
	Running Phase = "running"
	// Exited: it ended, or never started; the driver has still to clean up.
	Exited Phase = "exited"
	// Dead: over for good and cleaned up.
	Dead Phase = "dead"
)

// Task is what is remembered of one task.
type Task struct {
	Phase  Phase           `json:"phase"`
	Handle *drivers.Handle `json:"handle,omitempty"`
	// Exit is how it ended, in Exited.
	Exit *drivers.Exit `json:"exit,omitempty"`
	// Restarts are the times of the restarts that count against the policy, oldest first.
	Restarts []time.Time `json:"restarts,omitempty"`
	// NotBefore is when a waiting task may start.
	NotBefore time.Time `json:"not_before,omitzero"`
	// Restart says why the task is to be started again whatever its policy says, until
	// that has happened.
	Restart string `json:"restart,omitempty"`
	// Unhealthy says why it is to be stopped and judged by its policy as if it had failed,
	// until that has happened.
	Unhealthy string `json:"unhealthy,omitempty"`
	// Limits are what its driver was last told that it may use while it runs, in words; "":
	// not known.
	Limits string `json:"limits,omitempty"`
	// GroupStop is when its group was told to stop, Stop when it was told itself; zero: it
	// was not. What is left of a shutdown_delay follows from them.
	GroupStop time.Time `json:"group_stop,omitzero"`
	Stop      time.Time `json:"stop,omitzero"`
	// GiveUp says why the task must not be started again, whatever its policy.
	GiveUp string `json:"give_up,omitempty"`
	// State is what is told to the servers.
	State *berthv1.TaskState `json:"-"`
	// Wire is State, encoded.
	Wire []byte `json:"state,omitempty"`
}

// Clone copies the record deeply enough to change the copy.
func (t *Task) Clone() *Task {
	c := *t
	c.Restarts = append([]time.Time(nil), t.Restarts...)
	c.State = proto.CloneOf(t.State)
	return &c
}

func (t *Task) encode() ([]byte, error) {
	c := *t
	wire, err := proto.Marshal(t.State)
	if err != nil {
		return nil, fmt.Errorf("encoding a task's state: %w", err)
	}
	c.Wire = wire
	return json.Marshal(&c)
}

func decodeTask(b []byte) (*Task, error) {
	t := &Task{State: &berthv1.TaskState{}}
	if err := json.Unmarshal(b, t); err != nil {
		return nil, err
	}
	if err := proto.Unmarshal(t.Wire, t.State); err != nil {
		return nil, err
	}
	t.Wire = nil
	switch t.Phase {
	case Waiting, Starting, Running, Exited, Dead:
		return t, nil
	}
	return nil, fmt.Errorf("unknown phase %q", t.Phase)
}

var crcTable = crc32.MakeTable(crc32.Castagnoli)

// seal puts a checksum of key and value before the value.
func seal(key, value []byte) []byte {
	b := make([]byte, 4, 4+len(value))
	binary.BigEndian.PutUint32(b, crc32.Update(crc32.Checksum(key, crcTable), crcTable, value))
	return append(b, value...)
}

// unseal checks the checksum and gives the value, valid as long as sealed is.
func unseal(key, sealed []byte) ([]byte, error) {
	if len(sealed) < 4 || binary.BigEndian.Uint32(sealed) != crc32.Update(crc32.Checksum(key, crcTable), crcTable, sealed[4:]) {
		return nil, corruptf("the record %q has a wrong checksum", key)
	}
	return sealed[4:], nil
}

func root(tx *bbolt.Tx) *bbolt.Bucket { return tx.Bucket(fmt.Appendf(nil, "v%d", format)) }

func bucket(tx *bbolt.Tx, name []byte) *bbolt.Bucket { return root(tx).Bucket(name) }

func makeBuckets(tx *bbolt.Tx) error {
	r, err := tx.CreateBucketIfNotExists(fmt.Appendf(nil, "v%d", format))
	if err != nil {
		return err
	}
	for _, name := range append(laterBuckets, buckets...) {
		if _, err := r.CreateBucketIfNotExists(name); err != nil {
			return err
		}
	}
	return nil
}

func put(tx *bbolt.Tx, name, key, value []byte) error {
	return bucket(tx, name).Put(key, seal(key, value))
}

func putProto(tx *bbolt.Tx, name, key []byte, m proto.Message) error {
	b, err := proto.Marshal(m)
	if err != nil {
		return fmt.Errorf("encoding %s: %w", key, err)
	}
	return put(tx, name, key, b)
}

// each calls fn for every record of a bucket that begins with prefix, values unsealed.
func each(tx *bbolt.Tx, name, prefix []byte, fn func(key, value []byte) error) error {
	b := bucket(tx, name)
	if b == nil {
		return nil // a file of an older agent that is being checked
	}
	c := b.Cursor()
	for k, v := c.Seek(prefix); k != nil && bytes.HasPrefix(k, prefix); k, v = c.Next() {
		value, err := unseal(k, v)
		if err != nil {
			return err
		}
		if err := fn(k, value); err != nil {
			return err
		}
	}
	return nil
}

// checkAll reads every record of a file that another run of the agent wrote, then has
// bbolt check its pages. In this order: bbolt checks in a goroutine of its own, where a
// panic could not be caught, and what reads well does not panic there.
func checkAll(db *bbolt.DB) error {
	return db.View(func(tx *bbolt.Tx) error {
		if err := checkRecords(tx, db.Path()); err != nil {
			return err
		}
		var first error
		for err := range tx.Check() { // to its end, or its goroutine stays
			if first == nil {
				first = corruptf("its pages are inconsistent: %v", err)
			}
		}
		return first
	})
}

func checkRecords(tx *bbolt.Tx, path string) error {
	err := tx.ForEach(func(name []byte, _ *bbolt.Bucket) error {
		var v int
		if _, err := fmt.Sscanf(string(name), "v%d", &v); err != nil {
			return corruptf("unknown bucket %q", name)
		}
		if v > format {
			return problem.New(problem.Unsupported, path, "the agent's store was written by a newer version of berth (format %d)", v).
				WithRemedy("run that version, or newer")
		}
		return nil
	})
	if err != nil || root(tx) == nil {
		return err
	}
	for _, name := range buckets {
		if bucket(tx, name) == nil {
			return corruptf("the bucket %q is missing", name)
		}
	}
	_, err = load(tx)
	return err
}

func trimSpace(b []byte) []byte { return bytes.TrimSpace(b) }
