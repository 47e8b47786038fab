package command

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"github.com/berthd/berth/agent/session"
	"github.com/berthd/berth/command/config"
	"github.com/berthd/berth/plugins"
	"github.com/berthd/berth/problem"
	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

// part is a server or an agent that a daemon is made of.
type part interface {
	// Run runs until ctx ends.
	Run(ctx context.Context) error
}

// daemon is a process with a server, an agent or both.
type daemon struct {
	app   *app
	flags *daemonFlags
	cfg   *config.Config
	log   *slog.Logger
	level *slog.LevelVar

	server, agent part
	plugins       []*plugins.Plugin
	// stopWorkloads is called before the agent ends; nil: its workloads go on.
	stopWorkloads func(context.Context) error
	// setWords changes the node's words and taints; nil: there is no agent.
	setWords func(meta map[string]string, taints []*berthv1.Taint)
	// images gives the images that the cluster keeps; nil: there is no agent.
	images func() (*session.Images, error)
	// grpcAddress and httpAddress are where this process's own server answers; "": there
	// is none.
	grpcAddress, httpAddress string
	// undo gives back what was taken, last first: locks, the temporary directory.
	undo []func()
}

// stopWorkloadsFor bounds how long a dev agent waits for its workloads to stop.
const stopWorkloadsFor = 30 * time.Second

// runDaemon composes a daemon by its configuration and runs it until ctx ends.
func (a *app) runDaemon(ctx context.Context, f *daemonFlags) (err error) {
	cfg, err := f.load(a.Getenv)
	if err != nil {
		return err
	}
	d := &daemon{app: a, flags: f, cfg: cfg, level: new(slog.LevelVar)}
	d.log = newLogger(a.Err, cfg, d.level)
	defer d.close()
	if err := d.compose(); err != nil {
		return err
	}
	d.announce()
	return d.run(ctx)
}

func (d *daemon) close() {
	for i := len(d.undo) - 1; i >= 0; i-- {
		d.undo[i]()
	}
}

// newLogger writes as the configuration says.
func newLogger(w interface{ Write([]byte) (int, error) }, cfg *config.Config, level *slog.LevelVar) *slog.Logger {
	setLevel(level, cfg.LogLevel)
	opts := &slog.HandlerOptions{Level: level}
	if cfg.LogFormat == "json" {
		return slog.New(slog.NewJSONHandler(w, opts))
	}
	return slog.New(slog.NewTextHandler(w, opts))
}

func setLevel(level *slog.LevelVar, name string) {
	// The configuration has checked the name.
	_ = level.UnmarshalText([]byte(name))
}

// compose makes the parts; nothing runs yet.
func (d *daemon) compose() error {
	if err := d.makeDataDir(); err != nil {
		return err
	}
	if d.cfg.Name == "" {
		name, err := os.Hostname()
		if err != nil {
			return problem.New(problem.Invalid, "name", "the host has no name: %w", err).WithRemedy("set name, or -name")
		}
		d.cfg.Name = name
	}
	if d.cfg.Server.Enabled {
		if err := d.makeServer(); err != nil {
			return fmt.Errorf("starting the server: %w", err)
		}
	}
	if d.cfg.Agent.Enabled {
		if err := d.makeAgent(); err != nil {
			return fmt.Errorf("starting the agent: %w", err)
		}
	}
	return nil
}

// announce says to people and to systemd that the daemon is up.
func (d *daemon) announce() {
	if d.flags.dev {
		d.app.printf("Berth %s, a server and an agent in one process on loopback, to try things out.\n", Version)
		d.app.printf("  API    %s (gRPC)   http://%s/v1\n", d.grpcAddress, d.httpAddress)
		d.app.printf("  data   %s%s\n", d.cfg.DataDir, map[bool]string{true: " (removed at the end)"}[d.flags.dataDir == ""])
		d.app.printf("  next   berth job init && berth job run example.hcl\n")
		d.app.printf("Ctrl-C ends it and stops what it runs.\n")
	}
	d.log.Info("berth is starting", "version", Version, "name", d.cfg.Name, "server", d.cfg.Server.Enabled, "agent", d.cfg.Agent.Enabled, "data_dir", d.cfg.DataDir)
	notifySystemd(d.app.Getenv, "READY=1")
}

// run runs the parts until ctx ends or one of them does, and ends the agent before the
// server that it may be connected to.
func (d *daemon) run(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	reloads := make(chan os.Signal, 1)
	signal.Notify(reloads, syscall.SIGHUP)
	defer signal.Stop(reloads)

	var wg sync.WaitGroup
	stopServer := d.start(ctx, &wg, d.server, "server", cancel)
	stopPlugins := d.startPlugins(ctx)
	var agents sync.WaitGroup
	stopAgent := d.start(ctx, &agents, d.agent, "agent", cancel)
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-reloads:
			d.reload(ctx)
		}
	}
	notifySystemd(d.app.Getenv, "STOPPING=1")
	d.log.Info("berth is stopping")
	if d.stopWorkloads != nil {
		grace, done := context.WithTimeout(context.WithoutCancel(ctx), stopWorkloadsFor)
		if err := d.stopWorkloads(grace); err != nil {
			d.log.Error("not every workload could be stopped", "error", err)
		}
		done()
	}
	stopAgent()
	agents.Wait()
	stopPlugins()
	stopServer()
	wg.Wait()
	if err := context.Cause(ctx); err != nil && !errors.Is(err, context.Canceled) && !errors.Is(err, errEnded) {
		return err
	}
	return nil
}

// errEnded is why a daemon ends whose server has left the cluster.
var errEnded = errors.New("ended by itself")

// start runs a part until stop is called; when it ends, the daemon does, unless it was
// told to. A server ends with ctx only when the agent has.
func (d *daemon) start(ctx context.Context, wg *sync.WaitGroup, p part, name string, ended context.CancelCauseFunc) (stop func()) {
	if p == nil {
		return func() {}
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	wg.Go(func() {
		err := p.Run(ctx)
		switch {
		case ctx.Err() != nil && (err == nil || errors.Is(err, context.Canceled)):
			ended(errEnded)
		case err != nil:
			ended(fmt.Errorf("the %s has ended: %w", name, err))
		default:
			ended(errEnded)
		}
	})
	return cancel
}
