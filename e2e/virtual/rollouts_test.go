package virtual

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

const webs = 4

// web is the next version of the service that is rolled out, by a strategy of any kind. A
// bad one never passes its check.
func web(rng *rand.Rand, version int, good bool) *berthv1.Job {
	j := service("web", webs)
	g := j.Groups[0]
	pick := func(of ...string) string { return of[rng.IntN(len(of))] }
	g.Tasks[0].Env = map[string]string{"VERSION": fmt.Sprint(version)}
	check := &berthv1.Check{Name: "up", Type: "script", Command: []string{"exit", "0"}, Interval: durationpb.New(2 * time.Second)}
	if !good {
		check.Command[1] = "1"
	}
	g.Services = []*berthv1.Service{{Name: "web", Checks: []*berthv1.Check{check}}}
	g.Disruption = &berthv1.Disruption{MaxUnavailable: "1"}
	g.Update = &berthv1.UpdateStrategy{
		MaxParallel: "1", AutoRevert: rng.IntN(4) > 0, Canary: pick("0", "0", "1", "50%", "100%"), Promote: pick("manual", "healthy"),
		Stagger: durationpb.New(time.Duration(rng.IntN(10)) * time.Second), MinHealthyTime: durationpb.New(5 * time.Second),
		HealthyDeadline: durationpb.New(30 * time.Second), ProgressDeadline: durationpb.New(time.Duration(rng.IntN(2)*3) * time.Minute),
	}
	return j
}

// reader is a job whose template lists who can be called.
func reader() *berthv1.Job {
	j := service("reader", 1)
	j.Groups[0].Tasks[0].Templates = []*berthv1.Template{{
		Data: "{{ range tryService \"web\" }}{{ .alloc }}\n{{ end }}", Destination: "instances", ChangeMode: "none",
	}}
	return j
}

// Versions good and bad are rolled out by every strategy, while leaders are lost at any
// point, nodes are drained and operators act: each roll-out ends, a good one well, one that
// goes back comes to where it began, and the promises hold at every step.
func TestRolloutsUnderLostLeaders(t *testing.T) {
	for seed := range seeds(2) {
		t.Run(fmt.Sprint("seed=", seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { rollouts(t, uint64(seed), 0) })
		})
	}
}

// The same while hosts are cut off, reboot and lose tasks: then a good version may fail.
func TestRolloutsUnderLostHosts(t *testing.T) {
	for seed := range seeds(2) {
		t.Run(fmt.Sprint("seed=", seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { rollouts(t, uint64(seed), 30*time.Second) })
		})
	}
}

// release is one roll-out under faults.
type release struct {
	*promises
	c    *cluster
	rng  *rand.Rand
	job  *berthv1.Job // as the servers have it
	good bool
	// failed says that an operator has said so.
	failed  bool
	drained string // a node that is being drained
}

func rollouts(t *testing.T, seed uint64, grace time.Duration) {
	rng := rand.New(rand.NewPCG(seed, 4))
	c := newCluster(t, 3, 4)
	defer c.close()
	k := newChecker(c)
	c.register(web(rng, 0, true))
	c.register(reader())
	both := map[string]int{"web": webs, "reader": 1}
	c.waitConverged(both, 5*time.Minute)
	p := k.watch("web", "reader", webs, 1, grace)
	ends := map[string]int{}
	for version := 1; version <= 12; version++ {
		good := rng.IntN(2) == 0
		r := &release{promises: p, c: c, rng: rng, good: good}
		stable := c.stable("web")
		c.register(web(rng, version, good))
		r.job = c.newest("web")
		ends[r.run(stable)]++
	}
	c.heal()
	last := web(rng, 99, true)
	last.Groups[0].Update.Canary = "0"
	c.register(last)
	c.waitConverged(both, 30*time.Minute)
	p.check()
	t.Log(ends, p.listed)
	if ends["successful"] == 0 || ends["reverted"] == 0 || p.listed == 0 {
		t.Errorf("roll-outs ended %v, %d instances were listed: the test is void", ends, p.listed)
	}
}

// newest is a job as the leader has it.
func (c *cluster) newest(name string) *berthv1.Job {
	return c.leader().proc.Store().View().Job("default", name)
}

// stable is the newest version of a job that was rolled out well.
func (c *cluster) stable(name string) *berthv1.Job {
	j := c.newest(name)
	if j.GetStable() {
		return j
	}
	return c.leader().proc.Store().View().StableBelow("default", name, j.GetVersion())
}

func (r *release) deployment() *berthv1.Deployment {
	return r.c.leader().proc.Store().View().DeploymentOf("default", "web", r.job.GetVersion())
}

// run goes on until the roll-out has ended, and says how.
func (r *release) run(stable *berthv1.Job) string {
	const faults, limit = 3 * time.Minute, 45 * time.Minute
	began, healed := time.Now(), false
	for {
		d := r.deployment()
		if d != nil && !d.Active() {
			return r.ended(d, stable)
		}
		switch since := time.Since(began); {
		case since > limit:
			r.c.t.Fatalf("version %d is rolled out for %s: %v\n%s", r.job.GetVersion(), since, d, r.c.describe())
		case since < faults:
			r.fault()
			r.operate(d, 20)
		default:
			if !healed {
				r.heal()
				healed = true
			}
			r.operate(d, 4)
		}
		r.step(1000)
	}
}

// step lets up to so many milliseconds pass, at a time that nothing foresees.
func (r *release) step(most int) {
	r.c.t.Helper()
	time.Sleep(time.Duration(1+r.rng.IntN(most)) * time.Millisecond)
	r.check()
}

func (r *release) heal() {
	r.c.heal()
	if r.drained != "" {
		r.c.drain(&berthv1.DrainNodeRequest{NodeId: r.drained, Disable: true})
		r.drained = ""
	}
}

// settle heals, and gives a server that has come back time to be one of three again: the
// others must know its new address before they can do without one more.
func (r *release) settle() {
	r.c.heal()
	for end := time.Now().Add(5 * time.Second); time.Now().Before(end); {
		r.step(1000)
	}
}

// fault makes one fault, or heals, now and then.
func (r *release) fault() {
	s, a := r.c.servers[r.rng.IntN(3)], r.c.agents[r.rng.IntN(4)]
	switch r.rng.IntN(60) {
	case 0, 1:
		r.settle()
		r.c.leader().crash()
	case 2, 3:
		r.settle()
		r.c.isolate(r.c.leader().name)
	case 4:
		s.disk.SetDelay(time.Duration(r.rng.IntN(300)) * time.Millisecond)
	case 5, 6, 7:
		r.c.heal()
	case 8:
		if r.drained == "" {
			r.drained = a.name
			r.c.drain(&berthv1.DrainNodeRequest{NodeId: a.name})
		}
	case 9, 10:
		if r.grace == 0 {
			return
		}
		switch r.rng.IntN(3) {
		case 0:
			a.setCut(true)
		case 1:
			a.crash()
			a.host.Reboot()
			a.start()
		case 2:
			a.endTask(r.rng)
		}
	}
}

// operate does what an operator might, one time in so many: canaries that wait for them
// are promoted, what is paused is resumed.
func (r *release) operate(d *berthv1.Deployment, rarely int) {
	if d == nil || r.rng.IntN(rarely) > 0 {
		return
	}
	do := berthv1.DeploymentAction_DEPLOYMENT_ACTION_PROMOTE
	switch {
	case d.GetStatus() == berthv1.Deployment_paused:
		do = berthv1.DeploymentAction_DEPLOYMENT_ACTION_RESUME
	case r.rng.IntN(12) == 0:
		do = berthv1.DeploymentAction_DEPLOYMENT_ACTION_FAIL
	case r.rng.IntN(6) == 0:
		do = berthv1.DeploymentAction_DEPLOYMENT_ACTION_PAUSE
	}
	change := func(ctx context.Context, conn grpc.ClientConnInterface, req *berthv1.ChangeDeploymentRequest) (*berthv1.ChangeDeploymentResponse, error) {
		return berthv1.NewDeploymentServiceClient(conn).ChangeDeployment(ctx, req)
	}
	// Refused where it cannot be done now.
	_, _ = call(r.c, change, &berthv1.ChangeDeploymentRequest{DeploymentId: d.GetId(), Action: do})
	r.failed = r.failed || do == berthv1.DeploymentAction_DEPLOYMENT_ACTION_FAIL
}

// ended holds a roll-out's end against what it should be.
func (r *release) ended(d *berthv1.Deployment, stable *berthv1.Job) string {
	t := r.c.t
	t.Helper()
	switch status := d.GetStatus(); {
	case status == berthv1.Deployment_successful && r.good:
		return "successful"
	case status != berthv1.Deployment_failed || r.good && !r.failed && r.grace == 0:
		t.Fatalf("version %d (good: %t) ended %s: %s\n%s", d.GetJobVersion(), r.good, status, d.GetStatusReason(), r.c.describe())
	case !r.job.GetGroups()[0].GetUpdate().GetAutoRevert():
		return "failed"
	}
	r.wentBack(stable)
	return "reverted"
}

// wentBack says that the job came to the version where it began, and runs that.
func (r *release) wentBack(stable *berthv1.Job) {
	t := r.c.t
	t.Helper()
	for range 600 {
		r.step(1000)
		if r.c.newest("web").GetVersion() > r.job.GetVersion() {
			break
		}
	}
	r.heal()
	back := r.c.newest("web")
	if back.GetVersion() != r.job.GetVersion()+1 || back.GetRevertedTo() != stable.GetVersion() || !sameSpec(back, stable) {
		t.Fatalf("version %d follows, back to %d; want %d, back to %d\n%v\n%v", back.GetVersion(), back.GetRevertedTo(), r.job.GetVersion()+1, stable.GetVersion(), back, stable)
	}
	r.job = back
	for range 3600 {
		if !r.deployment().Active() {
			break
		}
		r.step(1000)
	}
	r.c.waitConverged(map[string]int{"web": webs}, 30*time.Minute)
	for a := range r.c.leader().proc.Store().View().AllocsByJob("default", "web") {
		if a.Wanted() && (a.GetJobVersion() != back.GetVersion() || a.GetCanary()) {
			t.Fatalf("%s runs version %d (canary: %t), want %d:\n%s", a.Name(), a.GetJobVersion(), a.GetCanary(), back.GetVersion(), r.c.describe())
		}
	}
}

// sameSpec says whether two versions ask for the same.
func sameSpec(a, b *berthv1.Job) bool {
	return proto.Equal(&berthv1.Job{Name: a.GetName(), Groups: a.GetGroups(), Update: a.GetUpdate(), Meta: a.GetMeta(), Priority: a.GetPriority(), Type: a.GetType()},
		&berthv1.Job{Name: b.GetName(), Groups: b.GetGroups(), Update: b.GetUpdate(), Meta: b.GetMeta(), Priority: b.GetPriority(), Type: b.GetType()})
}
