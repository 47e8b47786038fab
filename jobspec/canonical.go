package jobspec

import (
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/berthd/berth/jobspec/internal/schema"
	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

// absent are the blocks whose absence says something: they are not filled in.
var absent = map[protoreflect.FullName]bool{
	"berth.v1.Task.restart":  true, // the group's
	"berth.v1.Group.network": true, // no ports

	"berth.v1.Job.update":       true, // a quarter at a time, and no deployment
	"berth.v1.Group.update":     true, // the job's
	"berth.v1.Job.schedule":     true, // it is run when it is submitted
	"berth.v1.Job.parameters":   true, // likewise
	"berth.v1.Group.stateful":   true, // any instance is as good as another
	"berth.v1.Group.scaling":    true, // no bounds
	"berth.v1.Group.disruption": true, // all to preemption, a quarter at a time to a drain
	"berth.v1.Task.lifecycle":   true, // it is a main task
}

// Canonicalize gives a copy of a valid job with every default filled in, and every other
// spelling replaced by the one that is kept: what is stored, compared and scheduled. It
// is idempotent, and a canonical job is valid.
func Canonicalize(job *berthv1.Job) *berthv1.Job {
	job = proto.CloneOf(job)
	fill(schema.Of(job.ProtoReflect().Descriptor()), job.ProtoReflect())
	for _, g := range job.GetGroups() {
		if everyNode(job.GetType()) {
			// They run once on every node, and are not moved elsewhere.
			g.Count, g.Reschedule = nil, nil
		} else {
			fillReschedule(job.GetType(), g.GetReschedule())
			g.Reschedule.MaxDelay = longer(g.Reschedule.MaxDelay, g.Reschedule.Delay)
		}
		if g.Update == nil {
			g.Update = proto.CloneOf(job.GetUpdate())
		}
		g.Restart.MaxDelay = longer(g.Restart.MaxDelay, g.Restart.Delay)
		for _, s := range g.GetServices() {
			for _, check := range s.GetChecks() {
				check.Type = checkType(check)
			}
		}
		for _, t := range g.GetTasks() {
			if t.GetResources().GetCores() > 0 {
				t.Resources.CpuMilli = 0 // the default is for shared cores
			}
			if r := t.GetRestart(); r != nil {
				r.MaxDelay = longer(r.MaxDelay, r.Delay)
			}
			normalizeConfig(t)
		}
	}
	return job
}

// fill sets what a message leaves out, and goes into all that it holds.
func fill(m *schema.Message, msg protoreflect.Message) {
	for _, f := range m.Fields {
		switch {
		case f.Kind == schema.Scalar:
			fillScalar(msg, f)
		case f.Kind != schema.Block:
		case f.List:
			list := msg.Get(f.Desc).List()
			for i := range list.Len() {
				fill(f.Message(), list.Get(i).Message())
			}
		case msg.Has(f.Desc) || !absent[f.Desc.FullName()]:
			fill(f.Message(), msg.Mutable(f.Desc).Message())
		}
	}
}

func fillScalar(msg protoreflect.Message, f *schema.Field) {
	if !msg.Has(f.Desc) {
		if f.Default.IsValid() {
			setCopy(msg, f)
		}
		return
	}
	if f.Aliases == nil {
		return
	}
	if !f.List {
		if kept, ok := f.Aliases[msg.Get(f.Desc).String()]; ok {
			msg.Set(f.Desc, protoreflect.ValueOfString(kept))
		}
		return
	}
	list, seen := msg.Mutable(f.Desc).List(), map[string]bool{}
	n := 0
	for i := range list.Len() {
		s := list.Get(i).String()
		if kept, ok := f.Aliases[s]; ok {
			s = kept
		}
		if !seen[s] {
			seen[s] = true
			list.Set(n, protoreflect.ValueOfString(s))
			n++
		}
	}
	list.Truncate(n)
}

// setCopy sets the default; messages and lists are copied, since values of the schema
// are shared.
func setCopy(msg protoreflect.Message, f *schema.Field) {
	switch {
	case f.List:
		list, defaults := msg.Mutable(f.Desc).List(), f.Default.List()
		for i := range defaults.Len() {
			list.Append(defaults.Get(i))
		}
	case f.Desc.Kind() == protoreflect.MessageKind:
		msg.Set(f.Desc, protoreflect.ValueOfMessage(proto.Clone(f.Default.Message().Interface()).ProtoReflect()))
	default:
		msg.Set(f.Desc, f.Default)
	}
}

// longer gives the longer of two: a first delay above the default for the longest one
// is the longest.
func longer(a, b *durationpb.Duration) *durationpb.Duration {
	if b.AsDuration() > a.AsDuration() {
		return proto.CloneOf(b)
	}
	return a
}

// batchAttempts is how often a batch job is rescheduled within the interval (of a day)
// when it does not say.
const batchAttempts = 1

// fillReschedule fills in what depends on the kind of job: services are replaced as
// long as it takes, batch jobs once.
func fillReschedule(t berthv1.Job_Type, p *berthv1.ReschedulePolicy) {
	if p.Unlimited == nil {
		p.Unlimited = proto.Bool(t == berthv1.Job_service && p.Attempts == nil)
	}
	if p.Attempts == nil && !p.GetUnlimited() {
		p.Attempts = proto.Uint32(batchAttempts)
	}
}

// normalizeConfig brings the config of a known driver into its canonical form: the
// fields' own names and units.
func normalizeConfig(t *berthv1.Task) {
	if config := configOf(t); config != nil && t.GetConfig() != nil {
		t.Config = structOf(config.ProtoReflect())
	} // else it is left as it is
}
