package agent

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"time"

	"github.com/berthd/berth/drivers"
	"github.com/berthd/berth/problem"
	berthv1 "github.com/berthd/berth/proto/berth/v1"
	"github.com/berthd/berth/topology"
)

const (
	defaultMinPort = 20000
	defaultMaxPort = 32000
	defaultPool    = "default"
	// defaultWatch is how often the node is looked at for changes.
	defaultWatch = 30 * time.Second
)

// Config is what an agent works with.
type Config struct {
	// DataDir is absolute; the agent keeps its state and the allocations there.
	DataDir string
	// Name of the node; empty: the host's name. Pool: empty: "default".
	Name, Pool string
	// Meta are words for constraints ("meta.<key>"); Taints keep off what does not
	// tolerate them.
	Meta   map[string]string
	Taints []*berthv1.Taint
	// Servers are gRPC addresses, host:port, to begin with.
	Servers []string
	// TLS for the way to the servers; nil: plain.
	TLS *tls.Config
	// Logger is required.
	Logger *slog.Logger
	// Drivers that this agent has.
	Drivers []drivers.Driver
	// Root has the sys and proc to read the node's hardware from; empty: "/".
	Root string
	// Reserved is kept for the system.
	Reserved Reserved
	// Address by which others reach what runs here; empty: that of the default route.
	Address string
	// MinPort and MaxPort bound dynamic ports, inclusive; 0: 20000 and 32000.
	MinPort, MaxPort uint32
	// Region that the node belongs to: its attribute node.region, and BERTH_REGION of tasks.
	Region string
	// Version of this binary, for the servers.
	Version string
	// SecretsDir is where tasks' secrets are kept; empty: below /run where that is on
	// memory, else below DataDir.
	SecretsDir string
	// MaxDeadAllocs is how many ended allocations keep their directories; 0: 50.
	MaxDeadAllocs int
	// Watch is how often the node is looked at for changes; 0: 30 s.
	Watch time.Duration
	// DNS is how names of services are answered on this node.
	DNS DNS
	// Dialer replaces the network in tests.
	Dialer func(ctx context.Context, addr string) (net.Conn, error)
}

// Reserved is what of the node is never given out.
type Reserved struct {
	// CPUs in list format ("0,64").
	CPUs string
	// MemoryMiB and DiskMiB are taken off what the node has.
	MemoryMiB, DiskMiB uint64
	Ports              []uint32
}

// DNS is the agent's responder for names in "berth.".
type DNS struct {
	// Address to listen on, UDP and TCP; empty: nothing is answered.
	Address string
	// TTL is how long askers may keep an answer, in whole seconds.
	TTL time.Duration
}

// complete checks a Config and fills in its defaults.
func (c Config) complete() (Config, error) {
	var causes []*problem.Error
	bad := func(field, format string, args ...any) {
		causes = append(causes, problem.New(problem.Invalid, "agent."+field, format, args...))
	}
	if c.Logger == nil {
		bad("logger", "is missing")
	}
	if !filepath.IsAbs(c.DataDir) {
		bad("data_dir", "%q is not an absolute path", c.DataDir)
	}
	if c.Pool == "" {
		c.Pool = defaultPool
	}
	if c.Root == "" {
		c.Root = "/"
	}
	if c.MinPort == 0 {
		c.MinPort = defaultMinPort
	}
	if c.MaxPort == 0 {
		c.MaxPort = defaultMaxPort
	}
	if c.Watch <= 0 {
		c.Watch = defaultWatch
	}
	if c.MinPort > c.MaxPort || c.MaxPort > 65535 {
		bad("max_port", "%d to %d is not a range of ports", c.MinPort, c.MaxPort)
	}
	if _, err := topology.ParseCPUSet(c.Reserved.CPUs); err != nil {
		bad("reserved.cpus", "%v", err)
	}
	for i, p := range c.Reserved.Ports {
		if p == 0 || p > 65535 {
			bad(fmt.Sprintf("reserved.ports[%d]", i), "%d is not a port", p)
		}
	}
	if c.Address != "" && net.ParseIP(c.Address) == nil {
		bad("address", "%q is not an IP address", c.Address)
	}
	if _, _, err := net.SplitHostPort(c.DNS.Address); err != nil && c.DNS.Address != "" {
		bad("dns.address", "%q is not an address with a port", c.DNS.Address)
	}
	if c.DNS.TTL < 0 || c.DNS.TTL%time.Second != 0 {
		bad("dns.ttl", "%s is no number of seconds", c.DNS.TTL)
	}
	seen := map[string]bool{}
	for i, d := range c.Drivers {
		name := d.Info().Name
		if name == "" || seen[name] {
			bad(fmt.Sprintf("drivers[%d]", i), "%q is the name of two drivers, or empty", name)
		}
		seen[name] = true
	}
	return c, problem.Join(problem.Invalid, "the agent's configuration is wrong", causes)
}
