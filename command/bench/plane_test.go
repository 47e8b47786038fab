package bench

import (
	"context"
	"io"
	"testing"
	"time"
)

// The bench must measure what it says on the smallest cluster there is.
func TestPlaneMeasures(t *testing.T) {
	r, err := Plane{Servers: 1, Nodes: 5, Allocs: 40, Jobs: 4, Dir: t.TempDir(), Timeout: 2 * time.Minute, Progress: io.Discard}.Run(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	if r.AllocsPerSecond <= 0 || r.DoubleGrants != 0 || r.Syncs == 0 || r.LogBytesPerAlloc < 30 || r.OneSubmitToAgent.P50 <= 0 || r.SubmitToAgent.P99 < r.SubmitToAgent.P50 {
		t.Errorf("implausible: %+v", r)
	}
}

func TestPlaneRefusesNonsense(t *testing.T) {
	if _, err := (Plane{Servers: 1, Nodes: 1, Allocs: 1, Jobs: 2}).Run(context.Background()); err == nil {
		t.Error("more jobs than allocations were accepted")
	}
}

// BenchmarkPlane is for profiles: go test -run - -bench Plane -benchtime 1x -cpuprofile f ./command/bench
func BenchmarkPlane(b *testing.B) {
	for range b.N {
		r, err := Plane{Servers: 3, Nodes: 1000, Allocs: 50000, Jobs: 50, Dir: b.TempDir(), Timeout: 5 * time.Minute, Progress: io.Discard}.Run(context.Background())
		if err != nil {
			b.Fatal(err)
		}
		b.Log("\n" + r.String())
		b.ReportMetric(r.AllocsPerSecond, "allocs/s")
		b.ReportMetric(r.CPUPerAlloc*1000, "cpu-ns/alloc")
	}
}
