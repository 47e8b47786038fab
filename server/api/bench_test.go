package api

import (
	"fmt"
	"testing"

	"google.golang.org/protobuf/proto"

	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

// BenchmarkRegisterJob is the API's own part of submitting a job: over gRPC, and over
// HTTP; Raft and its disk are not in it.
func BenchmarkRegisterJob(b *testing.B) {
	c := newCluster(b, 1)
	m := c.members[0]
	n := 0
	b.Run("grpc", func(b *testing.B) {
		client := berthv1.NewJobServiceClient(m.dialed(b))
		for b.Loop() {
			n++
			_, err := client.RegisterJob(b.Context(), &berthv1.RegisterJobRequest{Job: &berthv1.Job{
				Name: fmt.Sprintf("job-%d", n),
				Groups: []*berthv1.Group{{Name: "web", Count: proto.Uint32(1), Tasks: []*berthv1.Task{{
					Name: "server", Driver: "mock", Env: map[string]string{"A": "b"},
				}}}},
			}})
			if err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("http", func(b *testing.B) {
		for b.Loop() {
			n++
			m.call(b, "POST", "/v1/jobs", jobJSON(fmt.Sprintf("job-%d", n), 1)).want(b, 200)
		}
	})
	b.Run("handler", func(b *testing.B) {
		s := jobService{a: m.api}
		for b.Loop() {
			n++
			_, err := s.RegisterJob(b.Context(), &berthv1.RegisterJobRequest{Job: &berthv1.Job{
				Name:   fmt.Sprintf("job-%d", n),
				Groups: []*berthv1.Group{{Name: "web", Count: proto.Uint32(1), Tasks: []*berthv1.Task{{Name: "server", Driver: "mock"}}}},
			}})
			if err != nil {
				b.Fatal(err)
			}
		}
	})
}
