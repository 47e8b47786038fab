package store

import (
	"bytes"
	"encoding/binary"
	"strings"

	"go.etcd.io/bbolt"
	"google.golang.org/protobuf/proto"

	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

// Keys of bucketMeta.
const (
	metaNodeID   = "node_id"
	metaRevision = "revision"
	metaServers  = "servers"
	metaBootID   = "boot_id"
	metaCluster  = "cluster_id"
)

// Content is everything that was remembered.
type Content struct {
	Allocs  []*berthv1.Alloc
	Jobs    []*berthv1.Job
	Tasks   map[TaskKey]*Task
	Reports []*berthv1.AllocStatusUpdate
	// Removed are the allocs that the servers have forgotten and that still need
	// cleaning up.
	Removed map[string]bool
	// Health is what SaveHealth has stored, by alloc.
	Health   map[string]*berthv1.AllocStatusUpdate
	Revision uint64
}

// TaskKey names a task of an alloc.
type TaskKey struct{ Alloc, Task string }

func (k TaskKey) bytes() []byte { return []byte(k.Alloc + "/" + k.Task) }

// JobKey names one version of a job.
type JobKey struct {
	Namespace, Name string
	Version         uint64
}

// KeyOf is the key of a job's version.
func KeyOf(j *berthv1.Job) JobKey { return JobKey{j.GetNamespace(), j.GetName(), j.GetVersion()} }

// KeyFor is the key of the version that an alloc runs.
func KeyFor(a *berthv1.Alloc) JobKey {
	return JobKey{a.GetNamespace(), a.GetJob(), a.GetJobVersion()}
}

func (k JobKey) bytes() []byte {
	b := append([]byte(k.Namespace), 0)
	b = append(append(b, k.Name...), 0)
	return binary.BigEndian.AppendUint64(b, k.Version)
}

// Load reads everything.
func (s *Store) Load() (*Content, error) {
	var c *Content
	err := s.view(func(tx *bbolt.Tx) (err error) {
		c, err = load(tx)
		return err
	})
	return c, err
}

func load(tx *bbolt.Tx) (*Content, error) {
	c := &Content{Tasks: map[TaskKey]*Task{}, Removed: map[string]bool{}, Health: map[string]*berthv1.AllocStatusUpdate{}}
	err := each(tx, bucketAllocs, nil, func(k, v []byte) error {
		a := &berthv1.Alloc{}
		if err := proto.Unmarshal(v, a); err != nil || a.GetId() != string(k) {
			return corruptf("alloc %q cannot be read: %v", k, err)
		}
		c.Allocs = append(c.Allocs, a)
		return nil
	})
	if err != nil {
		return nil, err
	}
	err = each(tx, bucketJobs, nil, func(k, v []byte) error {
		j := &berthv1.Job{}
		if err := proto.Unmarshal(v, j); err != nil {
			return corruptf("job %q cannot be read: %v", k, err)
		}
		c.Jobs = append(c.Jobs, j)
		return nil
	})
	if err != nil {
		return nil, err
	}
	err = each(tx, bucketTasks, nil, func(k, v []byte) error {
		alloc, task, _ := strings.Cut(string(k), "/")
		t, err := decodeTask(v)
		if err != nil {
			return corruptf("task %q cannot be read: %v", k, err)
		}
		c.Tasks[TaskKey{alloc, task}] = t
		return nil
	})
	if err != nil {
		return nil, err
	}
	return c, loadRest(tx, c)
}

func loadRest(tx *bbolt.Tx, c *Content) error {
	err := each(tx, bucketReports, nil, func(k, v []byte) error {
		u := &berthv1.AllocStatusUpdate{}
		if err := proto.Unmarshal(v, u); err != nil {
			return corruptf("report %q cannot be read: %v", k, err)
		}
		c.Reports = append(c.Reports, u)
		return nil
	})
	if err != nil {
		return err
	}
	err = each(tx, bucketHealth, nil, func(k, v []byte) error {
		u := &berthv1.AllocStatusUpdate{}
		if err := proto.Unmarshal(v, u); err != nil {
			return corruptf("health of %q cannot be read: %v", k, err)
		}
		c.Health[string(k)] = u
		return nil
	})
	if err != nil {
		return err
	}
	err = each(tx, bucketRemoved, nil, func(k, _ []byte) error {
		c.Removed[string(k)] = true
		return nil
	})
	if err != nil {
		return err
	}
	return each(tx, bucketMeta, nil, func(k, v []byte) error {
		if string(k) == metaRevision && len(v) == 8 {
			c.Revision = binary.BigEndian.Uint64(v)
		}
		return nil
	})
}

// Assignments is a change of what the node is to run, stored before it is acted on.
type Assignments struct {
	Revision uint64
	Allocs   []*berthv1.Alloc
	Jobs     []*berthv1.Job
	Removed  []string
}

// Assign stores a change as a whole, or nothing of it.
func (s *Store) Assign(a Assignments) error {
	return s.update(func(tx *bbolt.Tx) error {
		for _, j := range a.Jobs {
			if err := putProto(tx, bucketJobs, KeyOf(j).bytes(), j); err != nil {
				return err
			}
		}
		for _, alloc := range a.Allocs {
			if err := putProto(tx, bucketAllocs, []byte(alloc.GetId()), alloc); err != nil {
				return err
			}
			if err := bucket(tx, bucketRemoved).Delete([]byte(alloc.GetId())); err != nil {
				return err
			}
		}
		for _, id := range a.Removed {
			if err := put(tx, bucketRemoved, []byte(id), nil); err != nil {
				return err
			}
		}
		return put(tx, bucketMeta, []byte(metaRevision), binary.BigEndian.AppendUint64(nil, a.Revision))
	})
}

// SaveTask stores how far a task is and, in the same transaction, the report that
// follows from it (nil: none). report is called inside the transaction, so that of two
// tasks that are saved at once the later one's report holds both.
func (s *Store) SaveTask(key TaskKey, t *Task, report func() *berthv1.AllocStatusUpdate) error {
	value, err := t.encode()
	if err != nil {
		return err
	}
	return s.update(func(tx *bbolt.Tx) error {
		if err := put(tx, bucketTasks, key.bytes(), value); err != nil {
			return err
		}
		u := report()
		if u == nil {
			return nil
		}
		return putProto(tx, bucketReports, []byte(u.GetAllocId()), u)
	})
}

// SaveReport stores a report that no server has confirmed yet.
func (s *Store) SaveReport(u *berthv1.AllocStatusUpdate) error {
	return s.update(func(tx *bbolt.Tx) error {
		return putProto(tx, bucketReports, []byte(u.GetAllocId()), u)
	})
}

// SaveHealth stores a report that no server has confirmed yet, and of it, for as long as
// the alloc is known, its health and the state of its checks.
func (s *Store) SaveHealth(u *berthv1.AllocStatusUpdate) error {
	keep := &berthv1.AllocStatusUpdate{
		AllocId: u.GetAllocId(), Health: u.GetHealth(), HealthTime: u.GetHealthTime(), HealthVersion: u.GetHealthVersion(), HasServices: u.GetHasServices(),
	}
	for _, i := range u.GetServices() {
		if len(i.GetChecks()) > 0 {
			keep.Services = append(keep.Services, &berthv1.ServiceInstance{Service: i.GetService(), Checks: i.GetChecks()})
		}
	}
	return s.update(func(tx *bbolt.Tx) error {
		id := []byte(u.GetAllocId())
		if bucket(tx, bucketAllocs).Get(id) == nil {
			return nil // it was forgotten meanwhile
		}
		if err := putProto(tx, bucketHealth, id, keep); err != nil {
			return err
		}
		return putProto(tx, bucketReports, id, u)
	})
}

// Confirm forgets reports that a server has made durable, unless newer ones have taken
// their place.
func (s *Store) Confirm(updates []*berthv1.AllocStatusUpdate) error {
	return s.update(func(tx *bbolt.Tx) error {
		b := bucket(tx, bucketReports)
		for _, u := range updates {
			key := []byte(u.GetAllocId())
			sealed := b.Get(key)
			if sealed == nil {
				continue
			}
			stored := &berthv1.AllocStatusUpdate{}
			if v, err := unseal(key, sealed); err == nil && proto.Unmarshal(v, stored) == nil && !proto.Equal(stored, u) {
				continue
			}
			if err := b.Delete(key); err != nil {
				return err
			}
		}
		return nil
	})
}

// Forget deletes everything about allocs, and the jobs that no other one runs.
func (s *Store) Forget(ids ...string) error {
	return s.updateThen(func(tx *bbolt.Tx) error {
		for _, id := range ids {
			for _, name := range [][]byte{bucketAllocs, bucketReports, bucketRemoved, bucketHealth} {
				if err := bucket(tx, name).Delete([]byte(id)); err != nil {
					return err
				}
			}
			if err := deletePrefix(tx, bucketTasks, []byte(id+"/")); err != nil {
				return err
			}
		}
		return nil
	}, forgetJobs)
}

// forgetJobs deletes the jobs that no alloc runs any more: it looks at all of them.
func forgetJobs(tx *bbolt.Tx) error {
	used := map[string]bool{}
	err := each(tx, bucketAllocs, nil, func(_, v []byte) error {
		a := &berthv1.Alloc{}
		if err := proto.Unmarshal(v, a); err != nil {
			return err
		}
		used[string(KeyFor(a).bytes())] = true
		return nil
	})
	if err != nil {
		return err
	}
	var unused [][]byte
	err = each(tx, bucketJobs, nil, func(k, _ []byte) error {
		if !used[string(k)] {
			unused = append(unused, bytes.Clone(k))
		}
		return nil
	})
	for _, k := range unused {
		if err == nil {
			err = bucket(tx, bucketJobs).Delete(k)
		}
	}
	return err
}

func deletePrefix(tx *bbolt.Tx, name, prefix []byte) error {
	var keys [][]byte
	c := bucket(tx, name).Cursor()
	for k, _ := c.Seek(prefix); k != nil && bytes.HasPrefix(k, prefix); k, _ = c.Next() {
		keys = append(keys, bytes.Clone(k))
	}
	for _, k := range keys {
		if err := bucket(tx, name).Delete(k); err != nil {
			return err
		}
	}
	return nil
}

// Servers are the servers' addresses as they were last heard of.
func (s *Store) Servers() []string {
	b, err := s.meta(metaServers)
	if err != nil || len(b) == 0 {
		return nil
	}
	return strings.Split(string(b), "\n")
}

// SetServers remembers the servers' addresses.
func (s *Store) SetServers(addrs []string) error {
	return s.setMeta(metaServers, []byte(strings.Join(addrs, "\n")))
}

// ClusterID is the cluster that the node belongs to; "" before it has joined one.
func (s *Store) ClusterID() string {
	b, _ := s.meta(metaCluster)
	return string(b)
}

// SetClusterID remembers the cluster.
func (s *Store) SetClusterID(id string) error { return s.setMeta(metaCluster, []byte(id)) }

// BootID is the boot in which the agent last ran; "" before its first.
func (s *Store) BootID() string {
	b, _ := s.meta(metaBootID)
	return string(b)
}

// SetBootID remembers the boot in which the agent runs.
func (s *Store) SetBootID(id string) error { return s.setMeta(metaBootID, []byte(id)) }

// meta gives a value of the meta bucket; nil: none.
func (s *Store) meta(key string) (value []byte, err error) {
	err = s.view(func(tx *bbolt.Tx) error {
		sealed := bucket(tx, bucketMeta).Get([]byte(key))
		if sealed == nil {
			return nil
		}
		v, err := unseal([]byte(key), sealed)
		value = bytes.Clone(v)
		return err
	})
	return value, err
}

func (s *Store) setMeta(key string, value []byte) error {
	return s.update(func(tx *bbolt.Tx) error { return put(tx, bucketMeta, []byte(key), value) })
}
