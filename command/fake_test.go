package command

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/berthd/berth/problem"
	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

// fakeCluster answers the API from a canned state, over real gRPC. What becomes of a job
// that is submitted to it is told by the job's name: "huge" cannot be placed, "crash"
// fails, "stuck" never starts, "flaky" is restarted once, everything else advances by one step each time its status is asked for.
type fakeCluster struct {
	berthv1.UnimplementedJobServiceServer
	berthv1.UnimplementedAllocServiceServer
	berthv1.UnimplementedNodeServiceServer
	berthv1.UnimplementedEvaluationServiceServer
	berthv1.UnimplementedNamespaceServiceServer
	berthv1.UnimplementedOperatorServiceServer
	berthv1.UnimplementedSchedulerServiceServer
	berthv1.UnimplementedStatusServiceServer

	mu         sync.Mutex
	revision   uint64
	jobs       map[string]*berthv1.Job
	allocs     map[string]*berthv1.Alloc
	evals      map[string]*berthv1.Evaluation
	nodes      []*berthv1.Node
	namespaces map[string]*berthv1.Namespace
	scheduler  *berthv1.SchedulerConfig
	steps      map[string]int // how often a job's status was asked for
	electing   int            // so many calls find no leader
	tokens     []string       // tokens that calls brought

	allocSnapshots []*berthv1.AllocSnapshot
}

// serveFake starts a fake cluster on loopback and returns its address.
func serveFake(t testing.TB, f *fakeCluster) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := grpc.NewServer(grpc.UnaryInterceptor(f.intercept), grpc.StreamInterceptor(func(srv any, ss grpc.ServerStream, _ *grpc.StreamServerInfo, h grpc.StreamHandler) error {
		return problem.Wire(h(srv, ss))
	}))
	berthv1.RegisterJobServiceServer(s, f)
	berthv1.RegisterAllocServiceServer(s, f)
	berthv1.RegisterNodeServiceServer(s, f)
	berthv1.RegisterEvaluationServiceServer(s, f)
	berthv1.RegisterNamespaceServiceServer(s, f)
	berthv1.RegisterVariableServiceServer(s, &fakeVariables{list: map[string]*berthv1.Variable{}})
	berthv1.RegisterReservationServiceServer(s, &fakeReservations{f: f, list: map[string]*berthv1.Reservation{}})
	berthv1.RegisterServiceServiceServer(s, fakeServices{})
	berthv1.RegisterDeploymentServiceServer(s, newFakeDeployments(f))
	berthv1.RegisterOperatorServiceServer(s, f)
	berthv1.RegisterSchedulerServiceServer(s, f)
	berthv1.RegisterStatusServiceServer(s, f)
	go func() { _ = s.Serve(l) }()
	t.Cleanup(s.Stop)
	return l.Addr().String()
}

func (f *fakeCluster) intercept(ctx context.Context, req any, _ *grpc.UnaryServerInfo, h grpc.UnaryHandler) (any, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if md, ok := metadata.FromIncomingContext(ctx); ok {
		f.tokens = append(f.tokens, md.Get("authorization")...)
	}
	if f.electing > 0 {
		f.electing--
		return nil, problem.Wire(problem.New(problem.Unavailable, "", "the servers have no leader just now").WithRemedy("try again in a moment"))
	}
	r, err := h(ctx, req)
	behind := "0"
	if s, ok := req.(interface{ GetStale() bool }); ok && s.GetStale() {
		behind = "2300"
	}
	_ = grpc.SetHeader(ctx, metadata.Pairs("berth-index", strconv.FormatUint(f.revision, 10), "berth-known-leader", "true", "berth-last-contact-ms", behind))
	return r, problem.Wire(err)
}

func newFakeCluster() *fakeCluster {
	now := time.Now()
	at := func(d time.Duration) *timestamppb.Timestamp { return timestamppb.New(now.Add(-d)) }
	f := &fakeCluster{
		revision:   100,
		jobs:       map[string]*berthv1.Job{},
		allocs:     map[string]*berthv1.Alloc{},
		evals:      map[string]*berthv1.Evaluation{},
		namespaces: map[string]*berthv1.Namespace{"default": {Name: "default", Description: "where jobs go"}, "team": {Name: "team", Meta: map[string]string{"owner": "ops"}}},
		scheduler:  &berthv1.SchedulerConfig{ModifyRevision: 7},
		steps:      map[string]int{},
	}
	for i, name := range []string{"n1", "n2", "n3"} {
		f.nodes = append(f.nodes, &berthv1.Node{
			Id: fmt.Sprintf("%d0000000-aaaa-4000-8000-000000000000", i+1), Name: name, Status: berthv1.Node_ready, StatusTime: at(41 * 24 * time.Hour),
			Pool: "default", Arch: "amd64", Address: fmt.Sprintf("10.0.0.%d", i+1), Version: "0.1.0",
			Hardware: &berthv1.Hardware{Sockets: 1, Cells: []*berthv1.Cell{{Cores: []string{"0,4", "1,5", "2,6", "3,7"}, MemoryMib: 16384}}},
			Drivers:  []*berthv1.DriverInfo{{Name: "exec", Healthy: true, Version: "1", Capabilities: []string{"exec", "signal"}}, {Name: "container", Message: "containerd does not answer"}},
		})
	}
	f.nodes[2].Status, f.nodes[2].StatusReason = berthv1.Node_down, "not heard for 12 s"
	f.jobs["web"] = &berthv1.Job{Name: "web", Namespace: "default", Priority: 50, NodePool: "default", Version: 3, Status: berthv1.Job_running,
		SubmitTime: at(3 * time.Hour), SpecRevision: 40, Source: &berthv1.JobSource{Format: "hcl", Text: "job \"web\" {}\n"},
		Groups: []*berthv1.Group{{Name: "web", Count: proto.Uint32(2), Tasks: []*berthv1.Task{{Name: "server", Driver: "exec"}}}}}
	f.evals["e0000001-aaaa-4000-8000-000000000000"] = &berthv1.Evaluation{Id: "e0000001-aaaa-4000-8000-000000000000", Namespace: "default", Job: "web", JobVersion: 3,
		Status: berthv1.Evaluation_complete, CreateTime: at(3 * time.Hour), ModifyTime: at(3 * time.Hour), Groups: []*berthv1.GroupOutcome{{Group: "web", Wanted: 2, Placed: 2}}}
	for i := range 2 {
		id := fmt.Sprintf("a000000%d-aaaa-4000-8000-000000000000", i)
		f.allocs[id] = &berthv1.Alloc{Id: id, Namespace: "default", Job: "web", JobVersion: 3, Group: "web", Index: uint32(i), NodeId: f.nodes[i].Id, NodeName: f.nodes[i].Name,
			Status: berthv1.Alloc_running, StatusTime: at(3 * time.Hour), CreateTime: at(3 * time.Hour), EvalId: "e0000001-aaaa-4000-8000-000000000000",
			Assignment: &berthv1.Assignment{Ports: []*berthv1.PortGrant{{Name: "http", Port: 20001, To: 8080, Address: f.nodes[i].Address}},
				Tasks: []*berthv1.TaskGrant{{Task: "server", Cells: []*berthv1.CellGrant{{Cpus: "2-3", MemoryMib: 256}}}}},
			Tasks: []*berthv1.TaskState{{Task: "server", Phase: berthv1.TaskState_started, Pid: 4242, Events: []*berthv1.TaskEvent{{Type: "started", Time: at(3 * time.Hour)}}}},
		}
	}
	return f
}

func notFound(what, name string) error {
	return problem.New(problem.NotFound, name, "there is no such %s", what).WithRemedy("`berth %s status` lists them", what)
}

// Jobs.

func (f *fakeCluster) ListJobs(_ context.Context, r *berthv1.ListJobsRequest) (*berthv1.ListJobsResponse, error) {
	resp := &berthv1.ListJobsResponse{}
	for _, name := range slices.Sorted(maps.Keys(f.jobs)) {
		j := f.jobs[name]
		if r.GetNamespace() != "" && r.GetNamespace() != "*" && r.GetNamespace() != j.GetNamespace() || !strings.HasPrefix(name, r.GetPrefix()) {
			continue
		}
		resp.Jobs = append(resp.Jobs, &berthv1.JobSummary{Namespace: j.GetNamespace(), Name: name, Type: j.GetType(), Status: j.GetStatus(), Version: j.GetVersion(),
			Stopped: j.GetStopped(), SubmitTime: j.GetSubmitTime(), Groups: f.summaries(j)})
	}
	return resp, nil
}

func (f *fakeCluster) summaries(j *berthv1.Job) []*berthv1.GroupSummary {
	var sums []*berthv1.GroupSummary
	for _, g := range j.GetGroups() {
		s := &berthv1.GroupSummary{Group: g.GetName(), Wanted: g.GetCount()}
		for _, a := range f.allocs {
			if a.GetJob() != j.GetName() || a.GetGroup() != g.GetName() {
				continue
			}
			switch a.GetStatus() {
			case berthv1.Alloc_running:
				s.Running++
			case berthv1.Alloc_pending:
				s.Pending++
			case berthv1.Alloc_failed:
				s.Failed++
			}
		}
		sums = append(sums, s)
	}
	return sums
}

func (f *fakeCluster) GetJob(_ context.Context, r *berthv1.GetJobRequest) (*berthv1.Job, error) {
	j := f.jobs[r.GetJob()]
	if j == nil {
		return nil, notFound("job", r.GetJob())
	}
	return j, nil
}

func (f *fakeCluster) RegisterJob(_ context.Context, r *berthv1.RegisterJobRequest) (*berthv1.RegisterJobResponse, error) {
	before := f.jobs[r.GetJob().GetName()]
	if r.GetCheck() && before.GetSpecRevision() != r.GetCheckRevision() {
		return nil, problem.New(problem.Conflict, r.GetJob().GetName(), "the job was changed at revision %d, after %d", before.GetSpecRevision(), r.GetCheckRevision()).
			WithRemedy("plan it again")
	}
	f.revision++
	j := proto.Clone(r.GetJob()).(*berthv1.Job)
	j.Version, j.SpecRevision, j.SubmitTime, j.Status = before.GetVersion()+1, f.revision, timestamppb.Now(), berthv1.Job_running
	f.jobs[j.GetName()] = j
	return &berthv1.RegisterJobResponse{EvaluationId: f.evaluate(j), Version: j.Version, SpecRevision: f.revision}, nil
}

// evaluate decides what becomes of a job.
func (f *fakeCluster) evaluate(j *berthv1.Job) string {
	id := fmt.Sprintf("e%07d-bbbb-4000-8000-000000000000", f.revision)
	e := &berthv1.Evaluation{Id: id, Namespace: j.GetNamespace(), Job: j.GetName(), JobVersion: j.GetVersion(), Status: berthv1.Evaluation_complete,
		CreateTime: timestamppb.Now(), ModifyTime: timestamppb.Now(), CreateRevision: f.revision}
	f.evals[id] = e
	f.steps[j.GetName()] = 0
	for id, a := range f.allocs {
		if a.GetJob() == j.GetName() {
			delete(f.allocs, id)
		}
	}
	for _, g := range j.GetGroups() {
		out := &berthv1.GroupOutcome{Group: g.GetName(), Wanted: g.GetCount(), Placed: g.GetCount()}
		e.Groups = append(e.Groups, out)
		if j.GetName() == "huge" {
			out.Placed, e.Status = 0, berthv1.Evaluation_blocked
			out.Explanation = hugeExplanation()
			continue
		}
		for i := range g.GetCount() {
			id := fmt.Sprintf("b%03d%04d-bbbb-4000-8000-000000000000", f.revision%1000, i)
			n := f.nodes[int(i)%2]
			f.allocs[id] = &berthv1.Alloc{Id: id, Namespace: j.GetNamespace(), Job: j.GetName(), JobVersion: j.GetVersion(), Group: g.GetName(), Index: i,
				NodeId: n.GetId(), NodeName: n.GetName(), EvalId: e.Id, CreateTime: timestamppb.Now(), CreateRevision: f.revision, ModifyRevision: f.revision}
		}
	}
	return id
}

func hugeExplanation() *berthv1.Explanation {
	return &berthv1.Explanation{
		Needs: "64 cores + 1 TiB", Nodes: 3,
		Failed:   []*berthv1.FailedCheck{{Check: "status", Detail: "not ready", Nodes: 1}, {Check: "cores", Detail: "fewer than 64 free cores", Nodes: 2}},
		Nearest:  []*berthv1.NearMiss{{Node: "n1", Shortfalls: []*berthv1.Shortfall{{Text: "cell 0: 60 more free cores", HeldBy: []string{"web.web[0] holds 60 cores (priority 20)"}}}}},
		Remedies: []string{"4 cores instead of 64 would place all 1"},
	}
}

func (f *fakeCluster) GetJobStatus(_ context.Context, r *berthv1.GetJobStatusRequest) (*berthv1.JobStatus, error) {
	j := f.jobs[r.GetJob()]
	if j == nil {
		return nil, notFound("job", r.GetJob())
	}
	f.advance(j)
	s := &berthv1.JobStatus{Job: j, Groups: f.summaries(j)}
	for _, id := range slices.Sorted(maps.Keys(f.evals)) {
		if e := f.evals[id]; e.GetJob() == r.GetJob() {
			s.Evaluation = e
		}
	}
	f.children(s)
	f.rollout(s)
	return s, nil
}

// advance moves a job's allocs one step.
func (f *fakeCluster) advance(j *berthv1.Job) {
	f.steps[j.GetName()]++
	if f.steps[j.GetName()] > 4 {
		return // nothing new: a client that asks again slows down by itself
	}
	f.revision++
	if j.GetName() == "flaky" && f.steps["flaky"] == 4 {
		for _, a := range f.allocs {
			if a.GetJob() == "flaky" {
				a.Tasks = []*berthv1.TaskState{{Task: "server", Phase: berthv1.TaskState_started, Restarts: 1, Events: []*berthv1.TaskEvent{{Type: "exited", ExitCode: 9, Time: timestamppb.Now()}}}}
			}
		}
	}
	for _, a := range f.allocs {
		if a.GetJob() != j.GetName() || a.GetStatus() != berthv1.Alloc_pending || f.steps[j.GetName()] < 2 || j.GetName() == "stuck" {
			continue
		}
		a.Status, a.StatusTime = berthv1.Alloc_running, timestamppb.Now()
		if j.GetName() == "crash" {
			a.Status, a.StatusReason = berthv1.Alloc_failed, "task server failed"
			a.Tasks = []*berthv1.TaskState{{Task: "server", Phase: berthv1.TaskState_dead, Failed: true, Restarts: 3, Events: []*berthv1.TaskEvent{
				{Type: "started", Time: timestamppb.Now()}, {Type: "exited", ExitCode: 3, Time: timestamppb.Now(), Message: "no restarts are left"}}}}
		}
	}
}

func (f *fakeCluster) PlanJob(_ context.Context, r *berthv1.PlanJobRequest) (*berthv1.PlanJobResponse, error) {
	before := f.jobs[r.GetJob().GetName()]
	resp := &berthv1.PlanJobResponse{SpecRevision: before.GetSpecRevision()}
	for _, g := range r.GetJob().GetGroups() {
		if before == nil || before.GetGroups()[0].GetCount() != g.GetCount() {
			resp.Changes = true
			resp.Groups = append(resp.Groups, &berthv1.GroupOutcome{Group: g.GetName(), Wanted: g.GetCount(), Placed: g.GetCount()})
			resp.Diff = append(resp.Diff, &berthv1.FieldDiff{Kind: berthv1.FieldDiff_edited, Path: "groups[web].count", Old: fmt.Sprint(before.GetGroups()), New: fmt.Sprint(g.GetCount())})
		}
	}
	if before != nil && resp.Changes {
		resp.Diff[0].Old = fmt.Sprint(before.GetGroups()[0].GetCount())
	}
	if before == nil {
		resp.Diff = nil
	}
	return resp, nil
}

func (f *fakeCluster) ValidateJob(_ context.Context, r *berthv1.ValidateJobRequest) (*berthv1.ValidateJobResponse, error) {
	resp := &berthv1.ValidateJobResponse{}
	if r.GetJob().GetName() == "bad" {
		resp.Problems = []*berthv1.Problem{{Kind: "invalid", Field: "namespace", Reason: "there is no namespace \"nowhere\"", Remedy: "make it by `berth namespace apply nowhere`"},
			{Kind: "invalid", Field: "groups[web].tasks[server].driver", Reason: "no node has the driver \"warp\""}}
	}
	if r.GetJob().GetName() == "odd" {
		resp.Warnings = []string{"group web: no node has 64 cores"}
	}
	return resp, nil
}

func (f *fakeCluster) StopJob(_ context.Context, r *berthv1.StopJobRequest) (*berthv1.StopJobResponse, error) {
	j := f.jobs[r.GetJob()]
	if j == nil {
		return nil, notFound("job", r.GetJob())
	}
	f.revision++
	if r.GetPurge() {
		delete(f.jobs, r.GetJob())
	} else {
		j.Stopped = true
	}
	for _, a := range f.allocs {
		if a.GetJob() == r.GetJob() {
			a.Desired, a.Status = berthv1.Alloc_stop, berthv1.Alloc_complete
		}
	}
	return &berthv1.StopJobResponse{EvaluationId: "e0000001-aaaa-4000-8000-000000000000"}, nil
}

func (f *fakeCluster) ScaleJob(_ context.Context, r *berthv1.ScaleJobRequest) (*berthv1.RegisterJobResponse, error) {
	j := f.jobs[r.GetJob()]
	if j == nil {
		return nil, notFound("job", r.GetJob())
	}
	if r.GetGroup() != "" && r.GetGroup() != j.GetGroups()[0].GetName() {
		return nil, notFound("group", r.GetGroup())
	}
	f.revision++
	j.Groups[0].Count = proto.Uint32(r.GetCount())
	j.Version++
	j.SpecRevision = f.revision
	return &berthv1.RegisterJobResponse{EvaluationId: f.evaluate(j), Version: j.Version, SpecRevision: f.revision}, nil
}

func (f *fakeCluster) EvaluateJob(_ context.Context, r *berthv1.EvaluateJobRequest) (*berthv1.EvaluateJobResponse, error) {
	if f.jobs[r.GetJob()] == nil {
		return nil, notFound("job", r.GetJob())
	}
	return &berthv1.EvaluateJobResponse{EvaluationId: "e0000001-aaaa-4000-8000-000000000000"}, nil
}

func (f *fakeCluster) GetJobHistory(_ context.Context, r *berthv1.GetJobHistoryRequest) (*berthv1.GetJobHistoryResponse, error) {
	j := f.jobs[r.GetJob()]
	if j == nil {
		return nil, notFound("job", r.GetJob())
	}
	resp := &berthv1.GetJobHistoryResponse{}
	for v := j.GetVersion(); v > 0; v-- {
		c := proto.Clone(j).(*berthv1.Job)
		c.Version = v
		jv := &berthv1.JobVersion{Job: c}
		if r.GetDiff() && v > 1 {
			jv.Diff = []*berthv1.FieldDiff{{Kind: berthv1.FieldDiff_edited, Path: "groups[web].count", Old: "1", New: "2"}, {Kind: berthv1.FieldDiff_added, Path: "meta[a]", New: "b"}}
		}
		resp.Versions = append(resp.Versions, jv)
	}
	return resp, nil
}

// Allocs.

func (f *fakeCluster) ListAllocs(_ context.Context, r *berthv1.ListAllocsRequest) (*berthv1.ListAllocsResponse, error) {
	resp := &berthv1.ListAllocsResponse{}
	for _, id := range slices.Sorted(maps.Keys(f.allocs)) {
		a := f.allocs[id]
		if (r.GetJob() != "" && r.GetJob() != a.GetJob()) || (r.GetNodeId() != "" && r.GetNodeId() != a.GetNodeId()) || !strings.HasPrefix(id, r.GetPrefix()) || id <= r.GetPageToken() {
			continue
		}
		// Pages of one, so that every list is walked.
		resp.Allocs = append(resp.Allocs, proto.Clone(a).(*berthv1.Alloc))
		resp.NextPageToken = id
		return resp, nil
	}
	return resp, nil
}

func (f *fakeCluster) alloc(prefix string) (*berthv1.Alloc, error) {
	var found *berthv1.Alloc
	for id, a := range f.allocs {
		if strings.HasPrefix(id, prefix) {
			if found != nil {
				return nil, problem.New(problem.Invalid, prefix, "2 allocations have ids that begin so").WithRemedy("give more of the id")
			}
			found = a
		}
	}
	if found == nil {
		return nil, notFound("alloc", prefix)
	}
	return found, nil
}

func (f *fakeCluster) GetAlloc(_ context.Context, r *berthv1.GetAllocRequest) (*berthv1.Alloc, error) {
	return f.alloc(r.GetAllocId())
}

func (f *fakeCluster) StopAlloc(_ context.Context, r *berthv1.StopAllocRequest) (*berthv1.StopAllocResponse, error) {
	_, err := f.alloc(r.GetAllocId())
	return &berthv1.StopAllocResponse{EvaluationId: "e0000001-aaaa-4000-8000-000000000000"}, err
}

func (f *fakeCluster) RestartAlloc(_ context.Context, r *berthv1.RestartAllocRequest) (*berthv1.RestartAllocResponse, error) {
	_, err := f.alloc(r.GetAllocId())
	return &berthv1.RestartAllocResponse{}, err
}

func (f *fakeCluster) SignalAlloc(_ context.Context, r *berthv1.SignalAllocRequest) (*berthv1.SignalAllocResponse, error) {
	if r.GetSignal() == "SIGNOPE" {
		return nil, problem.New(problem.Invalid, "signal", "there is no signal SIGNOPE")
	}
	_, err := f.alloc(r.GetAllocId())
	return &berthv1.SignalAllocResponse{}, err
}

func (f *fakeCluster) Logs(r *berthv1.LogsRequest, s grpc.ServerStreamingServer[berthv1.LogFrame]) error {
	f.mu.Lock()
	_, err := f.alloc(r.GetAllocId())
	f.mu.Unlock()
	if err != nil {
		return err
	}
	n := int64(3)
	if r.GetTailLines() > 0 {
		n = min(n, r.GetTailLines())
	}
	for i := 3 - n; i < 3; i++ {
		if err := s.Send(&berthv1.LogFrame{Data: fmt.Appendf(nil, "%s line %d\n", r.GetStream(), i)}); err != nil {
			return err
		}
	}
	if r.GetFollow() {
		return s.Send(&berthv1.LogFrame{Data: []byte("and more\n"), Notice: "1 file was rotated away"})
	}
	return nil
}

// Exec knows a few commands: cat echoes stdin, head the first line of it, exit N ends so,
// killed ends by a signal, and all others print what they got.
func (f *fakeCluster) Exec(s grpc.BidiStreamingServer[berthv1.ExecFrame, berthv1.ExecFrame]) error {
	first, err := s.Recv()
	if err != nil {
		return err
	}
	start := first.GetStart()
	f.mu.Lock()
	_, err = f.alloc(start.GetAllocId())
	f.mu.Unlock()
	if err != nil {
		return err
	}
	out := func(text string) {
		_ = s.Send(&berthv1.ExecFrame{Body: &berthv1.ExecFrame_Stdout{Stdout: []byte(text)}})
	}
	exit := &berthv1.ExecExit{}
	switch start.GetCommand()[0] {
	case "cat", "head":
		for {
			frame, err := s.Recv()
			if errors.Is(err, io.EOF) || frame.GetStdinClose() {
				break
			}
			if err != nil {
				return err
			}
			out(string(frame.GetStdin()))
			if start.GetCommand()[0] == "head" && strings.ContainsAny(string(frame.GetStdin()), "\r\n") {
				break
			}
		}
	case "exit":
		n, _ := strconv.Atoi(start.GetCommand()[1])
		exit.Code = int32(n)
	case "killed":
		exit.Signal = 9
	default:
		out(fmt.Sprintf("%q task=%q tty=%v env=%v\n", start.GetCommand(), start.GetTask(), start.GetTty(), start.GetEnv()))
		_ = s.Send(&berthv1.ExecFrame{Body: &berthv1.ExecFrame_Stderr{Stderr: []byte("to stderr\n")}})
	}
	return s.Send(&berthv1.ExecFrame{Body: &berthv1.ExecFrame_Exit{Exit: exit}})
}

var fakeFiles = map[string]string{"local/hello.txt": "hello\n", "alloc/data": "0123456789"}

func (f *fakeCluster) ListFiles(_ context.Context, r *berthv1.ListFilesRequest) (*berthv1.ListFilesResponse, error) {
	if _, err := f.alloc(r.GetAllocId()); err != nil {
		return nil, err
	}
	resp := &berthv1.ListFilesResponse{}
	for _, name := range slices.Sorted(maps.Keys(fakeFiles)) {
		dir, file, _ := strings.Cut(name, "/")
		switch r.GetPath() {
		case "":
			resp.Files = append(resp.Files, &berthv1.FileInfo{Name: dir, IsDir: true, Mode: "drwxr-xr-x", ModifyTime: timestamppb.Now()})
		case dir:
			resp.Files = append(resp.Files, &berthv1.FileInfo{Name: file, Size: int64(len(fakeFiles[name])), Mode: "-rw-r--r--", ModifyTime: timestamppb.Now()})
		}
	}
	return resp, nil
}

func (f *fakeCluster) StatFile(_ context.Context, r *berthv1.StatFileRequest) (*berthv1.FileInfo, error) {
	for name, data := range fakeFiles {
		if name == r.GetPath() {
			return &berthv1.FileInfo{Name: name, Size: int64(len(data)), Mode: "-rw-r--r--", ModifyTime: timestamppb.Now()}, nil
		}
		if strings.HasPrefix(name, r.GetPath()) {
			return &berthv1.FileInfo{Name: r.GetPath(), IsDir: true, Mode: "drwxr-xr-x", ModifyTime: timestamppb.Now()}, nil
		}
	}
	return nil, notFound("file", r.GetPath())
}

func (f *fakeCluster) ReadFile(r *berthv1.ReadFileRequest, s grpc.ServerStreamingServer[berthv1.FileChunk]) error {
	data := fakeFiles[r.GetPath()]
	for i := 0; i < len(data); i += 4 {
		if err := s.Send(&berthv1.FileChunk{Data: []byte(data[i:min(i+4, len(data))]), Offset: int64(i)}); err != nil {
			return err
		}
	}
	return nil
}

// Nodes.

func (f *fakeCluster) ListNodes(_ context.Context, r *berthv1.ListNodesRequest) (*berthv1.ListNodesResponse, error) {
	if r.GetFilter() != "" && r.GetFilter() != `name == "n1"` {
		return nil, problem.New(problem.Invalid, "filter", "the expression is wrong at character 3")
	}
	if r.GetFilter() != "" {
		return &berthv1.ListNodesResponse{Nodes: f.nodes[:1]}, nil
	}
	return &berthv1.ListNodesResponse{Nodes: f.nodes}, nil
}

func (f *fakeCluster) node(name string) (*berthv1.Node, error) {
	for _, n := range f.nodes {
		if n.GetName() == name || strings.HasPrefix(n.GetId(), name) {
			return n, nil
		}
	}
	return nil, notFound("node", name)
}

func (f *fakeCluster) GetNode(_ context.Context, r *berthv1.GetNodeRequest) (*berthv1.Node, error) {
	return f.node(r.GetNodeId())
}

func (f *fakeCluster) SetNodeEligibility(_ context.Context, r *berthv1.SetNodeEligibilityRequest) (*berthv1.SetNodeEligibilityResponse, error) {
	n, err := f.node(r.GetNodeId())
	if err == nil {
		n.Eligibility = r.GetEligibility()
	}
	return &berthv1.SetNodeEligibilityResponse{}, err
}

func (f *fakeCluster) RemoveNode(context.Context, *berthv1.RemoveNodeRequest) (*berthv1.RemoveNodeResponse, error) {
	return &berthv1.RemoveNodeResponse{}, nil
}

// Evaluations and namespaces.

func (f *fakeCluster) ListEvaluations(_ context.Context, r *berthv1.ListEvaluationsRequest) (*berthv1.ListEvaluationsResponse, error) {
	resp := &berthv1.ListEvaluationsResponse{}
	for _, id := range slices.Sorted(maps.Keys(f.evals)) {
		if r.GetJob() == "" || r.GetJob() == f.evals[id].GetJob() {
			resp.Evaluations = append(resp.Evaluations, f.evals[id])
		}
	}
	return resp, nil
}

func (f *fakeCluster) GetEvaluation(_ context.Context, r *berthv1.GetEvaluationRequest) (*berthv1.Evaluation, error) {
	for id, e := range f.evals {
		if strings.HasPrefix(id, r.GetEvaluationId()) {
			return e, nil
		}
	}
	return nil, notFound("evaluation", r.GetEvaluationId())
}

func (f *fakeCluster) ListNamespaces(context.Context, *berthv1.ListNamespacesRequest) (*berthv1.ListNamespacesResponse, error) {
	resp := &berthv1.ListNamespacesResponse{}
	for _, name := range slices.Sorted(maps.Keys(f.namespaces)) {
		resp.Namespaces = append(resp.Namespaces, f.namespaces[name])
	}
	return resp, nil
}

func (f *fakeCluster) GetNamespace(_ context.Context, r *berthv1.GetNamespaceRequest) (*berthv1.Namespace, error) {
	if n := f.namespaces[r.GetName()]; n != nil {
		return n, nil
	}
	return nil, notFound("namespace", r.GetName())
}

func (f *fakeCluster) SetNamespace(_ context.Context, r *berthv1.SetNamespaceRequest) (*berthv1.Namespace, error) {
	f.namespaces[r.GetNamespace().GetName()] = r.GetNamespace()
	return r.GetNamespace(), nil
}

func (f *fakeCluster) DeleteNamespace(_ context.Context, r *berthv1.DeleteNamespaceRequest) (*berthv1.DeleteNamespaceResponse, error) {
	if r.GetName() == "default" {
		return nil, problem.New(problem.Conflict, "default", "the namespace has 1 job").WithRemedy("stop and purge it first")
	}
	delete(f.namespaces, r.GetName())
	return &berthv1.DeleteNamespaceResponse{}, nil
}
