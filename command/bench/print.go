package bench

import (
	"fmt"
	"strings"
)

// liner writes lines of a name and what was measured.
func liner(b *strings.Builder) func(name, format string, args ...any) {
	return func(name, format string, args ...any) {
		fmt.Fprintf(b, "%-24s %s\n", name, fmt.Sprintf(format, args...))
	}
}

// Goals of the design, on 2 cores; the rate is that of jobs of many allocations.
const (
	goalRate       = 100_000.0
	goalOneToAgent = 3.0  // ms
	goalSmall      = 50.0 // ms
	goalHeap       = 500.0
)

// String is the result for people.
func (r *Result) String() string {
	var b strings.Builder
	line := liner(&b)
	line("cluster", "%d servers, %d nodes, on %d CPUs", r.Servers, r.Nodes, r.CPUs)
	o := r.Opening
	line("sessions", "open after %.2f s; %.0f us of CPU each, %.0f of its simulated agent; %.1f KiB of heap each on all servers", o.Seconds, o.CPUPerSession, o.AgentsCPU, o.HeapPerNode/1024)
	line("placed", "%d allocations of %d jobs in %.2f s; all running after %.2f s", r.Allocs, r.Jobs, r.Seconds, r.SettledSeconds)
	line("rate", "%.0f allocations/s, %.0f jobs/s, durable (goal %.0f allocations/s)", r.AllocsPerSecond, r.JobsPerSecond, goalRate)
	line("CPU, servers", "%.1f us an allocation for all of them, submitting and counting included; %.1f until it is durable", r.CPUPerAlloc, r.PlacedCPUPerAlloc)
	line("CPU, simulated agents", "%.1f us an allocation", r.AgentsCPUPerAlloc)
	line("rate a CPU-second", "%.0f durable allocations; %.1f of %d CPUs were used", r.AllocsPerCPUSecond, r.CPUsUsed, r.CPUs)
	line("submit to durable", "p50 %.1f ms, p99 %.1f ms under load; alone p50 %.1f ms, p99 %.1f ms",
		r.SubmitToDurable.P50, r.SubmitToDurable.P99, r.OneSubmitDurable.P50, r.OneSubmitDurable.P99)
	line("submit to agent", "p50 %.1f ms, p99 %.1f ms under load; alone p50 %.1f ms, p99 %.1f ms (goal p50 %.0f ms)",
		r.SubmitToAgent.P50, r.SubmitToAgent.P99, r.OneSubmitToAgent.P50, r.OneSubmitToAgent.P99, goalOneToAgent)
	line("alone, session at", "the leader p50 %.1f ms, p99 %.1f ms; a follower p50 %.1f ms, p99 %.1f ms",
		r.OneAtLeader.P50, r.OneAtLeader.P99, r.OneAtFollower.P50, r.OneAtFollower.P99)
	line("small job under load", "durable p50 %.1f ms, p99 %.1f ms over %d jobs of one (goal p50 %.0f ms)", r.SmallDurable.P50, r.SmallDurable.P99, r.SmallJobs, goalSmall)
	legs := r.SmallLegs
	line("its legs, p50 (p99)", "to the leader %.1f (%.1f) ms, written %.1f (%.1f), waits for its turn %.1f (%.1f), placed and written %.1f (%.1f)",
		legs.ToLeader.P50, legs.ToLeader.P99, legs.Registered.P50, legs.Registered.P99, legs.Planned.P50, legs.Planned.P99, legs.Placed.P50, legs.Placed.P99)
	line("Raft log", "%.1f bytes an allocation, %d syncs on the leader", r.LogBytesPerAlloc, r.Syncs)
	line("memory", "%.0f bytes of heap an allocation and server (goal %.0f); %.0f MiB resident in all", r.HeapBytesPerAlloc, goalHeap, float64(r.RSSBytes)/(1<<20))
	line("snapshot", "pause %.3f ms; %.1f MiB written in %.2f s, restored in %.2f s", r.SnapshotPause, float64(r.SnapshotBytes)/(1<<20), r.SnapshotSeconds, r.RestoreSeconds)
	line("restart", "a server has its state again after %.2f s", r.RestartSeconds)
	line("double grants", "%d", r.DoubleGrants)
	return b.String()
}

// String is the result for people.
func (r *AgentResult) String() string {
	var b strings.Builder
	line := liner(&b)
	const mib = 1 << 20
	line("agent, idle", "%.1f MiB resident, %.1f MiB of them its own, on %d CPUs", float64(r.IdleRSSBytes)/mib, float64(r.IdlePrivateBytes)/mib, r.CPUs)
	line("submit to running", "p50 %.1f ms, p99 %.1f ms over %d jobs of one task", r.SubmitToRunning.P50, r.SubmitToRunning.P99, r.Single)
	line("one job", "%d tasks all running after %.2f s; %.1f ms of CPU each until it is gone", r.Tasks, r.AllRunning/1000, r.CPUPerTask)
	line("a sleeping task", "%.2f MiB, %.2f processes beside its own, over %d tasks", float64(r.MemoryPerTask)/mib, r.ProcessesPerTask, r.Sleeping)
	line("CPU", "%.4f cores for the agent and its shims while %d tasks sleep", r.SleepingCPU, r.Sleeping)
	return b.String()
}
