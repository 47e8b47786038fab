package server

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
)

// registerMetrics adds what the server knows of itself to /v1/metrics; the API has its
// own there.
func registerMetrics(s *Server) {
	gauge := func(name, help string, value func() float64) {
		s.metrics.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Namespace: "berth", Name: name, Help: help}, value))
	}
	counter := func(name, help string, value func() float64) {
		s.metrics.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{Namespace: "berth", Name: name, Help: help}, value))
	}
	gauge("agent_sessions", "Agents that this server holds a session with.", func() float64 { return float64(s.dispatch.Sessions()) })
	gauge("nodes", "Nodes in the state.", func() float64 { return float64(s.store.View().NodeCount()) })
	gauge("allocs", "Allocations in the state.", func() float64 { return float64(s.store.View().AllocCount()) })
	gauge("plan_jobs_ready", "Jobs that wait for their turn to be planned, on the leader.", func() float64 { return float64(s.leader.planStats().Ready) })
	gauge("plan_jobs_blocked", "Jobs of which something finds no room, on the leader.", func() float64 { return float64(s.leader.planStats().Blocked) })
	counter("plan_placed_total", "Placements that this leader made durable in its term.", func() float64 { return float64(s.leader.planStats().Placed) })
	counter("plan_refused_total", "Placements that the state refused in this term; with the built-in scheduler 0.", func() float64 { return float64(s.leader.planStats().Refused) })
	counter("raft_log_bytes_total", "Bytes appended to the Raft log.", func() float64 { return float64(s.Stats().LogBytes) })
	counter("raft_log_appends_total", "Appends to the Raft log, each synced once.", func() float64 { return float64(s.Stats().LogAppends) })
	counter("raft_log_entries_total", "Entries appended to the Raft log.", func() float64 { return float64(s.Stats().LogEntries) })
	counter("raft_applied_total", "Entries applied to the state.", func() float64 { return float64(s.Stats().Applied) })
	counter("raft_elections_won_total", "Times that this server came to lead.", func() float64 { return float64(s.Stats().Elections) })
	s.metrics.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
}
