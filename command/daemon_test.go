package command

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"log/slog"
	"maps"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/berthd/berth/client"
	"github.com/berthd/berth/problem"
	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

// devEnv gives every port to the kernel to choose, and temporary files a place to look at.
func devEnv(t *testing.T, more map[string]string) (getenv func(string) string, tmp string) {
	tmp = t.TempDir()
	t.Setenv("TMPDIR", tmp)
	env := map[string]string{"BERTH_PORTS_HTTP": "0", "BERTH_PORTS_GRPC": "0", "BERTH_PORTS_RAFT": "0", "BERTH_PORTS_GOSSIP": "0", "BERTH_AGENT_DRIVERS": "mock"}
	maps.Copy(env, more)
	return func(name string) string { return env[name] }, tmp
}

// certificates makes a CA and a certificate of this host, both ways, and names the files.
func certificates(t *testing.T) (ca, cert, key string) {
	t.Helper()
	check := func(err error) {
		if err != nil {
			t.Fatal(err)
		}
	}
	dir := t.TempDir()
	write := func(name, kind string, der []byte) string {
		file := filepath.Join(dir, name)
		check(os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600))
		return file
	}
	signer, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	check(err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, signer.Public(), signer)
	check(err)
	private, err := x509.MarshalPKCS8PrivateKey(signer)
	check(err)
	cert = write("cert.pem", "CERTIFICATE", der)
	return cert, cert, write("key.pem", "PRIVATE KEY", private)
}

// TestDevWithTLS: with certificates everything in the process speaks TLS, and who has
// none is told so.
func TestDevWithTLS(t *testing.T) {
	ca, cert, key := certificates(t)
	env := map[string]string{"BERTH_TLS_CA_FILE": ca, "BERTH_TLS_CERT_FILE": cert, "BERTH_TLS_KEY_FILE": key}
	runDev(t, env, func(address string) {
		config, err := loadTLS(ca, cert, key, "")
		if err != nil {
			t.Fatal(err)
		}
		c, err := client.New(client.Config{Address: address, TLS: config})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		waitForNode(t, c)
		plain, err := client.New(client.Config{Address: address})
		if err != nil {
			t.Fatal(err)
		}
		defer plain.Close()
		if _, err := plain.Nodes.ListNodes(t.Context(), &berthv1.ListNodesRequest{}); !problem.Is(err, problem.Unavailable) || !strings.Contains(err.Error(), "want TLS") {
			t.Errorf("a client without TLS: %v", err)
		}
	})
}

// TestDev composes a real server and a real agent and sees the node ready.
func TestDev(t *testing.T) {
	runDev(t, nil, func(address string) {
		c, err := client.New(client.Config{Address: address})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		waitForNode(t, c)
	})
}

// runDev runs a dev agent while use looks at it, and sees that it ends well and leaves
// nothing behind.
func runDev(t *testing.T, env map[string]string, use func(address string)) {
	t.Helper()
	getenv, tmp := devEnv(t, env)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	up := make(chan struct{})
	out, log := &watchedWriter{text: "Ctrl-C ends it", cancel: sync.OnceFunc(func() { close(up) })}, &watchedWriter{}
	ended := make(chan int, 1)
	go func() {
		ended <- Main(ctx, []string{"agent", "-dev", "-config", t.TempDir()}, Streams{In: strings.NewReader(""), Out: out, Err: log, Getenv: getenv, Environ: os.Environ})
	}()
	select {
	case <-up:
	case code := <-ended:
		t.Fatalf("it ended with %d: %s", code, log.b.String())
	}
	use(regexp.MustCompile(`API +(\S+)`).FindStringSubmatch(out.String())[1])
	if dirs, _ := filepath.Glob(filepath.Join(tmp, "berth-dev-*")); len(dirs) != 1 {
		t.Errorf("temporary directories %q", dirs)
	}
	cancel()
	if code := <-ended; code != exitOK {
		t.Errorf("exit code %d\n%s", code, log)
	}
	if left, _ := filepath.Glob(filepath.Join(tmp, "*")); len(left) != 0 {
		t.Errorf("%q is left behind", left)
	}
}

func waitForNode(t *testing.T, c *client.Client) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for {
		r, err := c.Nodes.ListNodes(ctx, &berthv1.ListNodesRequest{})
		if err != nil && !problem.Is(err, problem.Unavailable) {
			t.Fatal(err)
		}
		if n := r.GetNodes(); len(n) == 1 && n[0].GetStatus() == berthv1.Node_ready {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("the node does not become ready: %v, %v", r.GetNodes(), err)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func TestLock(t *testing.T) {
	name := filepath.Join(t.TempDir(), "agent.lock")
	unlock, err := lockFile(name, "agent")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := lockFile(name, "agent"); !problem.Is(err, problem.Conflict) || !strings.Contains(err.Error(), "another agent (process ") {
		t.Errorf("a second lock: %v", err)
	}
	unlock()
	unlock, err = lockFile(name, "agent")
	if err != nil {
		t.Errorf("after the first has ended: %v", err)
	}
	unlock()
}

// TestReload: SIGHUP applies what can be applied, and a wrong file changes nothing.
func TestReload(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "a.hcl")
	write := func(text string) {
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("log_level = \"warn\"\nagent {\n  servers = [\"h\"]\n}\n")
	a, _, log := testApp()
	f := &daemonFlags{role: "agent", config: []string{dir}}
	cfg, err := f.load(a.Getenv)
	if err != nil {
		t.Fatal(err)
	}
	d := &daemon{app: a, flags: f, cfg: cfg, level: new(slog.LevelVar)}
	d.log = newLogger(a.Err, cfg, d.level)
	var meta map[string]string
	var taints []*berthv1.Taint
	d.setWords = func(m map[string]string, t []*berthv1.Taint) { meta, taints = m, t }
	write("log_level = \"info\"\nagent {\n  servers = [\"h2\"]\n  meta = { rack = \"r2\" }\n  taints = [\"spot:avoid\"]\n}\n")
	d.reload(t.Context())
	if !strings.Contains(log.String(), `applied="log_level agent.meta agent.taints" needs_restart=agent.servers`) || meta["rack"] != "r2" ||
		len(taints) != 1 || taints[0].GetEffect() != berthv1.Taint_avoid {
		t.Error(log.String(), meta)
	}
	log.Reset()
	write("log_level = \"loud\"\n")
	d.reload(t.Context())
	if !strings.Contains(log.String(), "was not reloaded") || d.cfg.LogLevel != "info" || d.level.Level().String() != "INFO" {
		t.Errorf("after a wrong file the level is %s: %s", d.level.Level(), log)
	}
}
