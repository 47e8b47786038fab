package plugins

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/hashicorp/go-hclog"
	goplugin "github.com/hashicorp/go-plugin"

	"github.com/berthd/berth/drivers"
	"github.com/berthd/berth/problem"
	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

// running is the file by which a plugin's process is found again.
type running struct {
	PID int `json:"pid"`
	// Start and Boot tell the process from a later one of the same pid.
	Start   string `json:"start"`
	Boot    string `json:"boot"`
	Network string `json:"network"`
	Address string `json:"address"`
}

func (p *Plugin) file() string { return filepath.Join(p.cfg.StateDir, "plugin-"+p.cfg.Name+".json") }

// connect attaches to the plugin's process, or starts it.
func (p *Plugin) connect(ctx context.Context) (*link, error) {
	if r, ok := p.readRunning(); ok {
		l, err := p.attach(ctx, r)
		if err == nil {
			p.log.Info("attached to the plugin", "pid", r.PID)
			return l, nil
		}
		if ctx.Err() != nil {
			return nil, ctx.Err() // the agent ends, not the plugin
		}
		// It is ours, alive and does not answer: two of it would fight over the tasks.
		p.log.Warn("the plugin's process does not answer and is killed", "pid", r.PID, "error", err)
		if r.alive() {
			_ = syscall.Kill(r.PID, syscall.SIGKILL)
		}
	}
	p.clearRunning()
	return p.launch(ctx)
}

func (p *Plugin) clientConfig() *goplugin.ClientConfig {
	return &goplugin.ClientConfig{
		HandshakeConfig: handshake, Plugins: goplugin.PluginSet{pluginName: &wire{}},
		AllowedProtocols: []goplugin.Protocol{goplugin.ProtocolGRPC}, StartTimeout: p.cfg.StartTimeout,
		Logger: hclog.NewNullLogger(), Stderr: &lineLog{log: p.log},
		SyncStdout: &lineLog{log: p.log}, SyncStderr: &lineLog{log: p.log},
	}
}

func (p *Plugin) attach(ctx context.Context, r *running) (*link, error) {
	c := p.clientConfig()
	c.Reattach = &goplugin.ReattachConfig{
		Protocol: goplugin.ProtocolGRPC, ProtocolVersion: int(handshake.ProtocolVersion),
		Addr: &net.UnixAddr{Net: r.Network, Name: r.Address}, Pid: r.PID,
	}
	return p.open(ctx, goplugin.NewClient(c))
}

func (p *Plugin) launch(ctx context.Context) (*link, error) {
	if info, err := os.Stat(p.cfg.Path); err != nil || info.IsDir() || info.Mode()&0o111 == 0 {
		return nil, problem.New(problem.Unavailable, "plugin."+p.cfg.Name, "%s is not an executable", p.cfg.Path)
	}
	// Nobody else may connect: go-plugin would put the socket where everybody can.
	socketDir, err := os.MkdirTemp(p.cfg.SocketDir, "berth-plugin-")
	if err != nil {
		return nil, problem.New(problem.Unavailable, "", "making a directory for the socket of plugin %s: %w", p.cfg.Name, err)
	}
	l, err := p.launchIn(ctx, socketDir)
	if err != nil {
		removeSocket(socketDir)
		return nil, err
	}
	return l, nil
}

// removeSocket removes a directory with nothing but a socket in it.
func removeSocket(dir string) {
	sockets, _ := filepath.Glob(filepath.Join(dir, "plugin*"))
	for _, s := range sockets {
		_ = os.Remove(s)
	}
	_ = os.Remove(dir)
}

func (p *Plugin) launchIn(ctx context.Context, socketDir string) (*link, error) {
	c := p.clientConfig()
	c.Cmd = exec.Command(p.cfg.Path, p.cfg.Args...)
	c.Cmd.Env = append([]string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + os.Getenv("HOME"), goplugin.EnvUnixSocketDir + "=" + socketDir,
	}, p.cfg.Env...)
	// In a session of its own no signal to the agent's terminal reaches it.
	c.Cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	c.SkipHostEnv = true
	client := goplugin.NewClient(c)
	l, err := p.open(ctx, client)
	if err != nil {
		client.Kill()
		return nil, err
	}
	if err := p.writeRunning(client.ReattachConfig()); err != nil {
		l.conn.Close()
		client.Kill()
		return nil, problem.New(problem.Unavailable, "", "noting where plugin %s runs: %w", p.cfg.Name, err)
	}
	p.log.Info("started the plugin", "pid", client.ReattachConfig().Pid)
	return l, nil
}

// open connects and makes sure that it is the driver that was configured.
func (p *Plugin) open(ctx context.Context, client *goplugin.Client) (*link, error) {
	protocol, err := client.Client()
	if err != nil {
		return nil, problem.New(problem.Unavailable, "plugin."+p.cfg.Name, "%s does not behave as a plugin: %s", p.cfg.Path, firstLine(err)).
			WithRemedy("is it built with package plugins, of a version that fits?")
	}
	raw, err := protocol.Dispense(pluginName)
	if err != nil {
		return nil, problem.New(problem.Unavailable, "plugin."+p.cfg.Name, "%s is no driver plugin: %s", p.cfg.Path, firstLine(err))
	}
	l := raw.(*link)
	limited, cancel := context.WithTimeout(ctx, p.cfg.CallTimeout)
	defer cancel()
	got, err := l.service.GetDriver(limited, &berthv1.GetDriverRequest{})
	if err != nil {
		l.conn.Close()
		return nil, p.asProblem(ctx, err)
	}
	if got.GetName() != p.cfg.Name || got.GetVersion() == "" {
		l.conn.Close()
		return nil, problem.New(problem.Invalid, "plugin."+p.cfg.Name, "%s says that it is driver %q, version %q", p.cfg.Path, got.GetName(), got.GetVersion()).
			WithRemedy("name the plugin as its driver names itself")
	}
	info := drivers.Info{Name: got.GetName(), Version: got.GetVersion()}
	for _, c := range got.GetCapabilities() {
		info.Capabilities = append(info.Capabilities, drivers.Capability(c))
	}
	p.mu.Lock()
	p.info = info
	p.mu.Unlock()
	return l, nil
}

// firstLine keeps an error readable: go-plugin's advise at length.
func firstLine(err error) string {
	for line := range strings.Lines(err.Error()) {
		if line = strings.TrimSpace(line); line != "" {
			return line
		}
	}
	return "no reason given"
}

// End ends the plugin's process; its tasks are its own affair. Call it when Run has returned.
func (p *Plugin) End() error {
	if r, ok := p.readRunning(); ok {
		if err := syscall.Kill(r.PID, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
			return problem.New(problem.Internal, "", "ending plugin %s: %w", p.cfg.Name, err)
		}
	}
	p.clearRunning()
	return nil
}

// clearRunning removes what is left of a process that is gone. The note of the socket is
// not trusted with more than that.
func (p *Plugin) clearRunning() {
	b, err := os.ReadFile(p.file())
	if err != nil {
		return
	}
	var r running
	if json.Unmarshal(b, &r) == nil && strings.HasPrefix(filepath.Base(filepath.Dir(r.Address)), "berth-plugin-") {
		removeSocket(filepath.Dir(r.Address))
	}
	_ = os.Remove(p.file())
}

func (p *Plugin) writeRunning(c *goplugin.ReattachConfig) error {
	r := running{PID: c.Pid, Start: startOf(c.Pid), Boot: bootID(), Network: c.Addr.Network(), Address: c.Addr.String()}
	b, err := json.Marshal(r)
	if err != nil {
		return err
	}
	if err := os.WriteFile(p.file()+".new", b, 0o600); err != nil {
		return err
	}
	return os.Rename(p.file()+".new", p.file())
}

// readRunning gives the process that is noted, if it is alive.
func (p *Plugin) readRunning() (*running, bool) {
	b, err := os.ReadFile(p.file())
	if err != nil {
		return nil, false
	}
	r := &running{}
	if err := json.Unmarshal(b, r); err != nil || r.PID <= 1 || r.Address == "" {
		p.log.Warn("the note of where the plugin runs is damaged", "file", p.file())
		return nil, false
	}
	return r, r.alive()
}

func (r *running) alive() bool {
	return r.Boot == bootID() && r.Start != "" && r.Start == startOf(r.PID)
}

// startOf gives when a process was started, in the kernel's ticks; "": there is none, or
// it is dead and not reaped.
func startOf(pid int) string {
	b, err := os.ReadFile(filepath.Join("/proc", itoa(pid), "stat"))
	if err != nil {
		return ""
	}
	// The second field is a name in parentheses that may have anything in it.
	text := string(b)
	f := strings.Fields(text[strings.LastIndexByte(text, ')')+1:])
	if len(f) < 20 || f[0] == "Z" || f[0] == "X" {
		return ""
	}
	return f[19]
}

func bootID() string {
	b, _ := os.ReadFile("/proc/sys/kernel/random/boot_id")
	return strings.TrimSpace(string(b))
}

// lineLog makes log records of a plugin's words.
type lineLog struct {
	log  *slog.Logger
	rest string
}

func (w *lineLog) Write(b []byte) (int, error) {
	w.rest += string(b)
	for {
		line, rest, whole := strings.Cut(w.rest, "\n")
		if !whole && len(line) < 8<<10 {
			return len(b), nil
		}
		if w.rest = rest; strings.TrimSpace(line) != "" {
			w.log.Info("the plugin says", "words", strings.TrimSpace(line))
		}
	}
}
