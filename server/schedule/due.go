package schedule

import (
	"slices"
	"time"

	"github.com/berthd/berth/jobspec/cron"
	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

const (
	// onTime is how late a time may be run without having been missed: nobody leads for a
	// moment when a leader is lost.
	onTime = time.Minute
	// catchUpMost is how many missed times catch_up = "all" runs, the newest.
	catchUpMost = 100
)

// due says which times of a schedule are to be run now, oldest first, and the newest time
// that has come; zero: none has. What has come and is not run is passed over.
func due(times *cron.Schedule, catchUp string, last, now time.Time) (run []time.Time, newest time.Time) {
	first := times.Next(last)
	if first.IsZero() || first.After(now) {
		return nil, time.Time{}
	}
	run = times.Newest(last, now, catchUpMost)
	newest = run[len(run)-1]
	switch {
	case now.Sub(first) <= onTime, catchUp == "all":
		return run, newest
	case catchUp == "none" && now.Sub(newest) > onTime:
		return nil, newest
	}
	return run[len(run)-1:], newest
}

// lastOf is the time after which a job's schedule goes on.
func lastOf(job *berthv1.Job) time.Time {
	if job.GetLastScheduled() == nil {
		return job.GetSubmitTime().AsTime()
	}
	return job.GetLastScheduled().AsTime()
}

// Next is when a job is run next by its schedule after now; zero: never, or not while it
// is stopped or paused.
func Next(job *berthv1.Job, now time.Time) time.Time {
	times, err := timesOf(job)
	if err != nil || job.GetStopped() || job.GetSchedule().GetPaused() {
		return time.Time{}
	}
	if last := lastOf(job); last.After(now) {
		now = last
	}
	return times.Next(now)
}

func timesOf(job *berthv1.Job) (*cron.Schedule, error) {
	return cron.Parse(job.GetSchedule().GetCrons(), job.GetSchedule().GetTimeZone())
}

// Begin is the time after which the schedule of a new version goes on, stored being the
// version before (nil: none): where it was, unless it is another one or did not run.
func Begin(job, stored *berthv1.Job, now time.Time) time.Time {
	if stored.GetSchedule() == nil || stored.GetStopped() || stored.GetSchedule().GetPaused() || !sameTimes(job, stored) {
		return now
	}
	return lastOf(stored)
}

// sameTimes says that the schedules of two jobs come at the same times.
func sameTimes(a, b *berthv1.Job) bool {
	x, y := a.GetSchedule(), b.GetSchedule()
	return x.GetTimeZone() == y.GetTimeZone() && slices.Equal(x.GetCrons(), y.GetCrons())
}
