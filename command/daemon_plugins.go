package command

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/berthd/berth/drivers"
	"github.com/berthd/berth/plugins"
	"github.com/berthd/berth/problem"
)

// pluginPrefix begins the file names of driver plugins; the driver's name follows.
const pluginPrefix = "berth-driver-"

// pluginsReadyFor bounds how long the agent waits for its plugins when it starts; one
// that takes longer is seen at the agent's next look at its drivers.
const pluginsReadyFor = 5 * time.Second

// makePlugins makes a driver of each executable berth-driver-<name> in the directory
// that the configuration names.
func (d *daemon) makePlugins() ([]drivers.Driver, error) {
	dir := d.cfg.Agent.PluginDir
	if dir == "" {
		return nil, nil
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, problem.New(problem.Invalid, "agent.plugin_dir", "the directory of plugins cannot be read: %w", err)
	}
	var all []drivers.Driver
	for _, e := range entries {
		name, ok := strings.CutPrefix(e.Name(), pluginPrefix)
		info, err := os.Stat(filepath.Join(dir, e.Name()))
		if !ok || name == "" || err != nil || !info.Mode().IsRegular() || info.Mode()&0o111 == 0 {
			d.log.Warn("this is no driver plugin: those are executables named "+pluginPrefix+"<name>", "file", filepath.Join(dir, e.Name()))
			continue
		}
		if builtin[name] != nil {
			return nil, problem.New(problem.Conflict, filepath.Join(dir, e.Name()), "the driver %s is built in", name).
				WithRemedy("give the plugin's driver another name")
		}
		state := filepath.Join(d.cfg.DataDir, "agent", "plugins", name)
		if err := os.MkdirAll(state, 0o700); err != nil {
			return nil, problem.New(problem.Invalid, state, "a plugin's directory cannot be made: %w", unpath(err))
		}
		p := plugins.New(plugins.Config{Name: name, Path: filepath.Join(dir, e.Name()), StateDir: state, Log: d.log})
		d.plugins = append(d.plugins, p)
		all = append(all, p)
	}
	return all, nil
}

// startPlugins runs the plugins until stop is called, and returns when they are ready or
// have had their time. Their processes outlive the daemon with their tasks, but not a
// dev agent, which stops its workloads.
func (d *daemon) startPlugins(ctx context.Context) (stop func()) {
	running, cancel := context.WithCancel(context.WithoutCancel(ctx))
	var wg sync.WaitGroup
	for _, p := range d.plugins {
		wg.Go(func() { _ = p.Run(running) })
	}
	ready, done := context.WithTimeout(ctx, pluginsReadyFor)
	defer done()
	for _, p := range d.plugins {
		if err := p.Ready(ready); err != nil {
			d.log.Warn("a plugin is not ready yet", "error", problem.From(err).Error())
		}
	}
	return func() {
		cancel()
		wg.Wait()
		if !d.flags.dev {
			return
		}
		for _, p := range d.plugins {
			if err := p.End(); err != nil {
				d.log.Error("a plugin could not be ended", "error", err)
			}
		}
	}
}
