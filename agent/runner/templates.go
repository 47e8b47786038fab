package runner

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/berthd/berth/agent/discovery"
	"github.com/berthd/berth/agent/store"
	"github.com/berthd/berth/agent/template"
	"github.com/berthd/berth/drivers"
	"github.com/berthd/berth/problem"
	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

const (
	// templatePause gathers changes that come together.
	templatePause = time.Second
	// templateRetry is the wait before a file that could not be written is tried again.
	templateRetry = 30 * time.Second
)

// templates is what a task's templates are about. Its goroutine alone touches it, but for
// what is guarded by the task's mu.
type templates struct {
	ready bool                    // all files were made in this life of the agent
	sub   *discovery.Subscription // nil: nothing was rendered in this life
	// acted are the hashes of what the task was started with, or told of, by destination;
	// nil: to be read. They are stored after it was told, so it is told at least once.
	acted map[string]string
	due   time.Time // when it is told of what has changed; zero: nothing has
	said  string    // the last event, so that none is said twice

	changed bool              // mu: something that they read may have changed
	env     map[string]string // mu: what they give the environment
}

// rendered is what came of all of a task's templates.
type rendered struct {
	texts []text
	// waits says what is not there, or not known yet; absent, what is not there.
	waits, absent string
	// fails says that something absent fails the task.
	fails bool
	env   map[string]string
}

type text struct {
	def  *berthv1.Template
	text []byte
	hash string
}

// renderFirst renders everything before the task starts, as soon as all is there.
func (t *task) renderFirst(ctx context.Context, def *berthv1.Task, dt *drivers.Task) error {
	if len(def.GetTemplates()) == 0 {
		return nil
	}
	for {
		r, err := t.render(def, dt)
		if err != nil {
			return err
		}
		if r.waits == "" {
			return t.writeFirst(r, dt)
		}
		if r.fails {
			return problem.New(problem.Invalid, "template", "there is no %s, and fail_on_missing is set", r.absent)
		}
		t.sayOnce("waiting", "templates wait for "+r.waits)
		select {
		case <-t.wake:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (t *task) writeFirst(r rendered, dt *drivers.Task) error {
	acted := map[string]string{}
	for _, x := range r.texts {
		if err := t.write(x, dt); err != nil {
			return err
		}
		acted[x.def.GetDestination()] = x.hash
	}
	if err := t.m.fault("rendered"); err != nil {
		return errors.Join(errFault, err)
	}
	t.templates.acted, t.templates.due, t.templates.said = acted, time.Time{}, ""
	t.mu.Lock()
	t.templates.env = r.env
	t.mu.Unlock()
	return t.saveActed()
}

// render renders all templates with what is known now, and follows what they read.
func (t *task) render(def *berthv1.Task, dt *drivers.Task) (rendered, error) {
	t.subscribe()
	for {
		r, topics, err := t.renderOnce(def, dt)
		var unknown []*berthv1.Topic
		for _, topic := range topics {
			if t.templates.sub.Get(topic) == nil {
				unknown = append(unknown, topic)
			}
		}
		t.templates.sub.Want(topics)
		// What was told before it was wanted would wake nobody.
		if slices.ContainsFunc(unknown, func(topic *berthv1.Topic) bool { return t.templates.sub.Get(topic) != nil }) {
			continue
		}
		return r, err
	}
}

func (t *task) renderOnce(def *berthv1.Task, dt *drivers.Task) (r rendered, topics []*berthv1.Topic, first error) {
	in := t.templateInput(dt)
	r.env = map[string]string{}
	var absent, unknown []string
	for _, d := range def.GetTemplates() {
		source := []byte(d.GetData())
		if d.GetSource() != "" {
			var err error
			if source, err = readFile(dt.Dirs.Task, d.GetSource(), template.MaxSource); err != nil {
				first = cmpError(first, problem.New(problem.Invalid, d.GetDestination(), "reading the template: %w", err))
				continue
			}
		}
		out, err := template.Render(d, string(source), in)
		topics = append(topics, out.Topics...)
		if err == nil && len(out.Missing)+len(out.Unknown) == 0 && d.GetEnv() {
			var env map[string]string
			env, err = template.ParseEnv(d.GetDestination(), out.Text)
			maps.Copy(r.env, env)
		}
		if err != nil {
			first = cmpError(first, fmt.Errorf("template for %s: %w", d.GetDestination(), err))
			continue
		}
		absent, unknown = append(absent, out.Missing...), append(unknown, out.Unknown...)
		r.fails = r.fails || d.GetFailOnMissing() && len(out.Missing) > 0
		sum := sha256.Sum256(out.Text)
		r.texts = append(r.texts, text{d, out.Text, hex.EncodeToString(sum[:])})
	}
	r.absent, r.waits = listed(absent), listed(append(unknown, absent...))
	return r, topics, first
}

func listed(words []string) string {
	slices.Sort(words)
	return strings.Join(slices.Compact(words), ", ")
}

func cmpError(first, err error) error {
	if first != nil {
		return first
	}
	return err
}

// templateInput is what a template can read of the node and the alloc.
func (t *task) templateInput(dt *drivers.Task) template.Input {
	s := t.alloc.spec(t.def)
	meta := map[string]string{}
	for _, m := range []map[string]string{s.job.GetMeta(), s.group.GetMeta(), s.task.GetMeta()} {
		maps.Copy(meta, m)
	}
	ports := map[string]any{}
	for _, p := range s.alloc.GetAssignment().GetPorts() {
		ip, inside := p.GetAddress(), p.GetTo()
		if ip == "" {
			ip = s.node.GetAddress()
		}
		if inside == 0 {
			inside = p.GetPort()
		}
		ports[p.GetName()] = map[string]any{
			"port": int(inside), "host_port": int(p.GetPort()), "ip": ip, "address": net.JoinHostPort(ip, strconv.Itoa(int(p.GetPort()))),
		}
	}
	return template.Input{
		Namespace: s.alloc.GetNamespace(), Env: dt.Env, Know: t.templates.sub.Get,
		Values: map[string]any{
			"env": dt.Env,
			"node": map[string]any{
				"id": s.node.GetId(), "name": s.node.GetName(), "pool": s.node.GetPool(), "arch": s.node.GetArch(),
				"address": s.node.GetAddress(), "attributes": s.node.GetAttributes(), "meta": s.node.GetMeta(),
			},
			"alloc": map[string]any{
				"id": s.alloc.GetId(), "index": int(s.alloc.GetIndex()), "name": dt.Env["BERTH_ALLOC_NAME"], "job": s.alloc.GetJob(),
				"group": s.alloc.GetGroup(), "task": t.def, "namespace": s.alloc.GetNamespace(), "ports": ports, "meta": meta,
			},
		},
	}
}

// subscribe has the task woken by changes of what its templates read, to its end.
func (t *task) subscribe() {
	if t.templates.sub != nil {
		return
	}
	sub := t.m.cfg.Catalog.Subscribe()
	t.templates.sub = sub
	t.m.mu.Lock()
	ctx := t.m.ctx
	t.m.mu.Unlock()
	t.m.wg.Go(func() {
		defer sub.Close()
		for {
			select {
			case <-sub.C:
				t.order(func() { t.templates.changed = true })
			case <-t.done:
				return
			case <-ctx.Done():
				return
			}
		}
	})
}

// lookAgain has the templates of a task that was found again looked at: they may have
// changed while the agent was away.
func (t *task) lookAgain() {
	has := len(t.alloc.taskSpec(t.def).GetTemplates()) > 0
	t.mu.Lock()
	defer t.mu.Unlock()
	t.templates.changed = has
}

// rerender looks at the templates of a running task: what has changed is written when the
// time has come, and the task is told.
func (t *task) rerender(ctx context.Context) error {
	t.mu.Lock()
	t.templates.changed = false
	t.mu.Unlock()
	due := !t.templates.due.IsZero() && !time.Now().Before(t.templates.due)
	def := t.alloc.taskSpec(t.def)
	dt, err := t.build()
	if err != nil {
		return nil // said when it is started
	}
	r, err := t.render(def, dt)
	if err != nil || r.waits != "" {
		t.templates.due = time.Time{}
		if err != nil {
			t.sayOnce("template failed", "the file stays as it was: "+err.Error())
		} else if r.absent != "" {
			t.sayOnce("waiting", "the file stays as it was: there is no "+r.absent)
		}
		return nil
	}
	t.mu.Lock()
	if t.templates.env == nil {
		t.templates.env = r.env // the agent was restarted
	}
	t.mu.Unlock()
	changed := t.pending(r)
	switch {
	case len(changed) == 0:
		t.templates.due, t.templates.said = time.Time{}, ""
		return nil
	case !due:
		if t.templates.due.IsZero() {
			t.templates.due = time.Now().Add(templatePause + splayOf(changed))
		}
		return nil
	}
	t.templates.due = time.Time{}
	for _, x := range changed {
		if err := t.write(x, dt); err != nil {
			t.sayOnce("template failed", "the file stays as it was: "+err.Error())
			t.templates.due = time.Now().Add(templateRetry)
			return nil
		}
	}
	if err := t.m.fault("rerendered"); err != nil {
		return err
	}
	t.templates.said = ""
	return t.tell(ctx, dt, changed)
}

// pending are the templates whose text is not what the task knows.
func (t *task) pending(r rendered) []text {
	if t.templates.acted == nil {
		t.templates.acted = map[string]string{}
		if b, err := os.ReadFile(t.actedPath()); err == nil {
			_ = json.Unmarshal(b, &t.templates.acted)
		}
	}
	return slices.DeleteFunc(slices.Clone(r.texts), func(x text) bool { return t.templates.acted[x.def.GetDestination()] == x.hash })
}

// splayOf is a random wait, up to the longest of the templates'.
func splayOf(changed []text) time.Duration {
	longest := time.Duration(0)
	for _, x := range changed {
		longest = max(longest, x.def.GetSplay().AsDuration())
	}
	if longest <= 0 {
		return 0
	}
	return rand.N(longest)
}

// sayOnce adds an event, but not the same again.
func (t *task) sayOnce(kind, words string) {
	if t.templates.said == words {
		return
	}
	t.templates.said = words
	t.log.Info("templates", "state", kind, "words", words)
	t.event(kind, words)
	t.publish(false)
}

func (t *task) write(x text, dt *drivers.Task) error {
	perms := uint64(0o644)
	if p := x.def.GetPerms(); p != "" {
		n, err := strconv.ParseUint(p, 8, 12)
		if err != nil {
			return problem.New(problem.Invalid, "perms", "%q are no permissions", clip(p))
		}
		perms = n
	}
	return putFile(dt.Dirs.Task, x.def.GetDestination(), x.text, fs.FileMode(perms&0o777), dt.User)
}

func (t *task) actedPath() string {
	return filepath.Join(t.m.cfg.Layout.filesDir(t.key), "templates.json")
}

func (t *task) saveActed() error {
	b, err := json.Marshal(t.templates.acted)
	if err == nil {
		err = os.MkdirAll(filepath.Dir(t.actedPath()), 0o700)
	}
	if err == nil {
		err = store.WriteFile(t.actedPath(), b, 0o600)
	}
	if err != nil {
		return fmt.Errorf("remembering what was rendered: %w", err)
	}
	return nil
}
