package api

import (
	"github.com/prometheus/client_golang/prometheus"
)

// metrics is what the API tells of itself.
type metrics struct {
	calls    *prometheus.CounterVec
	seconds  *prometheus.HistogramVec
	inFlight *prometheus.GaugeVec
}

func newMetrics(registry *prometheus.Registry, a *API) (*metrics, error) {
	m := &metrics{
		calls: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "berth_api_calls_total",
			Help: "Calls that have ended, by method and by the kind of problem that they ended with (none: empty).",
		}, []string{"method", "problem"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "berth_api_call_seconds",
			Help:    "How long calls took that had one answer and did not wait for a change.",
			Buckets: []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30},
		}, []string{"method"}),
		inFlight: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "berth_api_calls_in_flight",
			Help: "Calls that have begun and not ended, by method; streams and blocking queries among them.",
		}, []string{"method"}),
	}
	leader := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "berth_leader", Help: "1 where this server leads.",
	}, func() float64 {
		if a.leadership.IsLeader() {
			return 1
		}
		return 0
	})
	revision := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "berth_revision", Help: "Revision of this server's state.",
	}, func() float64 { return float64(a.store.Revision()) })
	contact := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "berth_leader_last_contact_seconds", Help: "How long ago this server has heard the leader; 0 on the leader.",
	}, func() float64 { return a.leadership.LastContact().Seconds() })
	for _, c := range []prometheus.Collector{m.calls, m.seconds, m.inFlight, leader, revision, contact} {
		if err := registry.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}
