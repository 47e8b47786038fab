// Package state holds everything that is replicated: jobs, nodes, allocations,
// evaluations, namespaces. The FSM is its only writer; everybody else reads.
//
// A View is the whole state at one revision (the Raft index of the last entry that
// changed it), made in constant time and never changing: tables are copy-on-write
// B-trees, items are proto messages that are immutable once stored. Nobody holds a lock
// while reading.
//
// There are two ways to follow it: Watch wakes a reader when what it asked about has
// changed (blocking queries); Changes gives every change in order, deletions included,
// for those who keep something of their own up to date (plan loop, dispatch, events).
//
// The package uses no clock, no randomness and no map order: the same updates on two
// stores give the same Hash.
package state

import (
	"sync"
	"time"

	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

// Table names one kind of item.
type Table uint8

// The tables.
const (
	// TableAny stands for every table, in a Topic.
	TableAny Table = iota
	TableJobs
	TableNodes
	TableAllocs
	TableEvaluations
	TableNamespaces
	TableConfig
	TableReservations
	TableDeployments
	TableServices
	TableVariables
	TableImages
	// TableSchedules is the jobs with a schedule, for those who watch only them: it has no
	// changes of its own.
	TableSchedules
	tableCount
)

var tableNames = [tableCount]string{"any", "job", "node", "alloc", "evaluation", "namespace", "config", "reservation", "deployment", "service", "variable", "image", "schedule"}

// String is the table's name as events have it ("job", "alloc", ...).
func (t Table) String() string {
	if t < tableCount {
		return tableNames[t]
	}
	return "unknown"
}

// Store is the state and its history of changes.
type Store struct {
	mu       sync.Mutex
	live     tables
	nodeOf   map[string]*berthv1.Node // the live ones, by id
	view     *View                    // of the live tables; nil when they have changed since
	history  history
	watchers watchers
	awaited  map[uint64]chan struct{} // by revision; see Reached
}

// DefaultHistory is how many changes a Store keeps for Changes.
const DefaultHistory = 1 << 15

// New makes an empty store at revision 0 that keeps the last DefaultHistory changes.
func New() *Store { return NewSized(DefaultHistory) }

// NewSized makes an empty store that keeps the last n changes.
func NewSized(n int) *Store {
	return &Store{live: newTables(), nodeOf: map[string]*berthv1.Node{}, history: newHistory(n), awaited: map[uint64]chan struct{}{}}
}

// View is the state at one revision.
type View struct {
	tables
}

// View gives the state as it is now.
func (s *Store) View() *View {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.view == nil {
		s.view = &View{tables: s.live.copy()}
	}
	return s.view
}

// Revision is the revision of the last change.
func (s *Store) Revision() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.live.revision
}

// The next are what a View has, too. Those who ask after every change, or by the thousand, ask here: a View
// for each of them would have the writer copy what it writes next.

// NodeCount is the number of nodes.
func (s *Store) NodeCount() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.live.NodeCount()
}

// ClusterID identifies the cluster for life; empty before its first leader.
func (s *Store) ClusterID() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.live.ClusterID()
}

// JobVersion gives one version of a job that is still kept; nil: it is not.
func (s *Store) JobVersion(namespace, name string, version uint64) *berthv1.Job {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.live.JobVersion(namespace, name, version)
}

// OnNode gives the allocations of a node, in no order that means anything, and the revision
// at which they are all.
func (s *Store) OnNode(nodeID string) (rows []AllocRow, revision uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for row := range s.live.AllocRowsByNode(nodeID) {
		rows = append(rows, *row)
	}
	return rows, s.live.revision
}

// NodesOf gives nodes by their ids (nil: there is none).
func (s *Store) NodesOf(ids []string) []*berthv1.Node {
	s.mu.Lock()
	defer s.mu.Unlock()
	nodes := make([]*berthv1.Node, len(ids))
	for i, id := range ids {
		nodes[i] = s.nodeOf[id]
	}
	return nodes
}

// Tx is a change in the making. It reads what it has written.
type Tx struct {
	*tables
	store    *Store
	revision uint64
	time     time.Time
}

// Revision is the revision that this change makes.
func (tx *Tx) Revision() uint64 { return tx.revision }

// Time is when the change was proposed.
func (tx *Tx) Time() time.Time { return tx.time }

// Update changes the state. fn must check everything before it writes: there is no
// way back. The revision must be above the last one's; fn must not keep tx.
func (s *Store) Update(revision uint64, at time.Time, fn func(tx *Tx)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	tx := &Tx{tables: &s.live, store: s, revision: revision, time: at}
	fn(tx)
	s.live.revision = revision
	s.view = nil
	s.watchers.wake()
	s.reached()
}

// Replace takes over the whole state of another store that nobody else uses (a restored
// one). Every watcher is woken. Nobody can go on from a revision of before: Changes
// refuses until there is a revision above both states', so that whoever follows reads
// a View.
func (s *Store) Replace(other *Store) {
	s.mu.Lock()
	defer s.mu.Unlock()
	floor := other.live.revision
	if s.live.revision > 0 {
		floor = max(floor, s.live.revision) + 1
	}
	s.live, s.nodeOf = other.live, other.nodeOf
	s.view = nil
	s.history.reset(floor)
	s.watchers.wakeAll()
	s.reached()
}
