// Package config is the configuration of Berth's daemons: what can be set, how it is
// read from HCL files and the environment, and what is wrong with it, with the place.
//
// Sources lie over one another: the defaults, the files in their order (of a directory:
// by name), BERTH_ variables, and the flags, which package command puts on top. A file
// is refused as a whole if anything in it is unknown, of a wrong type or impossible.
// Package command is the only caller.
package config

import (
	"net"
	"strconv"
	"time"
)

// Config is a daemon's configuration. The tags are its only description: cfg is the name
// in files (and, in capitals behind BERTH_, of the variable), check what the value must
// be, doc the sentence for the reference, reload that SIGHUP applies a change.
type Config struct {
	DataDir   string `cfg:"data_dir" check:"path" doc:"Directory for everything that is kept. Default /var/lib/berth; with -dev a temporary one."`
	Name      string `cfg:"name" doc:"Name of this server and node. Default: the host's name."`
	Region    string `cfg:"region" doc:"Region that the cluster belongs to. Default global."`
	LogLevel  string `cfg:"log_level" check:"one of debug info warn error" doc:"How much is logged: debug, info (default), warn or error." reload:"yes"`
	LogFormat string `cfg:"log_format" check:"one of text json" doc:"How logs are written: text (default) or json."`
	Bind      string `cfg:"bind" check:"ip" doc:"IP address that everything listens on unless addresses says otherwise. Default 127.0.0.1: until certificates secure the connections, a server is reached from other hosts only when told to."`

	Server    Server    `cfg:"server" doc:"The server of this process."`
	Agent     Agent     `cfg:"agent" doc:"The agent of this process."`
	Addresses Endpoints `cfg:"addresses" doc:"IP addresses to listen on, where that is not bind."`
	Ports     Ports     `cfg:"ports" doc:"Ports to listen on."`
	Advertise Endpoints `cfg:"advertise" doc:"Addresses by which others reach this server, host or host:port, where they are not those that it listens on."`
	TLS       TLS       `cfg:"tls" doc:"Certificates. Fields are checked and handed on; a later version makes certificates by itself."`
}

// Server is what a server needs to know.
type Server struct {
	Enabled         bool          `cfg:"enabled" doc:"Run a server in this process; berth server does without being told."`
	BootstrapExpect int           `cfg:"bootstrap_expect" check:"between 0 and 9" doc:"Servers that make the first Raft set together: 1, 3 or 5, the same on each. 0 (default): join one that is there."`
	Join            []string      `cfg:"join" check:"hostport" doc:"Gossip addresses of other servers, host or host:port. Tried again and again until one answers." reload:"yes"`
	GossipKey       string        `cfg:"gossip_key" check:"base64 key" doc:"Key that encrypts gossip: 16, 24 or 32 bytes in base64."`
	HeartbeatTTL    time.Duration `cfg:"heartbeat_ttl" doc:"How long a node may be silent before it is down. Default 4.5s."`
	DeadServerGrace time.Duration `cfg:"dead_server_grace" doc:"How long another server may be dead before the leader takes it out of the Raft set, where the rest is a quorum. Default 1m."`
}

// Agent is what an agent needs to know.
type Agent struct {
	Enabled   bool              `cfg:"enabled" doc:"Run an agent in this process; berth agent does without being told."`
	Servers   []string          `cfg:"servers" check:"hostport" doc:"gRPC addresses of servers, host or host:port. Others are learnt from them." reload:"no"`
	Pool      string            `cfg:"pool" check:"word" doc:"Node pool. Default default."`
	Meta      map[string]string `cfg:"meta" doc:"Words about the node, for constraints: meta.<key>." reload:"yes"`
	Taints    []string          `cfg:"taints" check:"taint" doc:"Taints that keep work off which does not tolerate them: key=value:keep_off, or key=value:avoid for nodes that are taken only where no other fits." reload:"yes"`
	Address   string            `cfg:"address" check:"ip" doc:"IP address by which others reach what runs here. Default: that of the default route."`
	MinPort   int               `cfg:"min_port" check:"between 1 and 65535" doc:"First port for dynamic ports. Default 20000."`
	MaxPort   int               `cfg:"max_port" check:"between 1 and 65535" doc:"Last port for dynamic ports. Default 32000."`
	PluginDir string            `cfg:"plugin_dir" check:"path" doc:"Directory of driver plugins: each executable in it that is named berth-driver-<name> is one."`
	Drivers   []string          `cfg:"drivers" check:"word" doc:"Built-in drivers to offer. Default: exec and qemu."`
	MaxDead   int               `cfg:"max_dead_allocs" check:"between 0 and 100000" doc:"Ended allocations whose directories are kept. Default 50."`
	Reserved  Reserved          `cfg:"reserved" doc:"What is kept for the system."`
	DNS       DNS               `cfg:"dns" doc:"Answers for names of services and nodes: web.default.berth."`
	Qemu      Qemu              `cfg:"qemu" doc:"The driver of virtual machines."`
}

// Qemu is the qemu driver's.
type Qemu struct {
	User       string   `cfg:"user" check:"word" doc:"User that QEMU becomes when it has opened everything. Default: it stays who the agent is."`
	ImageDirs  []string `cfg:"image_dirs" check:"path" doc:"Directories from which specs may name images by absolute paths. Default: none; with -dev: all."`
	ImageKeys  []string `cfg:"image_keys" doc:"Public keys of minisign: every image from elsewhere than the cluster's store must be signed by one of them."`
	ImageCache Size     `cfg:"image_cache" doc:"What images may take on disk that no machine uses. Default 32GiB."`
}

// DNS is the agent's responder.
type DNS struct {
	Disabled bool          `cfg:"disabled" doc:"Answer nothing."`
	Address  string        `cfg:"address" check:"hostport" doc:"Address to listen on, UDP and TCP. Default 127.0.0.1:7464."`
	TTL      time.Duration `cfg:"ttl" doc:"How long askers may keep an answer, in whole seconds. Default 1s."`
}

// Reserved is what of a node is not given out.
type Reserved struct {
	CPUs   string `cfg:"cpus" check:"cpus" doc:"CPUs, in the kernel's list format: 0,64 or 0-1."`
	Memory Size   `cfg:"memory" doc:"Memory, such as 2GiB."`
	Disk   Size   `cfg:"disk" doc:"Disk below data_dir, such as 10GiB."`
	Ports  []int  `cfg:"ports" check:"between 1 and 65535" doc:"Ports that are never given out."`
}

// Size is an amount of memory or disk in MiB.
type Size uint64

// Endpoints holds an address for each of the ways into a server.
type Endpoints struct {
	HTTP   string `cfg:"http" check:"hostport" doc:"REST API, metrics."`
	GRPC   string `cfg:"grpc" check:"hostport" doc:"API, agents, other servers."`
	Raft   string `cfg:"raft" check:"hostport" doc:"Raft between servers."`
	Gossip string `cfg:"gossip" check:"hostport" doc:"Gossip between servers, TCP and UDP."`
}

// Ports holds their ports.
type Ports struct {
	HTTP   int `cfg:"http" check:"between 0 and 65535" doc:"REST API, metrics. Default 7460."`
	GRPC   int `cfg:"grpc" check:"between 0 and 65535" doc:"API, agents, other servers. Default 7461."`
	Raft   int `cfg:"raft" check:"between 0 and 65535" doc:"Raft between servers. Default 7462."`
	Gossip int `cfg:"gossip" check:"between 0 and 65535" doc:"Gossip between servers. Default 7463."`
}

// TLS names files.
type TLS struct {
	CAFile     string `cfg:"ca_file" check:"path" doc:"CA certificates that others are checked against."`
	CertFile   string `cfg:"cert_file" check:"path" doc:"Certificate of this process."`
	KeyFile    string `cfg:"key_file" check:"path" doc:"Its key."`
	ServerName string `cfg:"server_name" doc:"Name that servers' certificates must have."`
}

// The ports, as documented everywhere.
const (
	PortHTTP   = 7460
	PortGRPC   = 7461
	PortRaft   = 7462
	PortGossip = 7463
	PortDNS    = 7464
)

// Default is the configuration before anything is read.
func Default() *Config {
	return &Config{
		DataDir: "/var/lib/berth", Region: "global", LogLevel: "info", LogFormat: "text", Bind: "127.0.0.1",
		Agent: Agent{DNS: DNS{Address: "127.0.0.1:" + strconv.Itoa(PortDNS), TTL: time.Second}},
		Ports: Ports{HTTP: PortHTTP, GRPC: PortGRPC, Raft: PortRaft, Gossip: PortGossip},
	}
}

// Listen is the address that an endpoint listens on: of addresses, which may bring its
// own port, else of bind.
func (c *Config) Listen(address string, port int) string { return withPort(address, c.Bind, port) }

// withPort is text as host:port; a host from host and a port from port where it has none.
func withPort(text, host string, port int) string {
	if text == "" {
		text = host
	}
	if h, p, err := net.SplitHostPort(text); err == nil {
		return net.JoinHostPort(h, p)
	}
	return net.JoinHostPort(trimBrackets(text), strconv.Itoa(port))
}

func trimBrackets(host string) string {
	if len(host) > 1 && host[0] == '[' && host[len(host)-1] == ']' {
		return host[1 : len(host)-1]
	}
	return host
}

// WithPort adds a port to each address that has none.
func WithPort(addresses []string, port int) []string {
	out := make([]string, len(addresses))
	for i, a := range addresses {
		out[i] = withPort(a, "", port)
	}
	return out
}
