package plugins

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/berthd/berth/drivers"
	"github.com/berthd/berth/problem"
)

// Config is one plugin of the agent's configuration.
type Config struct {
	// Name is the driver's: the plugin must give itself the same.
	Name string
	// Path is the executable.
	Path string
	Args []string
	// Env is added to a minimal environment.
	Env []string
	// StateDir is the agent's, where the plugin's process is found again.
	StateDir string
	// SocketDir is where the socket is made; "" is the system's temporary directory.
	SocketDir string
	// StartTimeout bounds the handshake; 0: 10 s. CallTimeout bounds a call that ought
	// to be short, such as Probe; 0: 30 s.
	StartTimeout, CallTimeout time.Duration
	// MinPause and MaxPause bound the pause before a plugin that died is started again;
	// 0: 500 ms and 1 min.
	MinPause, MaxPause time.Duration
	// Log gets the plugin's own words and what becomes of it; nil: nobody does.
	Log *slog.Logger
}

// Plugin is a driver out of process. It is usable as long as Run runs. It has the
// methods of every power; Info says which the driver has, and the others answer that it
// has not.
type Plugin struct {
	cfg Config
	log *slog.Logger

	mu      sync.Mutex
	up      chan struct{} // closed while link is there; a new one when it goes
	link    *link
	lastErr error // why there is no link
	info    drivers.Info
	tasks   map[string]known // started or recovered through this Plugin
}

// known is a task that a plugin started anew must recover.
type known struct {
	task   *drivers.Task
	handle *drivers.Handle
}

// New makes a plugin; it starts nothing.
func New(cfg Config) *Plugin {
	for d, byDefault := range map[*time.Duration]time.Duration{
		&cfg.StartTimeout: 10 * time.Second, &cfg.CallTimeout: 30 * time.Second,
		&cfg.MinPause: 500 * time.Millisecond, &cfg.MaxPause: time.Minute,
	} {
		if *d == 0 {
			*d = byDefault
		}
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	return &Plugin{
		cfg: cfg, log: cfg.Log.With("plugin", cfg.Name), up: make(chan struct{}), tasks: map[string]known{},
		info: drivers.Info{Name: cfg.Name}, lastErr: problem.New(problem.Unavailable, "", "plugin %s has not been started yet", cfg.Name),
	}
}

// Run keeps the plugin's process running until ctx ends, and leaves it running then: its
// tasks may need it. Use End for a plugin that is not wanted any more.
func (p *Plugin) Run(ctx context.Context) error {
	pause := p.cfg.MinPause
	for {
		begun := time.Now()
		l, err := p.connect(ctx)
		if err == nil {
			if p.serve(ctx, l); ctx.Err() != nil {
				return nil
			}
			err = problem.New(problem.Unavailable, "", "plugin %s died", p.cfg.Name)
		}
		if time.Since(begun) > p.cfg.MaxPause {
			pause = p.cfg.MinPause // it did well for a while
		}
		p.log.Warn("the plugin does not run", "error", err, "again_in", pause)
		p.down(problem.New(problem.Unavailable, "", "%w; it is started again in %s", err, pause))
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return nil
		}
		pause = min(2*pause, p.cfg.MaxPause)
	}
}

// serve lets calls through until the plugin or ctx ends.
func (p *Plugin) serve(ctx context.Context, l *link) {
	defer l.conn.Close()
	if err := p.recoverTasks(ctx, l); err != nil {
		p.log.Warn("a plugin's tasks could not all be recovered", "error", err)
	}
	p.mu.Lock()
	p.link, p.lastErr = l, nil
	close(p.up)
	p.mu.Unlock()
	select {
	case <-l.gone:
	case <-ctx.Done():
	}
	p.down(problem.New(problem.Unavailable, "", "plugin %s is not running", p.cfg.Name))
}

// down stops calls.
func (p *Plugin) down(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.link != nil {
		p.link, p.up = nil, make(chan struct{})
	}
	p.lastErr = err
}

// recoverTasks gives a process that is new to this Plugin what was given to the last one.
func (p *Plugin) recoverTasks(ctx context.Context, l *link) error {
	p.mu.Lock()
	tasks := make([]known, 0, len(p.tasks))
	for _, k := range p.tasks {
		tasks = append(tasks, k)
	}
	p.mu.Unlock()
	var causes []*problem.Error
	for _, k := range tasks {
		limited, cancel := context.WithTimeout(ctx, p.cfg.CallTimeout)
		err := l.recover(limited, k.task, k.handle)
		cancel()
		if err != nil {
			causes = append(causes, problem.From(fmt.Errorf("task %s: %w", k.task.ID, err)))
		}
	}
	return problem.Join(problem.Unavailable, "some tasks were not recovered", causes)
}

// Ready returns when the plugin takes calls, or with why it does not when ctx ends.
func (p *Plugin) Ready(ctx context.Context) error {
	p.mu.Lock()
	up := p.up
	p.mu.Unlock()
	select {
	case <-up:
		return nil
	case <-ctx.Done():
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.lastErr != nil {
			return p.lastErr
		}
		return ctx.Err()
	}
}

// current gives the link to call by.
func (p *Plugin) current() (*link, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.link == nil {
		return nil, p.lastErr
	}
	return p.link, nil
}

func (p *Plugin) remember(t *drivers.Task, h *drivers.Handle) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.tasks[t.ID] = known{task: t, handle: h}
}

func (p *Plugin) forget(id string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.tasks, id)
}
