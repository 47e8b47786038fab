package command

import (
	"context"
	"maps"
	"net"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/berthd/berth/command/config"
	"github.com/berthd/berth/problem"
)

// annotationDaemon marks commands that run a daemon; `berth server` has commands below
// it and runs one itself.
const annotationDaemon = "daemon"

// daemonFlags are the flags of `berth server` and `berth agent`. Each but config and dev
// stands for a setting of the configuration and goes over it.
type daemonFlags struct {
	role    string // "server" or "agent"
	config  []string
	dev     bool
	dataDir string
	// settings has the text of each flag that was given, by its name.
	settings map[string]string
}

// flagSettings says which setting a flag stands for.
var flagSettings = map[string]struct{ path, doc string }{
	"data-dir":         {"data_dir", "`directory` for everything that is kept (default /var/lib/berth; with -dev a temporary one)"},
	"name":             {"name", "`name` of this server and node (default the host's name)"},
	"log-level":        {"log_level", "how much is logged: `level` debug, info, warn or error (default info)"},
	"log-format":       {"log_format", "how logs are written: `format` text or json (default text)"},
	"bind":             {"bind", "IP `address` that everything listens on (default 127.0.0.1)"},
	"http-addr":        {"addresses.http", "`address` for HTTP, host or host:port (default port 7460)"},
	"grpc-addr":        {"addresses.grpc", "`address` for gRPC, host or host:port (default port 7461)"},
	"raft-addr":        {"addresses.raft", "`address` for Raft, host or host:port (default port 7462)"},
	"gossip-addr":      {"addresses.gossip", "`address` for gossip, host or host:port (default port 7463)"},
	"bootstrap-expect": {"server.bootstrap_expect", "`number` of servers that make the first Raft set together: 1, 3 or 5 (default 0: join one that is there)"},
	"join":             {"server.join", "gossip `addresses` of other servers, host or host:port, separated by commas"},
	"servers":          {"agent.servers", "gRPC `addresses` of servers, host or host:port, separated by commas"},
	"pool":             {"agent.pool", "node `pool` (default default)"},
	"meta":             {"agent.meta", "words about the node, `key=value`, separated by commas"},
	"drivers":          {"agent.drivers", "built-in `drivers` to offer, separated by commas (default exec,qemu)"},
	"plugin-dir":       {"agent.plugin_dir", "`directory` of driver plugins, executables named berth-driver-<name>"},
}

// The flags of the two roles.
var (
	commonFlags = []string{"data-dir", "name", "log-level", "log-format"}
	serverFlags = []string{"bind", "http-addr", "grpc-addr", "raft-addr", "gossip-addr", "bootstrap-expect", "join"}
	agentFlags  = []string{"servers", "pool", "meta", "drivers", "plugin-dir"}
)

func (f *daemonFlags) register(cmd *cobra.Command, names ...[]string) {
	cmd.Flags().StringArrayVar(&f.config, "config", nil, "configuration `file` or directory; may be repeated (default "+config.DefaultDir+", if it is there)")
	values := map[string]*string{}
	for _, name := range slices.Concat(names...) {
		values[name] = cmd.Flags().String(name, "", flagSettings[name].doc)
	}
	run := cmd.RunE
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		f.settings = map[string]string{}
		for name, value := range values {
			if cmd.Flags().Changed(name) {
				f.settings[name] = *value
			}
		}
		f.dataDir = f.settings["data-dir"]
		return run(cmd, args)
	}
}

// load reads the configuration: files, the environment over them, the flags over both.
func (f *daemonFlags) load(getenv func(string) string) (*config.Config, error) {
	cfg, err := config.Load(f.config, getenv)
	if err != nil {
		return nil, err
	}
	for _, name := range slices.Sorted(maps.Keys(f.settings)) {
		if err := cfg.Set("-"+name, flagSettings[name].path, f.settings[name]); err != nil {
			return nil, err
		}
	}
	switch {
	case f.dev:
		if err := f.makeDev(cfg, getenv); err != nil {
			return nil, err
		}
	case f.role == "server":
		cfg.Server.Enabled = true
	default:
		cfg.Agent.Enabled = true
	}
	return cfg, cfg.Check()
}

// makeDev makes a configuration that of a dev agent: both roles, alone, on loopback.
func (f *daemonFlags) makeDev(cfg *config.Config, getenv func(string) string) error {
	cfg.Server.Enabled, cfg.Agent.Enabled = true, true
	cfg.Server.BootstrapExpect, cfg.Server.Join, cfg.Agent.Servers = 1, nil, nil
	if f.dataDir == "" && getenv("BERTH_DATA_DIR") == "" {
		cfg.DataDir = "" // a temporary one; never the one of a real daemon on this host
	}
	for _, listen := range []string{cfg.Bind, cfg.Addresses.HTTP, cfg.Addresses.GRPC, cfg.Addresses.Raft, cfg.Addresses.Gossip} {
		host := listen
		if h, _, err := net.SplitHostPort(listen); err == nil {
			host = h
		}
		if ip := net.ParseIP(strings.Trim(host, "[]")); host != "" && host != "localhost" && (ip == nil || !ip.IsLoopback()) {
			return problem.New(problem.Invalid, "-dev", "it listens on loopback only, and %s is not", host).
				WithRemedy("leave out the address, or run `berth server` and `berth agent` without -dev")
		}
	}
	return nil
}

func (a *app) serverCommands() *cobra.Command {
	f := &daemonFlags{role: "server"}
	cmd := a.leaf("server", "Run a server, or look after those of the cluster",
		"Without a command below it: runs a server in the foreground until SIGTERM or SIGINT. SIGHUP reads the configuration again and says what it changed.\n"+
			"A first server: berth server -bootstrap-expect 1. Three: -bootstrap-expect 3 on each, and -join with one of the others.",
		func(ctx context.Context, _ []string) error { return a.runDaemon(ctx, f) })
	f.register(cmd, commonFlags, serverFlags)
	cmd.Annotations = map[string]string{annotationDaemon: "yes"}
	cmd.Args = func(cmd *cobra.Command, args []string) error {
		if len(args) > 0 {
			return unknownCommand(cmd, args[0])
		}
		return nil
	}
	cmd.AddCommand(a.memberCommands()...)
	return cmd
}

func (a *app) agentCommand() *cobra.Command {
	f := &daemonFlags{role: "agent"}
	cmd := a.leaf("agent", "Run an agent, or with -dev a whole cluster in one process",
		"Runs an agent in the foreground until SIGTERM or SIGINT; what it runs goes on after that, and the next agent with the same data directory takes it up again. "+
			"SIGHUP reads the configuration again and says what it changed.\n"+
			"With -dev: a server and an agent in one process on loopback, with a temporary data directory; at the end its workloads are stopped and the directory is removed.",
		func(ctx context.Context, _ []string) error { return a.runDaemon(ctx, f) })
	f.register(cmd, commonFlags, agentFlags, serverFlags[:5])
	cmd.Flags().BoolVar(&f.dev, "dev", false, "a server and an agent in one process, on loopback, to try things out")
	cmd.Annotations = map[string]string{annotationDaemon: "yes"}
	return cmd
}

func (a *app) configCommands() *cobra.Command {
	validate := a.leaf("validate [FILE...]", "Check configuration files of daemons",
		"FILE is a file or a directory of *.hcl; without one: "+config.DefaultDir+". Checks them together with the BERTH_ variables that are set.",
		func(_ context.Context, args []string) error {
			files, err := config.Files(args)
			if err != nil {
				return err
			}
			if len(files) == 0 {
				return problem.New(problem.NotFound, or(strings.Join(args, ", "), config.DefaultDir), "there are no *.hcl files").
					WithRemedy("name a file or a directory")
			}
			cfg, err := config.Load(args, a.Getenv)
			if err != nil {
				return err
			}
			if err := cfg.Check(); err != nil {
				return err
			}
			a.printf("%s: right.\n", strings.Join(files, ", "))
			return nil
		})
	validate.ValidArgsFunction = nil
	return a.group("config", "Check configuration files", "", validate)
}
