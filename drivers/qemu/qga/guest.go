package qga

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"time"
)

// Freeze writes out and freezes the guest's file systems, and gives how many. Until Thaw
// the agent does next to nothing else.
func (a *Agent) Freeze(ctx context.Context) (n int, err error) {
	err = a.Run(ctx, "guest-fsfreeze-freeze", nil, &n)
	return n, err
}

// Thaw undoes Freeze; nothing frozen is no error.
func (a *Agent) Thaw(ctx context.Context) (n int, err error) {
	err = a.Run(ctx, "guest-fsfreeze-thaw", nil, &n)
	return n, err
}

// Frozen says whether Freeze was called and Thaw was not.
func (a *Agent) Frozen(ctx context.Context) (bool, error) {
	var status string
	err := a.Run(ctx, "guest-fsfreeze-status", nil, &status)
	return status == "frozen", err
}

// Shutdown has the guest shut down. The agent does not answer when it does so.
func (a *Agent) Shutdown(ctx context.Context) error {
	return a.within(ctx, func() error { return a.send("guest-shutdown", map[string]string{"mode": "powerdown"}) })
}

// About is what the guest says of itself; empty: it does not say.
type About struct {
	Hostname, OS string
	// Addresses are those of its interfaces but for loopback and link-local ones.
	Addresses []string
}

// About asks the guest who it is. What its agent cannot say is left out.
func (a *Agent) About(ctx context.Context) (*About, error) {
	about := &About{}
	var host struct {
		Name string `json:"host-name"`
	}
	if a.Run(ctx, "guest-get-host-name", nil, &host) == nil {
		about.Hostname = host.Name
	}
	var system struct {
		Pretty  string `json:"pretty-name"`
		Name    string `json:"name"`
		Version string `json:"version"`
	}
	if a.Run(ctx, "guest-get-osinfo", nil, &system) == nil {
		about.OS = system.Pretty
		if about.OS == "" && system.Name != "" {
			about.OS = fmt.Sprintf("%s %s", system.Name, system.Version)
		}
	}
	var nics []struct {
		Addresses []struct {
			Address string `json:"ip-address"`
		} `json:"ip-addresses"`
	}
	if a.Run(ctx, "guest-network-get-interfaces", nil, &nics) == nil {
		for _, nic := range nics {
			for _, at := range nic.Addresses {
				ip, err := netip.ParseAddr(at.Address)
				if err == nil && !ip.IsLoopback() && !ip.IsLinkLocalUnicast() {
					about.Addresses = append(about.Addresses, ip.String())
				}
			}
		}
		slices.Sort(about.Addresses)
	}
	return about, ctx.Err()
}

// Command is a program to run in the guest. Its input is whole before it starts.
type Command struct {
	Args  []string
	Env   []string // "name=value"
	Input []byte
}

// Result is how it ended.
type Result struct {
	Code, Signal   int
	Stdout, Stderr []byte
	// Cut says that the agent kept only the beginning of the output.
	Cut bool
}

// poll is how often the agent is asked whether a command has ended.
const poll = 100 * time.Millisecond

// Exec runs a program and waits for its end. When ctx ends before, it is left running:
// the agent has no way to kill it.
func (a *Agent) Exec(ctx context.Context, c Command) (*Result, error) {
	var started struct {
		PID int `json:"pid"`
	}
	args := map[string]any{"path": c.Args[0], "arg": c.Args[1:], "capture-output": true}
	if len(c.Env) > 0 {
		args["env"] = c.Env
	}
	if len(c.Input) > 0 {
		args["input-data"] = c.Input // as base64
	}
	if err := a.Run(ctx, "guest-exec", args, &started); err != nil {
		return nil, err
	}
	for {
		var status struct {
			Exited bool   `json:"exited"`
			Code   int    `json:"exitcode"`
			Signal int    `json:"signal"`
			Out    []byte `json:"out-data"`
			Err    []byte `json:"err-data"`
			OutCut bool   `json:"out-truncated"`
			ErrCut bool   `json:"err-truncated"`
		}
		if err := a.Run(ctx, "guest-exec-status", map[string]int{"pid": started.PID}, &status); err != nil {
			return nil, err
		}
		if status.Exited {
			return &Result{
				Code: status.Code, Signal: status.Signal, Stdout: status.Out, Stderr: status.Err,
				Cut: status.OutCut || status.ErrCut,
			}, nil
		}
		select {
		case <-time.After(poll):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}
