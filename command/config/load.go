package config

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/berthd/berth/jobspec"
	"github.com/berthd/berth/problem"
)

// DefaultDir is where files are looked for when none is named.
const DefaultDir = "/etc/berth.d"

// Load makes a configuration of the defaults, the named files and directories, and the
// environment. Without names it reads DefaultDir, if that is there.
func Load(names []string, getenv func(string) string) (*Config, error) {
	files, err := Files(names)
	if err != nil {
		return nil, err
	}
	c := Default()
	if err := c.ReadFiles(files); err != nil {
		return nil, err
	}
	return c, c.ReadEnv(getenv)
}

// Files lists the files that names stand for: a directory for its *.hcl, by name.
func Files(names []string) ([]string, error) {
	if len(names) == 0 {
		found, err := inDir(DefaultDir)
		if errors.Is(err, fs.ErrNotExist) {
			return nil, nil
		}
		return found, err
	}
	var files []string
	for _, name := range names {
		info, err := os.Stat(name)
		if err != nil {
			return nil, unreadable(name, err)
		}
		if !info.IsDir() {
			files = append(files, name)
			continue
		}
		found, err := inDir(name)
		if err != nil {
			return nil, err
		}
		files = append(files, found...)
	}
	return files, nil
}

func inDir(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, unreadable(dir, err)
	}
	var files []string
	for _, e := range entries {
		if filepath.Ext(e.Name()) == ".hcl" && !e.IsDir() {
			files = append(files, filepath.Join(dir, e.Name()))
		}
	}
	slices.Sort(files)
	return files, nil
}

func unreadable(name string, err error) error {
	var p *fs.PathError
	if errors.As(err, &p) {
		err = p.Err
	}
	return problem.New(problem.Invalid, name, "the configuration cannot be read: %w", err)
}

// ReadFiles reads files over c, and tells the errors of all of them.
func (c *Config) ReadFiles(files []string) error {
	all := &jobspec.Errors{}
	for _, name := range files {
		src, err := readFile(name)
		if err != nil {
			return err
		}
		var found *jobspec.Errors
		if err := c.Parse(name, src); errors.As(err, &found) {
			all.Diagnostics = append(all.Diagnostics, found.Diagnostics...)
			all.More += found.More
		} else if err != nil {
			return err
		}
	}
	if len(all.Diagnostics) > 0 {
		return all
	}
	return nil
}

func readFile(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, unreadable(name, err)
	}
	defer f.Close()
	src, err := io.ReadAll(io.LimitReader(f, MaxFileBytes+1))
	if err != nil {
		return nil, unreadable(name, err)
	}
	return src, nil
}

// ReadEnv reads the variables that are set over c: BERTH_DATA_DIR, BERTH_PORTS_HTTP, ...
func (c *Config) ReadEnv(getenv func(string) string) error {
	next := *c
	var causes []*problem.Error
	walk(&next, func(f field) {
		text := getenv(variable(f.path))
		if text == "" {
			return
		}
		if w := f.setText(text); w != nil {
			causes = append(causes, problem.New(problem.Invalid, variable(f.path), "%s", w.reason).WithRemedy("%s", w.hint))
		}
	})
	if len(causes) > 0 {
		return problem.Join(problem.Invalid, "the environment is wrong", causes)
	}
	*c = next
	return nil
}

// Set sets one thing by its path, as a flag does; flag is what the error names.
func (c *Config) Set(flag, path, text string) error {
	var err error
	walk(c, func(f field) {
		if f.path != path {
			return
		}
		if w := f.setText(text); w != nil {
			err = problem.New(problem.Invalid, flag, "%s", w.reason).WithRemedy("%s", w.hint)
		}
	})
	return err
}

// Check says what is wrong between settings that are each right.
func (c *Config) Check() error {
	var causes []*problem.Error
	bad := func(field, remedy, format string, args ...any) {
		causes = append(causes, problem.New(problem.Invalid, field, format, args...).WithRemedy("%s", remedy))
	}
	low, high := c.Agent.MinPort, c.Agent.MaxPort
	if low == 0 {
		low = 20000
	}
	if high == 0 {
		high = 32000
	}
	if low > high {
		bad("agent.min_port", "make it at most agent.max_port", "dynamic ports from %d to %d are none at all", low, high)
	}
	if (c.TLS.CertFile == "") != (c.TLS.KeyFile == "") {
		bad("tls", "give cert_file and key_file, or neither", "a certificate without its key, or a key without its certificate")
	}
	if n := c.Server.BootstrapExpect; n > 0 && n%2 == 0 {
		bad("server.bootstrap_expect", "use 1, 3 or 5", "an even number of servers, %d, survives no more losses than %d", n, n-1)
	}
	ports := map[int]string{}
	for _, p := range []struct {
		name string
		port int
	}{{"http", c.Ports.HTTP}, {"grpc", c.Ports.GRPC}, {"raft", c.Ports.Raft}, {"gossip", c.Ports.Gossip}} {
		if other := ports[p.port]; other != "" && p.port != 0 {
			bad("ports."+p.name, "give each its own", "port %d is that of %s already", p.port, other)
		}
		ports[p.port] = p.name
	}
	return problem.Join(problem.Invalid, "the configuration is impossible", causes)
}
