package external

import (
	"time"

	"github.com/berthd/berth/server/plan"
)

// Offer implements plan.External. A claim on the same evaluation stays; one on another
// evaluation of the job is lost.
func (d *Desk) Offer(o plan.Offer) {
	d.mu.Lock()
	defer d.mu.Unlock()
	now := time.Now()
	key := jobKey{o.Evaluation.GetJob().GetNamespace(), o.Evaluation.GetJob().GetName()}
	i := d.jobs[key]
	if i != nil && (i.id() != o.Evaluation.GetEvaluationId() || i.Scheduler != o.Scheduler) {
		d.remove(i, "evaluation "+o.Evaluation.GetEvaluationId()+" of the job took over")
		i = nil
	}
	if i != nil {
		i.Offer = o
		if i.resting { // the job was looked at again
			d.reopen(i, now)
		}
		return
	}
	d.seq++
	i = &item{Offer: o, evalID: o.Evaluation.GetEvaluationId(), job: key, seq: d.seq}
	d.jobs[key], d.evals[i.id()] = i, i
	d.queue(o.Scheduler).offers++
	d.reopen(i, now)
}

// Withdraw implements plan.External.
func (d *Desk) Withdraw(namespace, job, reason string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if i := d.jobs[jobKey{namespace, job}]; i != nil {
		d.remove(i, reason)
	}
}

func (d *Desk) remove(i *item, reason string) {
	d.drop(i, reason)
	delete(d.resting, i)
	delete(d.jobs, i.job)
	delete(d.evals, i.id())
	q := d.queue(i.Scheduler)
	q.remove(i)
	q.offers--
	d.tidy(q)
}

// Stirred implements plan.External: what rests can be claimed again.
func (d *Desk) Stirred() {
	d.mu.Lock()
	defer d.mu.Unlock()
	now := time.Now()
	for i := range d.resting {
		d.reopen(i, now)
	}
}

// Reset implements plan.External.
func (d *Desk) Reset() {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, i := range d.jobs {
		d.remove(i, "the state was read anew")
	}
}
