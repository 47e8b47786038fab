package command

import (
	"maps"
	"path/filepath"
	"slices"

	"github.com/berthd/berth/agent"
	"github.com/berthd/berth/command/config"
	"github.com/berthd/berth/drivers"
	"github.com/berthd/berth/drivers/exec"
	"github.com/berthd/berth/drivers/mock"
	"github.com/berthd/berth/drivers/qemu"
	"github.com/berthd/berth/drivers/qemu/image"
	"github.com/berthd/berth/problem"
)

// makeAgent opens the agent's store.
func (d *daemon) makeAgent() error {
	cfg := d.cfg
	dir, err := filepath.Abs(cfg.DataDir)
	if err != nil {
		return problem.New(problem.Invalid, "data_dir", "%w", err)
	}
	servers := config.WithPort(cfg.Agent.Servers, config.PortGRPC)
	if d.grpcAddress != "" {
		// The server of this process first: it is there when nothing else is.
		servers = append([]string{d.grpcAddress}, servers...)
	}
	if len(servers) == 0 {
		return problem.New(problem.Invalid, "agent.servers", "the agent knows no server").
			WithRemedy("name one by -servers, BERTH_AGENT_SERVERS or agent { servers = [...] }; for a first look: berth agent -dev")
	}
	tlsConfig, err := d.clientTLS()
	if err != nil {
		return err
	}
	all, err := d.drivers()
	if err != nil {
		return err
	}
	outside, err := d.makePlugins()
	if err != nil {
		return err
	}
	all = append(all, outside...)
	r := cfg.Agent.Reserved
	ports := make([]uint32, 0, len(r.Ports))
	for _, p := range r.Ports {
		ports = append(ports, uint32(p))
	}
	names := agent.DNS{Address: cfg.Agent.DNS.Address, TTL: cfg.Agent.DNS.TTL}
	if cfg.Agent.DNS.Disabled {
		names.Address = ""
	}
	taints, err := parseTaints(cfg.Agent.Taints)
	if err != nil {
		return err
	}
	a, err := agent.New(agent.Config{
		DataDir: dir, Name: cfg.Name, Region: cfg.Region, Pool: cfg.Agent.Pool, Meta: cfg.Agent.Meta, Taints: taints,
		Servers: servers, TLS: tlsConfig, Logger: d.log, Drivers: all,
		Reserved: agent.Reserved{CPUs: r.CPUs, MemoryMiB: uint64(r.Memory), DiskMiB: uint64(r.Disk), Ports: ports},
		Address:  cfg.Agent.Address, MinPort: uint32(cfg.Agent.MinPort), MaxPort: uint32(cfg.Agent.MaxPort),
		Version: Version, MaxDeadAllocs: cfg.Agent.MaxDead, DNS: names,
	})
	if err != nil {
		return err
	}
	d.agent, d.images = a, a.Images
	d.setWords = a.Reconfigure
	if d.flags.dev {
		d.stopWorkloads = a.StopWorkloads
	}
	return nil
}

// builtin makes each driver that this program has.
var builtin = map[string]func(*daemon) (drivers.Driver, error){
	"mock": func(*daemon) (drivers.Driver, error) { return mock.New(mock.NewHost()), nil },
	"exec": func(d *daemon) (drivers.Driver, error) { return exec.New(exec.Config{Log: d.log}), nil },
	"qemu": newQemu,
}

func newQemu(d *daemon) (drivers.Driver, error) {
	dir, err := filepath.Abs(d.cfg.DataDir)
	if err != nil {
		return nil, problem.New(problem.Invalid, "data_dir", "%w", err)
	}
	q := d.cfg.Agent.Qemu
	dirs := q.ImageDirs
	if len(dirs) == 0 && d.flags.dev {
		dirs = []string{"/"} // whoever can ask a cluster on loopback can read these files anyway
	}
	return qemu.New(qemu.Config{User: q.User, Log: d.log, Images: image.Config{
		Dir: filepath.Join(dir, "images"), MaxBytes: int64(q.ImageCache) << 20, HostDirs: dirs, Keys: q.ImageKeys, Cluster: clusterImages{d}, Log: d.log,
	}}), nil
}

// drivers makes those that the configuration names: exec and qemu unless it says otherwise.
func (d *daemon) drivers() ([]drivers.Driver, error) {
	names := d.cfg.Agent.Drivers
	if len(names) == 0 {
		names = []string{"exec", "qemu"}
		if d.flags.dev {
			names = append(names, "mock")
		}
	}
	var all []drivers.Driver
	for _, name := range names {
		newDriver := builtin[name]
		if newDriver == nil {
			return nil, problem.New(problem.Invalid, "agent.drivers", "this program has no driver %q; it has %q", name, slices.Sorted(maps.Keys(builtin)))
		}
		driver, err := newDriver(d)
		if err != nil {
			return nil, err
		}
		all = append(all, driver)
	}
	return all, nil
}
