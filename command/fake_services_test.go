package command

import (
	"context"
	"slices"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

// fakeServices are the services of a fake cluster: a web service of the job "shop".
type fakeServices struct {
	berthv1.UnimplementedServiceServiceServer
}

const shopAlloc = "aaaaaaaa-0000-4000-8000-000000000001"

func shopInstances() []*berthv1.ServiceInstance {
	check := func(status berthv1.CheckState_Status, output string) []*berthv1.CheckState {
		return []*berthv1.CheckState{{Service: "web", Check: "http", On: "readiness", Status: status, Output: output, Since: timestamppb.New(time.Now().Add(-90 * time.Second))}}
	}
	base := func(id string, index uint32, node string) *berthv1.ServiceInstance {
		return &berthv1.ServiceInstance{Namespace: "default", Service: "web", AllocId: id, Job: "shop", Group: "web", Index: index, NodeName: node, Address: "10.0.0.7", Port: 20000 + index}
	}
	good, slow, canary := base(shopAlloc, 0, "n1"), base("bbbbbbbb-0000-4000-8000-000000000002", 1, "n2"), base("cccccccc-0000-4000-8000-000000000003", 0, "n1")
	good.Ready, good.Tags, good.Checks = true, []string{"frontend"}, check(berthv1.CheckState_passing, "200 OK")
	slow.Tags, slow.Reason, slow.Checks = []string{"frontend"}, "check http: connection refused", check(berthv1.CheckState_failing, "connection refused")
	canary.Canary, canary.Reason = true, "it is a canary that waits to be promoted"
	return []*berthv1.ServiceInstance{good, slow, canary}
}

func (fakeServices) ListServices(context.Context, *berthv1.ListServicesRequest) (*berthv1.ListServicesResponse, error) {
	return &berthv1.ListServicesResponse{Services: []*berthv1.ServiceSummary{{Namespace: "default", Name: "web", Tags: []string{"frontend"}, Instances: 3, Ready: 1}}}, nil
}

func (fakeServices) GetService(_ context.Context, q *berthv1.GetServiceRequest) (*berthv1.GetServiceResponse, error) {
	if q.GetService() != "web" {
		return nil, notFound("service", q.GetService())
	}
	instances := slices.DeleteFunc(shopInstances(), func(i *berthv1.ServiceInstance) bool { return q.GetReady() && !i.GetReady() })
	return &berthv1.GetServiceResponse{Namespace: "default", Name: "web", Instances: instances}, nil
}

func (fakeServices) ListAllocServices(_ context.Context, q *berthv1.ListAllocServicesRequest) (*berthv1.ListAllocServicesResponse, error) {
	r := &berthv1.ListAllocServicesResponse{}
	for _, i := range shopInstances() {
		if i.GetAllocId() == q.GetAllocId() {
			r.Instances = append(r.Instances, i)
		}
	}
	return r, nil
}
