// Package command is the berth program: its commands, flags, environment, output and
// exit codes. It is the only place that composes a server and an agent into a process,
// and the only caller of package client in this module.
//
// Main is the whole program as a function of its arguments and streams. Commands ask the
// API through package client and never share state with a daemon in another process.
//
// What every command promises: flags take one dash or two; -json and -t print exactly
// what the API says; an error is one plain paragraph on stderr that says what, where, why
// and what to do; tables fit the terminal; nothing that is lost for good is done without
// a question or -yes. docs/cli.md is generated from the command tree.
package command

import (
	"context"
	"errors"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
	"google.golang.org/grpc/grpclog"

	"github.com/berthd/berth/client"
)

// The exit codes, beside those of `job plan` and `job run`, and of `alloc exec`, which
// gives the code of the command that it ran.
const (
	exitOK          = 0
	exitError       = 1
	exitNotPlaced   = 2   // job run: something cannot be placed now
	exitChanges     = 1   // job plan: something would change
	exitPlanError   = 255 // job plan: the plan could not be made
	exitUsage       = 64  // EX_USAGE of sysexits.h: the call itself was wrong
	exitInterrupted = 130 // as shells say it of SIGINT
)

// Streams are what a process has; tests give their own.
type Streams struct {
	In       io.Reader
	Out, Err io.Writer
	Getenv   func(string) string
	Environ  func() []string
}

// OSStreams are those of this process.
func OSStreams() Streams {
	return Streams{In: os.Stdin, Out: os.Stdout, Err: os.Stderr, Getenv: os.Getenv, Environ: os.Environ}
}

// Main runs the program with its arguments (without its name) and returns its exit code.
// SIGINT and SIGTERM end ctx; a second one ends the process at once.
func Main(ctx context.Context, args []string, streams Streams) int {
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop)
	if streams.Err == os.Stderr && streams.Getenv("GRPC_GO_LOG_SEVERITY_LEVEL") == "" {
		// grpc writes to this process's stderr, and what it would say of connections comes as
		// errors of the calls anyway. Its logger is a global: not for tests to change.
		grpclog.SetLoggerV2(grpclog.NewLoggerV2(io.Discard, io.Discard, io.Discard))
	}

	a := newApp(streams)
	defer a.close()
	root := a.root()
	root.SetArgs(normalize(root, args))
	ran, err := root.ExecuteContextC(ctx)
	a.tellStaleness()
	if err == nil {
		return exitOK
	}
	var exit *exitStatus
	if !errors.As(err, &exit) {
		exit = &exitStatus{code: exitError, err: err}
		if ran.Annotations[annotationPlan] != "" {
			exit.code = exitPlanError
		}
	}
	if exit.err != nil {
		a.printError(exit.err)
	}
	return exit.code
}

// exitStatus ends the program with a code; err, when there is one, is printed.
type exitStatus struct {
	code int
	err  error
}

func (e *exitStatus) Error() string {
	if e.err != nil {
		return e.err.Error()
	}
	return "exit"
}

func (e *exitStatus) Unwrap() error { return e.err }

// app is one run of the program.
type app struct {
	Streams
	term   terminal
	flags  connectionFlags
	client *client.Client
	// stalest is the stalest answer of a run with -stale; nil: there was none.
	stalest *client.Freshness
}

func newApp(streams Streams) *app {
	return &app{Streams: streams, term: newTerminal(streams)}
}

func (a *app) close() {
	if a.client != nil {
		_ = a.client.Close()
	}
}

// api is the client of the servers, made when the first call needs it.
func (a *app) api() (*client.Client, error) {
	if a.client == nil {
		cfg, err := a.flags.config(a.Getenv)
		if err != nil {
			return nil, err
		}
		if cfg.Stale {
			cfg.Observe = a.observe
		}
		if a.client, err = client.New(cfg); err != nil {
			return nil, err
		}
	}
	return a.client, nil
}

// observe remembers the stalest of the answers that -stale allowed.
func (a *app) observe(f client.Freshness) {
	if a.stalest == nil || f.LastContact > a.stalest.LastContact || !f.KnownLeader {
		a.stalest = &f
	}
}

// tellStaleness says on stderr how old what was shown may be.
func (a *app) tellStaleness() {
	switch f := a.stalest; {
	case f == nil:
	case !f.KnownLeader:
		a.note("Stale: the server that answered knows of no leader; it last heard one %s ago.", seconds(f.LastContact))
	case f.LastContact > 0:
		a.note("Stale by at most %s: that long ago the server that answered heard the leader.", seconds(f.LastContact))
	}
}

// root is the tree of commands.
func (a *app) root() *cobra.Command {
	root := a.group("berth", "One pool of hosts and machines, and what runs on it",
		"Berth places jobs on a fleet of hosts and keeps them running.\n"+
			"For a first look: `berth agent -dev` in one terminal, `berth job init` and `berth job run` in another.",
		a.jobCommands(), a.allocCommands(), a.nodeCommands(), a.namespaceCommands(), a.varCommands(), a.imageCommands(), a.reservationCommands(), a.deploymentCommands(), a.serviceCommands(), a.evalCommands(),
		a.explainCommand(), a.eventsCommand(),
		a.serverCommands(), a.agentCommand(), a.configCommands(), a.benchCommands(), a.simCommands(),
		a.operatorCommands(), a.schedulerCommands(), a.systemCommands(),
		a.versionCommand(), a.completionCommand(),
	)
	a.flags.register(root.PersistentFlags())
	root.CompletionOptions.DisableDefaultCmd = true
	root.SilenceErrors, root.SilenceUsage = true, true
	root.SetHelpCommand(&cobra.Command{Hidden: true})
	root.SetHelpFunc(a.help)
	root.SetFlagErrorFunc(flagError)
	root.SetOut(a.Out)
	root.SetErr(a.Err)
	root.SetIn(a.In)
	return root
}
