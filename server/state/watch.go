package state

import (
	"strings"
	"sync"
)

// Topic is something that can be watched.
type Topic struct {
	Table Table
	// Key narrows it; empty: the whole table. JobKey for a job or variable and for the allocations,
	// evaluations and deployments of a job, and with a service's name for its instances, NodeKey for the allocations of a node, otherwise the
	// item's id or name.
	Key string
}

// JobKey is the Topic key of a job.
func JobKey(namespace, job string) string { return namespace + "/" + job }

// NodeKey is the Topic key of a node's allocations.
func NodeKey(nodeID string) string { return nodePrefix + nodeID }

const nodePrefix = "node:"

// Watch tells when a topic has changed. Make it before reading the View that it is to
// guard, or a change in between is missed.
type Watch struct {
	// C is closed at the first change.
	C <-chan struct{}

	c      chan struct{}
	topics []Topic
	store  *Store
	woken  bool
}

// Watch makes a watch of some topics. It must be closed.
func (s *Store) Watch(topics ...Topic) *Watch {
	w := &Watch{c: make(chan struct{}), topics: topics, store: s}
	w.C = w.c
	s.mu.Lock()
	defer s.mu.Unlock()
	s.watchers.add(w)
	return w
}

// Close ends the watch; more than once does no harm.
func (w *Watch) Close() {
	w.store.mu.Lock()
	defer w.store.mu.Unlock()
	w.store.watchers.remove(w)
}

// Reached gives a channel that is closed when the store has come to a revision. It is for those
// that wait by the thousand: each costs a map entry, and only what it waits for wakes it.
func (s *Store) Reached(revision uint64) <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.live.revision >= revision {
		return closed
	}
	c := s.awaited[revision]
	if c == nil {
		c = make(chan struct{})
		s.awaited[revision] = c
	}
	return c
}

// closed is for those that need not wait.
var closed = func() chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}()

// reached wakes those that wait for the revisions up to now. Those after the last one are few: what is
// waited for was made durable already.
func (s *Store) reached() {
	for revision, c := range s.awaited {
		if revision <= s.live.revision {
			close(c)
			delete(s.awaited, revision)
		}
	}
}

// watchers finds the watches that a change concerns. Guarded by the Store's lock.
type watchers struct {
	byTopic map[Topic]map[*Watch]struct{}
	keyed   [tableCount]int  // number of registrations with a key, per table
	due     []*Watch         // to wake when the update is complete
	marked  [tableCount]bool // whose watches are due
}

func (ws *watchers) add(w *Watch) {
	if ws.byTopic == nil {
		ws.byTopic = map[Topic]map[*Watch]struct{}{}
	}
	for _, t := range w.topics {
		set := ws.byTopic[t]
		if set == nil {
			set = map[*Watch]struct{}{}
			ws.byTopic[t] = set
		}
		if _, again := set[w]; !again && t.Key != "" {
			ws.keyed[t.Table]++
		}
		set[w] = struct{}{}
	}
}

func (ws *watchers) remove(w *Watch) {
	for _, t := range w.topics {
		set := ws.byTopic[t]
		if _, ok := set[w]; !ok {
			continue
		}
		delete(set, w)
		if t.Key != "" {
			ws.keyed[t.Table]--
		}
		if len(set) == 0 {
			delete(ws.byTopic, t)
		}
	}
}

// changed marks the watches of a change as due. Keys are only made where somebody
// watches one.
func (ws *watchers) changed(c change) {
	if len(ws.byTopic) == 0 {
		return
	}
	ws.markTable(c.table)
	if ws.keyed[c.table] == 0 {
		return
	}
	if c.table == TableJobs || c.table == TableVariables {
		ws.mark(Topic{c.table, JobKey(c.namespace, c.key)})
		return
	}
	ws.mark(Topic{c.table, c.key})
	if c.job != "" {
		ws.mark(Topic{c.table, JobKey(c.namespace, c.job)})
	}
}

// allocChanged is changed for an allocation.
func (ws *watchers) allocChanged(r *AllocRow) {
	if len(ws.byTopic) == 0 {
		return
	}
	ws.markTable(TableAllocs)
	if ws.keyed[TableAllocs] == 0 {
		return
	}
	ws.mark(Topic{TableAllocs, r.ID().String()})
	ws.mark(Topic{TableAllocs, JobKey(r.Namespace(), r.Job())})
	ws.mark(Topic{TableAllocs, NodeKey(r.NodeID())})
}

// markTable marks the watches of a table, once an update.
func (ws *watchers) markTable(table Table) {
	if ws.marked[table] {
		return
	}
	ws.marked[table] = true
	ws.mark(Topic{Table: TableAny})
	ws.mark(Topic{Table: table})
}

func (ws *watchers) mark(t Topic) {
	for w := range ws.byTopic[t] {
		if !w.woken {
			w.woken = true
			ws.due = append(ws.due, w)
		}
	}
}

func (ws *watchers) wake() {
	for i, w := range ws.due {
		close(w.c)
		ws.due[i] = nil
	}
	ws.due = ws.due[:0]
	ws.marked = [tableCount]bool{}
}

func (ws *watchers) wakeAll() {
	for t := range ws.byTopic {
		ws.mark(t)
	}
	ws.wake()
}

// revisions knows when each topic was last changed. It is shared by the live tables and
// all views, and so has a lock of its own.
type revisions struct {
	mu     sync.Mutex
	tables [tableCount]uint64
	ofJobs map[ofJob]uint64
}

// ofJob is what a table has of a job.
type ofJob struct {
	table           Table
	namespace, name string
}

func newRevisions() *revisions {
	return &revisions{ofJobs: map[ofJob]uint64{}}
}

func (r *revisions) changed(revision uint64, c change) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.tables[TableAny] = revision
	r.tables[c.table] = revision
	switch {
	case c.job != "":
		r.ofJobs[ofJob{c.table, c.namespace, c.job}] = revision
	case c.table == TableJobs && c.after == nil:
		delete(r.ofJobs, ofJob{TableEvaluations, c.namespace, c.key})
		delete(r.ofJobs, ofJob{TableDeployments, c.namespace, c.key})
	}
}

// allocRevised is revisions.changed for an allocation, apart from its job and node.
func (tx *Tx) allocRevised() {
	tx.revised.mu.Lock()
	tx.revised.tables[TableAny], tx.revised.tables[TableAllocs] = tx.revision, tx.revision
	tx.revised.mu.Unlock()
}

// Revised is the revision of the last change of what a topic names, at most the view's
// own. Where that is not known item by item (or the item is gone), it is the table's:
// never too early, so that nobody who waits for it misses a change.
func (t *tables) Revised(topic Topic) uint64 {
	if topic.Key != "" {
		if r, ok := t.revisedKey(topic); ok {
			return min(r, t.revision)
		}
	}
	t.revised.mu.Lock()
	defer t.revised.mu.Unlock()
	return min(t.revised.tables[topic.Table], t.revision)
}

func (t *tables) revisedKey(topic Topic) (uint64, bool) {
	namespace, name, isJob := strings.Cut(topic.Key, "/")
	switch topic.Table {
	case TableJobs:
		job := t.Job(namespace, name)
		return job.GetModifyRevision(), job != nil
	case TableNodes:
		node := t.Node(topic.Key)
		return node.GetModifyRevision(), node != nil
	case TableEvaluations, TableDeployments, TableServices:
		if isJob {
			t.revised.mu.Lock()
			defer t.revised.mu.Unlock()
			r, ok := t.revised.ofJobs[ofJob{topic.Table, namespace, name}]
			return r, ok
		}
		if topic.Table == TableDeployments {
			d := t.Deployment(topic.Key)
			return d.GetModifyRevision(), d != nil
		}
		if topic.Table == TableServices {
			return 0, false
		}
		eval := t.Evaluation(topic.Key)
		return eval.GetModifyRevision(), eval != nil
	case TableVariables:
		v := t.Variable(namespace, name)
		return v.GetModifyRevision(), v != nil
	case TableImages:
		i := t.Image(topic.Key)
		return i.GetModifyRevision(), i != nil
	case TableNamespaces:
		ns := t.Namespace(topic.Key)
		return ns.GetModifyRevision(), ns != nil
	case TableReservations:
		r := t.Reservation(topic.Key)
		return r.GetModifyRevision(), r != nil
	case TableAllocs:
		if nodeID, ok := strings.CutPrefix(topic.Key, nodePrefix); ok {
			if n, ok := t.allocs.nodeIDs.Get(&allocNode{id: nodeID}); ok {
				return n.revised.Load(), true
			}
			return 0, false
		}
		if isJob {
			if j, ok := t.allocs.jobNames.Get(&allocJob{namespace: namespace, name: name}); ok {
				return j.revised.Load(), true
			}
			return 0, false
		}
		alloc := t.AllocRow(topic.Key)
		return alloc.ModifyRevision(), alloc.Exists()
	}
	return 0, false
}
