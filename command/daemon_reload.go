package command

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/berthd/berth/client"
	"github.com/berthd/berth/command/config"
	"github.com/berthd/berth/jobspec"
	"github.com/berthd/berth/problem"
	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

// reload applies what can be changed while running, and says what needs a restart.
func (d *daemon) reload(ctx context.Context) {
	next, err := d.flags.load(d.app.Getenv)
	if err != nil {
		d.log.Error("the configuration was not reloaded: it is wrong", "error", problem.From(err).Error())
		var found *jobspec.Errors
		if errors.As(err, &found) {
			d.app.printError(err)
		}
		return
	}
	// What compose filled in is no difference.
	next.Name, next.DataDir = or(next.Name, d.cfg.Name), or(next.DataDir, d.cfg.DataDir)
	var applied, restart []string
	for _, diff := range d.cfg.Differences(next) {
		switch diff.Path {
		case "log_level":
			setLevel(d.level, next.LogLevel)
			d.cfg.LogLevel = next.LogLevel
		case "server.join":
			if err := d.join(ctx, config.WithPort(next.Server.Join, config.PortGossip)); err != nil {
				d.log.Error("the servers to join did not answer", "error", problem.From(err).Error())
			}
			d.cfg.Server.Join = next.Server.Join
		case "agent.meta", "agent.taints":
			d.cfg.Agent.Meta, d.cfg.Agent.Taints = next.Agent.Meta, next.Agent.Taints
			if taints, err := parseTaints(next.Agent.Taints); err == nil && d.setWords != nil { // they were checked when they were read
				d.setWords(next.Agent.Meta, taints)
			}
		default:
			restart = append(restart, diff.Path)
			continue
		}
		applied = append(applied, diff.Path)
	}
	d.log.Info("the configuration was reloaded", "applied", strings.Join(applied, " "), "needs_restart", strings.Join(restart, " "))
}

// join has this process's server join others, by the way that anybody asks for it.
func (d *daemon) join(ctx context.Context, addresses []string) error {
	if d.grpcAddress == "" || len(addresses) == 0 {
		return nil
	}
	tlsConfig, err := d.clientTLS()
	if err != nil {
		return err
	}
	c, err := client.New(client.Config{Address: d.grpcAddress, TLS: tlsConfig})
	if err != nil {
		return err
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	_, err = c.Status.JoinServers(ctx, &berthv1.JoinServersRequest{Addresses: addresses})
	return err
}
