package fsm

import (
	"fmt"
	"math/rand/v2"
	"time"

	"google.golang.org/protobuf/proto"

	berthv1 "github.com/berthd/berth/proto/berth/v1"
	"github.com/berthd/berth/server/rows"
	"github.com/berthd/berth/server/state"
)

// source makes random facts about a small world, so that they meet often: valid ones,
// doubled ones, late ones and nonsense.
type source struct {
	rng    *rand.Rand
	store  *state.Store // to refer to what is there
	serial int
}

func newSource(seed uint64, store *state.Store) *source {
	return &source{rng: rand.New(rand.NewPCG(seed, 7)), store: store}
}

var epoch = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func (s *source) entry() *berthv1.LogEntry {
	s.serial++
	e := &berthv1.LogEntry{Version: EntryVersion, Time: timestamp(epoch.Add(time.Duration(s.serial) * time.Second))}
	switch n := s.rng.IntN(100); {
	case s.serial == 1:
		e.Fact = &berthv1.LogEntry_ClusterCreated{ClusterCreated: &berthv1.ClusterCreated{ClusterId: "c1"}}
	case s.serial%9 == 0:
		s.family(e)
	case n < 12:
		e.Fact = &berthv1.LogEntry_JobRegistered{JobRegistered: s.job()}
	case n < 15:
		e.Fact = &berthv1.LogEntry_JobStopped{JobStopped: &berthv1.JobStopped{
			Namespace: "default", Job: s.jobName(), Purge: s.rng.IntN(3) == 0, Evaluation: s.eval(s.jobName())}}
	case n < 22:
		e.Fact = &berthv1.LogEntry_NodeRegistered{NodeRegistered: &berthv1.NodeRegistered{Node: s.node()}}
	case n < 27:
		e.Fact = &berthv1.LogEntry_NodesChanged{NodesChanged: s.nodesChanged()}
	case n < 65:
		e.Fact = &berthv1.LogEntry_Plan{Plan: s.plan()}
	case n < 87:
		e.Fact = &berthv1.LogEntry_AllocsReported{AllocsReported: s.reported()}
	case n < 91:
		s.reservation(e)
	case n < 92:
		e.Fact = &berthv1.LogEntry_NamespaceSet{NamespaceSet: s.namespace()}
	case n < 94:
		e.Fact = &berthv1.LogEntry_NamespaceDeleted{NamespaceDeleted: &berthv1.NamespaceDeleted{Name: s.pick("a", "b", "default", "none")}}
	case n < 95:
		e.Fact = &berthv1.LogEntry_SchedulerConfigSet{SchedulerConfigSet: &berthv1.SchedulerConfig{Paused: s.rng.IntN(2) == 0}}
	case n < 96:
		e.Fact = &berthv1.LogEntry_EvaluationsCreated{EvaluationsCreated: &berthv1.EvaluationsCreated{Evaluations: []*berthv1.Evaluation{s.eval(s.jobName())}}}
	case n < 97:
		e.Fact = &berthv1.LogEntry_GangsDropped{GangsDropped: &berthv1.GangsDropped{Gangs: []string{s.pick("g0", "g1", "g2")}}}
	case n < 98:
		s.deployed(e)
	default:
		e.Fact = &berthv1.LogEntry_Collected{Collected: s.collected()}
	}
	return e
}

func (s *source) pick(of ...string) string { return of[s.rng.IntN(len(of))] }
func (s *source) jobName() string          { return s.pick("j0", "j1", "j2", "j3") }
func (s *source) nodeID() string           { return s.pick("n0", "n1", "n2", "n3", "n4") }

func (s *source) eval(job string) *berthv1.Evaluation {
	return &berthv1.Evaluation{Id: fmt.Sprintf("e%03d", s.rng.IntN(40)), Namespace: "default", Job: job}
}

func (s *source) job() *berthv1.JobRegistered {
	name := s.jobName()
	stored := s.store.View().Job("default", name)
	r := &berthv1.JobRegistered{
		Job: &berthv1.Job{Name: name, Namespace: s.pick("default", "default", "default", "a"), Version: stored.GetVersion() + 1, Priority: uint32(s.rng.IntN(100)),
			Reservation: s.pick("", "", "r0"), Groups: []*berthv1.Group{{Name: "g", Update: &berthv1.UpdateStrategy{Health: s.pick("checks", "manual")}, Services: []*berthv1.Service{{Name: "s0"}, {Name: "s1"}}}}},
		Evaluation: s.eval(name),
	}
	if s.rng.IntN(4) == 0 {
		r.Job.Version += uint64(s.rng.IntN(3))
		r.Check, r.CheckRevision = true, stored.GetSpecRevision()+uint64(s.rng.IntN(2))
	}
	return r
}

func (s *source) node() *berthv1.Node {
	id := s.nodeID()
	cores := []string{"0,4", "1,5", "2,6", "3,7"}
	return &berthv1.Node{Id: id, Name: "name-" + id, MinPort: 100, MaxPort: 110, Hardware: &berthv1.Hardware{
		DiskMib: 10000,
		Cells: []*berthv1.Cell{
			{Id: 0, Cores: cores[:1+s.rng.IntN(4)], MemoryMib: uint64(1000 + s.rng.IntN(2)*500)},
			{Id: 1, Cores: []string{"8,12", "9,13"}, MemoryMib: 1000, Hugepages: []*berthv1.Hugepages{{SizeKib: 2048, Count: 10}}},
		},
		Devices: []*berthv1.Device{{Id: "g0", Kind: "gpu", Healthy: s.rng.IntN(5) > 0}, {Id: "g1", Kind: "gpu", Healthy: true, ShareableMilli: 100}},
	}}
}

func (s *source) namespace() *berthv1.Namespace {
	ns := &berthv1.Namespace{Name: s.pick("a", "default", "default", "")}
	if s.rng.IntN(3) > 0 {
		ns.Quota = &berthv1.Quota{CpuMilli: uint64(s.rng.IntN(3) * 2500), MemoryMib: uint64(s.rng.IntN(2) * 600), DevicesMilli: map[string]uint64{"gpu": uint64(s.rng.IntN(3) * 500)}}
	}
	return ns
}

func (s *source) reservation(e *berthv1.LogEntry) {
	name := s.pick("r0", "r1", "")
	if s.rng.IntN(2) == 0 {
		e.Fact = &berthv1.LogEntry_ReservationDeleted{ReservationDeleted: &berthv1.ReservationDeleted{Name: name}}
		return
	}
	r := &berthv1.Reservation{Name: name, NodeIds: []string{s.nodeID(), s.nodeID()}, Jobs: []string{"default/" + s.jobName()}}
	if s.rng.IntN(2) == 0 {
		r.Namespaces = []string{"default"}
	}
	if s.rng.IntN(2) == 0 {
		r.EndTime = timestamp(e.GetTime().AsTime().Add(time.Duration(s.rng.IntN(60)-5) * time.Second))
	}
	e.Fact = &berthv1.LogEntry_ReservationSet{ReservationSet: r}
}

func (s *source) nodesChanged() *berthv1.NodesChanged {
	c := &berthv1.NodesChanged{NodeIds: []string{s.nodeID(), s.nodeID()}}
	switch s.rng.IntN(7) {
	case 5:
		c.Drain = &berthv1.Drain{IgnoreSystem: s.rng.IntN(2) == 0}
		if s.rng.IntN(2) == 0 {
			c.Drain.DoneTime = timestamp(epoch)
		}
	case 6:
		c.EndDrain = true
	case 0:
		c.Remove = true
	case 2:
		c.AddTaints = []*berthv1.Taint{{Key: s.pick("k", "l"), Value: s.pick("", "v")}, {Key: "k", Effect: berthv1.Taint_avoid}}
		c.RemoveTaints = []string{s.pick("k", "k=v", "none")}
	case 1:
		c.Eligibility = berthv1.Node_Eligibility(s.rng.IntN(2)).Enum()
	default:
		c.Status, c.Reason = berthv1.Node_Status(s.rng.IntN(4)).Enum(), "because"
	}
	return c
}

// allocID is one of 200 ids, so that placements meet ids that are there.
func (s *source) allocID() string {
	if s.rng.IntN(2) == 0 {
		return rows.NewIDs(s.base()).At(s.rng.IntN(3)).String()
	}
	return fmt.Sprintf("00000000-0000-4000-8000-%012d", s.rng.IntN(200))
}

func (s *source) plan() *berthv1.Plan {
	p := &berthv1.Plan{Atomic: s.rng.IntN(5) == 0}
	if p.GetAtomic() && s.rng.IntN(2) == 0 {
		p.Gang, p.GangParts = s.pick("g0", "g1", "g2"), 2
	}
	p.Placements = s.plannedAllocs()
	if s.rng.IntN(2) == 0 {
		p.Rows, p.Placements = s.asRows(p.GetPlacements()), nil
	}
	for range s.rng.IntN(3) {
		c := &berthv1.AllocChange{AllocId: s.allocID(), DesiredReason: "r"}
		switch s.rng.IntN(5) {
		case 4:
			s.resize(c)
		case 0:
			c.Status = berthv1.Alloc_Status(s.rng.IntN(6)).Enum()
		case 1:
			c.JobVersion, c.Promote = uint64(s.rng.IntN(5)), s.rng.IntN(2) == 0
		default:
			c.Desired = berthv1.Alloc_Desired(s.rng.IntN(3)).Enum()
		}
		p.Changes = append(p.Changes, c)
	}
	if s.rng.IntN(2) == 0 {
		job := s.jobName()
		p.Evaluations = append(p.Evaluations, s.eval(job))
		p.Jobs = append(p.Jobs, &berthv1.JobStatusChange{Namespace: "default", Job: job, Status: berthv1.Job_Status(s.rng.IntN(3))})
	}
	if s.rng.IntN(3) == 0 {
		p.Deployments = append(p.Deployments, s.deployment())
	}
	return p
}

// resize gives an allocation another grant, mostly one that is there and with a version
// that is kept.
func (s *source) resize(c *berthv1.AllocChange) {
	for _, a := range s.plannedAllocs() {
		c.Assignment = a.GetAssignment()
	}
	for a := range s.store.View().Allocs("") {
		if c.JobVersion = a.GetJobVersion(); a.Wanted() && s.rng.IntN(4) == 0 {
			c.AllocId = a.GetId()
		}
	}
}

// plannedAllocs are a few placements.
func (s *source) plannedAllocs() (out []*berthv1.Alloc) {
	for range s.rng.IntN(4) {
		job := s.jobName()
		cell := &berthv1.CellGrant{Cell: uint32(s.rng.IntN(2)), MemoryMib: uint64(s.rng.IntN(200)), CpuMilli: uint32(s.rng.IntN(900))}
		grant := &berthv1.TaskGrant{Task: "t", Cells: []*berthv1.CellGrant{cell}}
		switch s.rng.IntN(6) {
		case 0:
			cell.Cpus = s.pick("0,4", "1,5", "2", "8-9", "99", "x")
		case 1:
			cell.Hugepages = []*berthv1.Hugepages{{SizeKib: 2048, Count: uint64(s.rng.IntN(6))}}
		case 2:
			grant.Devices = []*berthv1.DeviceGrant{{Kind: "gpu", Id: s.pick("g0", "g1", "g9"), ShareMilli: uint32(s.rng.IntN(3) * 500)}}
		}
		a := &berthv1.Assignment{Tasks: []*berthv1.TaskGrant{grant}, DiskMib: uint64(s.rng.IntN(100))}
		if s.rng.IntN(3) == 0 {
			a.Ports = []*berthv1.PortGrant{{Name: "http", Port: uint32(100 + s.rng.IntN(12))}}
		}
		out = append(out, &berthv1.Alloc{
			Id: s.allocID(), Namespace: "default", Job: job, Group: "g", NodeId: s.nodeID(), Assignment: a,
			JobVersion: s.store.View().Job("default", job).GetVersion(), PreviousAlloc: s.allocID(), Canary: s.rng.IntN(3) == 0,
		})
	}
	return out
}

// asRows writes placements as rows. Their ids are those of one of a few bases.
func (s *source) asRows(placements []*berthv1.Alloc) []byte {
	w := rows.NewPlacementWriter(s.base())
	for _, a := range placements {
		w.Cohort(rows.Cohort{Namespace: a.GetNamespace(), Job: a.GetJob(), Group: a.GetGroup(), EvalID: s.pick("e001", "e002"), JobVersion: a.GetJobVersion()})
		extra := &berthv1.Alloc{PreviousAlloc: a.GetPreviousAlloc(), Canary: a.GetCanary()}
		if s.rng.IntN(2) == 0 {
			extra = nil
		}
		w.Add(a.GetNodeId(), uint32(s.rng.IntN(3)), a.GetAssignment(), extra)
		if s.rng.IntN(2) == 0 {
			w.Add(a.GetNodeId(), uint32(s.rng.IntN(3)), a.GetAssignment(), nil)
		}
	}
	return w.Bytes()
}

func (s *source) base() rows.ID { return rows.ID{byte(s.rng.IntN(30))} }

func (s *source) reported() *berthv1.AllocsReported {
	r := &berthv1.AllocsReported{}
	if s.rng.IntN(2) == 0 {
		w := &rows.ReportWriter{}
		for range 1 + s.rng.IntN(5) {
			u := &berthv1.AllocStatusUpdate{AllocId: s.allocID(), Status: berthv1.Alloc_Status(s.rng.IntN(7)), StatusTime: timestamp(epoch)}
			if s.rng.IntN(3) == 0 {
				u.StatusReason, u.Tasks = "so", []*berthv1.TaskState{{Task: "t"}}
			}
			s.health(u)
			s.offers(u)
			w.Add(u)
		}
		r.Rows = w.Bytes()
		return r
	}
	for range 1 + s.rng.IntN(5) {
		r.Updates = append(r.Updates, &berthv1.AllocStatusUpdate{
			AllocId: s.allocID(), Status: berthv1.Alloc_Status(s.rng.IntN(6)),
			Tasks: []*berthv1.TaskState{{Task: "t", Restarts: uint32(s.rng.IntN(9))}},
		})
		s.health(r.Updates[len(r.Updates)-1])
		s.offers(r.Updates[len(r.Updates)-1])
	}
	return r
}

func (s *source) offers(u *berthv1.AllocStatusUpdate) {
	if s.rng.IntN(3) > 0 {
		return
	}
	u.HasServices = true
	for range s.rng.IntN(4) {
		u.Services = append(u.Services, &berthv1.ServiceInstance{
			Service: s.pick("s0", "s1", "none"), Address: s.pick("10.0.0.1", "10.0.0.2"), Port: 80, Ready: s.rng.IntN(2) == 0, Reason: s.pick("", "so"),
		})
	}
}

func (s *source) collected() *berthv1.Collected {
	c := &berthv1.Collected{NodeIds: []string{s.nodeID()}, Jobs: []*berthv1.JobRef{{Namespace: "default", Job: s.jobName(), Version: uint64(s.rng.IntN(3))}}}
	for range 20 {
		c.AllocIds = append(c.AllocIds, s.allocID())
		c.EvaluationIds = append(c.EvaluationIds, fmt.Sprintf("e%03d", s.rng.IntN(40)))
	}
	return c
}

func encode(e *berthv1.LogEntry) []byte {
	data, err := proto.Marshal(e)
	if err != nil {
		panic(err)
	}
	return data
}
