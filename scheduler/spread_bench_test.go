package scheduler

import (
	"fmt"
	"runtime"
	"testing"
	"time"
)

// forms are the ways of keeping instances apart or together, each as options of a job.
var forms = []struct {
	name string
	more options
}{
	{"none", nil},
	{"service", options{"type": {"service"}}},
	{"rack", options{"spread": {"node.rack"}}},
	{"zone", options{"spread": {"node.zone"}}},
	{"percent", options{"spread": {"node.zone,z0:70,z1:20"}}},
	{"node", options{"spread": {"node.id"}}},
	{"zone+node", options{"spread": {"node.zone", "node.id"}}},
	{"rack+service", options{"spread": {"node.rack"}, "type": {"service"}}},
	{"rack+affinity", options{"spread": {"node.rack"}, "affinity": {"node.zone,=,z1,50"}}},
	{"distinct-hosts", options{"distinct": {""}}},
	{"distinct-node", options{"distinct": {"node.id"}}},
	{"distinct-rack", options{"distinct": {"node.rack,100"}}},
	{"same-zone", options{"constraint": {"node.zone,same_property"}}},
	{"same-rack", options{"constraint": {"node.rack,same_property"}}},
}

// Each op is one instance more of a job that has so many already, and one of them less:
// what growing and healing jobs ask for.
func BenchmarkOneMore(b *testing.B) {
	for _, form := range forms {
		for _, running := range []int{0, 100, 5000} {
			if running > 100 && (form.name == "same-rack" || form.name == "distinct-hosts" || form.name == "distinct-node") {
				continue // there is no room for so many
			}
			b.Run(fmt.Sprintf("%s/running=%d", form.name, running), func(b *testing.B) {
				runtime.LockOSThread()
				l := newLoad(b, 10_000, 0.6, benchGroups(b, 19, 0, nil))
				others := len(l.live)
				o := options{"type": {"batch"}, "cpu": {"250"}, "mem": {"128"}, "count": {fmt.Sprint(max(running, 1))}}
				for k, v := range form.more {
					o[k] = v
				}
				g := askOf(b, jobOf(b, "grown", o), o).Group
				if got := l.place(g, running); got < running {
					b.Fatalf("%d of %d placed", got, running)
				}
				spent := time.Duration(0)
				b.ReportAllocs()
				b.ResetTimer()
				for range b.N {
					start := cpuTime()
					got := l.place(g, 1)
					spent += cpuTime() - start
					if got == 1 {
						k := others + l.rng.IntN(len(l.live)-others)
						last := len(l.live) - 1
						l.live[k], l.live[last] = l.live[last], l.live[k]
						h := &l.live[last]
						l.f.Release(h.g, h.slot, &h.grant)
						l.live = l.live[:last]
					}
				}
				b.ReportMetric(float64(spent)/float64(b.N), "place-cpu-ns/op")
			})
		}
	}
}
