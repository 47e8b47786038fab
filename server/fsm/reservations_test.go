package fsm

import (
	"testing"
	"time"

	"github.com/berthd/berth/problem"
	berthv1 "github.com/berthd/berth/proto/berth/v1"
	"github.com/berthd/berth/scheduler"
	"github.com/berthd/berth/server/state"
)

// scripted applies facts one second after the other.
type scripted struct {
	t     *testing.T
	f     *FSM
	store *state.Store
	at    time.Time
	index uint64
}

// newScripted is a cluster with the nodes n0 and n1, and version 1 of the jobs j0 and j1;
// j1 names the reservation r.
func newScripted(t *testing.T) *scripted {
	f, store := newTestFSM(t)
	s := &scripted{t: t, f: f, store: store, at: epoch}
	s.apply(func(e *berthv1.LogEntry) {
		e.Fact = &berthv1.LogEntry_ClusterCreated{ClusterCreated: &berthv1.ClusterCreated{ClusterId: "c"}}
	})
	for i, id := range []string{"n0", "n1"} {
		s.apply(func(e *berthv1.LogEntry) {
			e.Fact = &berthv1.LogEntry_NodeRegistered{NodeRegistered: &berthv1.NodeRegistered{Node: &berthv1.Node{Id: id, Name: id, Hardware: &berthv1.Hardware{
				DiskMib: 1000, Cells: []*berthv1.Cell{{Cores: []string{"0,2", "1,3"}, MemoryMib: 4096}}, Devices: []*berthv1.Device{{Id: "g", Kind: "gpu", Healthy: true}},
			}}}}
		})
		s.apply(func(e *berthv1.LogEntry) {
			e.Fact = &berthv1.LogEntry_JobRegistered{JobRegistered: &berthv1.JobRegistered{
				Job: &berthv1.Job{Name: []string{"j0", "j1"}[i], Namespace: "default", Version: 1, Reservation: []string{"", "r"}[i]}}}
		})
	}
	return s
}

func (s *scripted) apply(set func(*berthv1.LogEntry)) Result {
	s.index++
	s.at = s.at.Add(time.Second)
	return s.f.apply(s.index, encode(NewEntry(s.at, set)))
}

func (s *scripted) reserve(r *berthv1.Reservation) error {
	return s.apply(func(e *berthv1.LogEntry) { e.Fact = &berthv1.LogEntry_ReservationSet{ReservationSet: r} }).Err
}

// place proposes an allocation of a job and gives why it was refused; nil: it was not.
func (s *scripted) place(id, job, node string, a *berthv1.Assignment) error {
	r := s.apply(func(e *berthv1.LogEntry) {
		e.Fact = &berthv1.LogEntry_Plan{Plan: &berthv1.Plan{Placements: []*berthv1.Alloc{{
			Id: id, Namespace: "default", Job: job, JobVersion: 1, Group: "g", NodeId: node, Assignment: a}}}}
	})
	if len(r.Refused) > 0 {
		return r.Refused[0].Reason
	}
	return r.Err
}

func allocID(n int) string {
	return []string{"a", "b", "c", "d", "e", "f"}[n] + "0000000-0000-4000-8000-000000000000"
}

func TestReservedNodesTakeOnlyTheirJob(t *testing.T) {
	s := newScripted(t)
	begin, end := s.at.Add(3*time.Second), s.at.Add(7*time.Second)
	if err := s.reserve(&berthv1.Reservation{Name: "r", NodeIds: []string{"n0"}, Jobs: []string{"default/j1"}, StartTime: timestamp(begin), EndTime: timestamp(end)}); err != nil {
		t.Fatal(err)
	}
	disk := &berthv1.Assignment{DiskMib: 1}
	for i, c := range []struct {
		job, node string
		ok        bool
	}{
		{"j1", "n0", false}, // it does not hold yet
		{"j0", "n0", false}, // it holds
		{"j1", "n0", true},
		{"j1", "n1", false}, // not its node
		{"j0", "n1", true},
		{"j0", "n0", true}, // it is over
	} {
		err := s.place(allocID(i), c.job, c.node, disk)
		if (err == nil) != c.ok || err != nil && !problem.Is(err, problem.Conflict) {
			t.Errorf("%d: %s on %s: %v", i, c.job, c.node, err)
		}
	}
}

func TestReservationsAreRefused(t *testing.T) {
	s := newScripted(t)
	at := func(d time.Duration) *berthv1.Reservation {
		return &berthv1.Reservation{Name: "later", NodeIds: []string{"n0"}, StartTime: timestamp(s.at.Add(d))}
	}
	if err := s.reserve(at(time.Hour)); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		r    *berthv1.Reservation
		kind problem.Kind
	}{
		{&berthv1.Reservation{NodeIds: []string{"n0"}}, problem.Invalid},
		{&berthv1.Reservation{Name: "none"}, problem.Invalid},
		{&berthv1.Reservation{Name: "later", NodeIds: []string{"n1"}}, problem.Exists},
		{&berthv1.Reservation{Name: "lost", NodeIds: []string{"n9"}}, problem.NotFound},
		{&berthv1.Reservation{Name: "over", NodeIds: []string{"n1"}, EndTime: timestamp(s.at)}, problem.Invalid},
		{&berthv1.Reservation{Name: "ever", NodeIds: []string{"n1", "n0"}}, problem.Conflict},
	} {
		if err := s.reserve(c.r); !problem.Is(err, c.kind) {
			t.Errorf("%v: %v", c.r, err)
		}
	}
	if err := s.reserve(&berthv1.Reservation{Name: "before", NodeIds: []string{"n0"}, EndTime: timestamp(s.at.Add(time.Minute))}); err != nil {
		t.Errorf("one that ends before the other begins: %v", err)
	}
	deleted := func() error {
		return s.apply(func(e *berthv1.LogEntry) {
			e.Fact = &berthv1.LogEntry_ReservationDeleted{ReservationDeleted: &berthv1.ReservationDeleted{Name: "later"}}
		}).Err
	}
	if err := deleted(); err != nil {
		t.Error(err)
	}
	if err := deleted(); !problem.Is(err, problem.NotFound) {
		t.Errorf("deleted twice: %v", err)
	}
}

// Whatever is proposed: what is new on a node at a time is what its reservation allows.
func TestReservationsAreNeverViolated(t *testing.T) {
	onReserved, refused := 0, 0
	for seed := range uint64(8) {
		f, store := newTestFSM(t)
		s := newSource(seed+100, store)
		for i := range 2000 {
			e := s.entry()
			before := store.View()
			refused += len(f.apply(uint64(i+1), encode(e)).Refused)
			for _, p := range e.GetPlan().GetPlacements() {
				a := store.View().Alloc(p.GetId())
				if a == nil || a.GetCreateRevision() != uint64(i+1) {
					continue
				}
				job := before.JobVersion("default", a.GetJob(), a.GetJobVersion())
				var reserved *berthv1.Reservation
				for r := range before.Reservations() {
					for _, id := range r.GetNodeIds() {
						if id == a.GetNodeId() && scheduler.ReservationHolds(r, e.GetTime().AsTime()) {
							reserved = r
							onReserved++
						}
					}
				}
				if (reserved == nil) != (job.GetReservation() == "") || reserved != nil && (reserved.GetName() != job.GetReservation() ||
					!scheduler.ReservationAllows(reserved, "default", a.GetJob())) {
					t.Fatalf("seed %d, entry %d: job %q with reservation %q is on a node that %v holds", seed, i+1, a.GetJob(), job.GetReservation(), reserved)
				}
			}
		}
	}
	if refused == 0 || onReserved == 0 {
		t.Errorf("%d refused, %d on reserved nodes: the test is void", refused, onReserved)
	}
}

func TestOperatorTaintsAreKept(t *testing.T) {
	s := newScripted(t)
	change := func(add []*berthv1.Taint, remove ...string) {
		s.apply(func(e *berthv1.LogEntry) {
			e.Fact = &berthv1.LogEntry_NodesChanged{NodesChanged: &berthv1.NodesChanged{NodeIds: []string{"n0"}, AddTaints: add, RemoveTaints: remove}}
		})
	}
	check := func(want string) {
		t.Helper()
		got := ""
		for _, x := range s.store.View().Node("n0").GetOperatorTaints() {
			got += x.GetKey() + "=" + x.GetValue() + ":" + x.GetEffect().String() + " "
		}
		if got != want {
			t.Errorf("the taints are %q, want %q", got, want)
		}
	}
	change([]*berthv1.Taint{{Key: "b", Value: "1"}, {Key: "a"}, {Key: "b", Value: "2"}})
	check("a=:keep_off b=1:keep_off b=2:keep_off ")
	change([]*berthv1.Taint{{Key: "a", Effect: berthv1.Taint_avoid}}, "b=2")
	check("a=:avoid b=1:keep_off ")
	s.apply(func(e *berthv1.LogEntry) {
		e.Fact = &berthv1.LogEntry_NodeRegistered{NodeRegistered: &berthv1.NodeRegistered{Node: &berthv1.Node{Id: "n0", Name: "n0",
			Taints: []*berthv1.Taint{{Key: "own"}}, OperatorTaints: []*berthv1.Taint{{Key: "smuggled"}}}}}
	})
	check("a=:avoid b=1:keep_off ")
	change(nil, "a", "b")
	check("")
}
