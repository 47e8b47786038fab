package command

import (
	"context"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/berthd/berth/problem"
	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

// fakeDeployments are the roll-outs of a fake cluster: of the job "shop" one that has a
// canary, which ends well when it is promoted, and one that is over.
type fakeDeployments struct {
	berthv1.UnimplementedDeploymentServiceServer
	f    *fakeCluster
	list []*berthv1.Deployment
	gets int
}

func newFakeDeployments(f *fakeCluster) *fakeDeployments {
	begun := timestamppb.New(time.Now().Add(-3 * time.Minute))
	return &fakeDeployments{f: f, list: []*berthv1.Deployment{
		{Id: "d2000000-0000-5000-8000-000000000002", Namespace: "default", Job: "shop", JobVersion: 2, StatusReason: "web: 1 canary is to be promoted", CreateTime: begun,
			Groups: []*berthv1.DeploymentGroup{{Group: "web", Desired: 3, Placed: 1, Healthy: 1, Canaries: 1, CanariesHealthy: begun}}},
		{Id: "d1000000-0000-5000-8000-000000000001", Namespace: "default", Job: "shop", JobVersion: 1, Status: berthv1.Deployment_successful, CreateTime: begun,
			Groups: []*berthv1.DeploymentGroup{{Group: "web", Desired: 3, Placed: 3, Healthy: 3}}},
	}}
}

func (d *fakeDeployments) find(id string) (int, error) {
	for i, x := range d.list {
		if strings.HasPrefix(x.GetId(), id) {
			return i, nil
		}
	}
	return 0, notFound("deployment", id)
}

func (d *fakeDeployments) ListDeployments(context.Context, *berthv1.ListDeploymentsRequest) (*berthv1.ListDeploymentsResponse, error) {
	return &berthv1.ListDeploymentsResponse{Deployments: d.list}, nil
}

// GetDeployment has a promoted one end with the third look.
func (d *fakeDeployments) GetDeployment(_ context.Context, q *berthv1.GetDeploymentRequest) (*berthv1.Deployment, error) {
	i, err := d.find(q.GetDeploymentId())
	if err != nil {
		return nil, err
	}
	if x := proto.CloneOf(d.list[i]); x.Active() && x.GetGroups()[0].GetPromoted() {
		if d.gets++; d.gets > 1 {
			x.Groups[0].Placed, x.Groups[0].Healthy, x.Status, x.StatusReason = 3, 3, berthv1.Deployment_successful, ""
		}
		d.list[i] = x
		d.f.revision++
	}
	return d.list[i], nil
}

func (d *fakeDeployments) ChangeDeployment(_ context.Context, q *berthv1.ChangeDeploymentRequest) (*berthv1.ChangeDeploymentResponse, error) {
	i, err := d.find(q.GetDeploymentId())
	if err != nil {
		return nil, err
	}
	x := proto.CloneOf(d.list[i])
	if !x.Active() {
		return nil, problem.New(problem.Conflict, "deployment_id", "the roll-out of version %d of %s is over", x.GetJobVersion(), x.GetJob())
	}
	switch q.GetAction() {
	case berthv1.DeploymentAction_DEPLOYMENT_ACTION_PROMOTE:
		x.Groups[0].Promoted = true
	case berthv1.DeploymentAction_DEPLOYMENT_ACTION_PAUSE:
		x.Status, x.StatusReason = berthv1.Deployment_paused, "paused by hand"
	case berthv1.DeploymentAction_DEPLOYMENT_ACTION_RESUME:
		x.Status, x.StatusReason = berthv1.Deployment_running, ""
	case berthv1.DeploymentAction_DEPLOYMENT_ACTION_FAIL:
		x.Status, x.StatusReason = berthv1.Deployment_failed, "failed by hand"
	case berthv1.DeploymentAction_DEPLOYMENT_ACTION_NONE:
	}
	d.list[i] = x
	d.f.revision++
	return &berthv1.ChangeDeploymentResponse{Deployment: x}, nil
}

// rollout is how the roll-out of a job with an update strategy is, which goes a step with
// each look: "rotten" fails, "goesback" goes back to version 1, "careful"
// waits to be promoted, others end well.
func (f *fakeCluster) rollout(s *berthv1.JobStatus) {
	j := s.GetJob()
	if j.GetUpdate() == nil {
		return
	}
	f.revision++
	n := uint32(f.steps[j.GetName()])
	d := &berthv1.Deployment{Id: "d9000000-0000-5000-8000-000000000009", Namespace: "default", Job: j.GetName(), JobVersion: j.GetVersion(),
		Groups: []*berthv1.DeploymentGroup{{Group: "web", Desired: 2, Placed: min(2, n), Healthy: min(2, max(n, 2)-2)}}}
	switch {
	case j.GetName() == "rotten" && n > 2:
		d.Status, d.StatusReason = berthv1.Deployment_failed, "no instance of web became healthy for 1m0s"
	case j.GetName() == "careful":
		d.Groups[0].Canaries = 1
		if d.GetGroups()[0].GetHealthy() > 0 {
			d.Groups[0].CanariesHealthy = timestamppb.Now()
		}
	case j.GetName() == "goesback" && n == 3:
		d.Status, d.RevertedTo = berthv1.Deployment_failed, 1
	case j.GetName() == "goesback" && n > 3:
		s.Job = proto.CloneOf(j)
		s.Job.Version, s.Job.RevertedTo = j.GetVersion()+1, 1
	case d.GetGroups()[0].GetHealthy() == 2:
		d.Status = berthv1.Deployment_successful
	}
	s.Deployment = d
}

func (f *fakeCluster) RevertJob(_ context.Context, r *berthv1.RevertJobRequest) (*berthv1.RegisterJobResponse, error) {
	if f.jobs[r.GetJob()] == nil {
		return nil, notFound("job", r.GetJob())
	}
	job := proto.CloneOf(f.jobs[r.GetJob()])
	job.RevertedTo = r.GetVersion()
	return f.RegisterJob(context.Background(), &berthv1.RegisterJobRequest{Job: job})
}
