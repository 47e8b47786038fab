package consensus_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"math/big"
	"net"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/berthd/berth/problem"
	"github.com/berthd/berth/server/consensus"
)

// testTLS makes a certificate for loopback that signs itself, and the two sides that trust it.
func testTLS(t testing.TB) (server, client *tls.Config) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(cert)
	pair := []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}
	return &tls.Config{Certificates: pair, ClientCAs: pool, ClientAuth: tls.RequireAndVerifyClientCert}, &tls.Config{Certificates: pair, RootCAs: pool}
}

// real starts a server with everything as in production, on loopback.
func real(t testing.TB, dir string, expect int, join []string, change func(*consensus.Config)) *server {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &server{fsm: &journal{}, ended: make(chan error, 1)}
	conf := consensus.Config{Name: t.Name(), Cluster: "real", DataDir: dir, FSM: s.fsm, Logger: testLogger(), Listener: listener,
		GossipBind: freeGossip(t), GossipKey: make([]byte, 32), BootstrapExpect: expect, Join: join}
	if change != nil {
		change(&conf)
	}
	if s.Consensus, err = consensus.New(conf); err != nil {
		t.Fatal(err)
	}
	s.id = s.ID()
	ctx, cancel := context.WithCancel(context.Background())
	s.cancel = cancel
	go func() { s.ended <- s.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-s.ended })
	return s
}

// freeGossip finds a port that is free for TCP and UDP.
func freeGossip(t testing.TB) string {
	for range 20 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		addr := l.Addr().String()
		u, err := net.ListenPacket("udp", addr)
		_ = l.Close()
		if err == nil {
			_ = u.Close()
			return addr
		}
	}
	t.Fatal("no port is free for TCP and UDP")
	return ""
}

func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if ok() {
			return
		}
	}
	t.Fatalf("after 30 s there is still no: %s", what)
}

// The whole of it: memberlist with a key, TCP with mutual TLS, the log and stable store on disk.
func TestRealClusterOnLoopback(t *testing.T) {
	serverTLS, clientTLS := testTLS(t)
	secure := func(c *consensus.Config) { c.ServerTLS, c.ClientTLS = serverTLS, clientTLS }
	dirs := []string{t.TempDir(), t.TempDir(), t.TempDir()}
	first := freeGossip(t)
	var all []*server
	for i, dir := range dirs {
		var join []string
		if i > 0 {
			join = []string{first}
		}
		all = append(all, real(t, dir, 3, join, func(c *consensus.Config) {
			secure(c)
			if i == 0 {
				c.GossipBind = first
			}
		}))
	}
	leader := func(among []*server) (l *server) {
		eventually(t, "leader", func() bool {
			i := slices.IndexFunc(among, func(s *server) bool { return s.IsLeader() && s.VerifyLeader(t.Context()) == nil })
			if i >= 0 {
				l = among[i]
			}
			return i >= 0
		})
		return l
	}
	l := leader(all)
	for i := range 100 {
		if _, err := l.Propose(t.Context(), fmt.Append(nil, i)); err != nil {
			t.Fatal(err)
		}
	}
	for _, s := range all {
		eventually(t, "100 entries on "+s.id, func() bool { return len(s.fsm.all()) == 100 })
	}

	// A follower is ended and started again, at another Raft port; what it missed it gets.
	i := slices.IndexFunc(all, func(s *server) bool { return s != l })
	down := all[i]
	known := l.Members()
	gossip := func(s *server) string {
		return known[slices.IndexFunc(known, func(m consensus.Member) bool { return m.ID == s.id })].GossipAddress
	}
	down.cancel()
	if err := <-down.ended; err != nil {
		t.Fatal(err)
	}
	down.ended <- nil
	l = leader(slices.DeleteFunc(slices.Clone(all), func(s *server) bool { return s == down }))
	if _, err := l.Propose(t.Context(), []byte("missed")); err != nil {
		t.Fatal(err)
	}
	back := real(t, dirs[i], 3, nil, func(c *consensus.Config) {
		secure(c)
		c.GossipBind = gossip(down)
	})
	if back.id != down.id {
		t.Fatalf("the server came back as %s, not %s", back.id, down.id)
	}
	eventually(t, "101 entries after the restart", func() bool { return len(back.fsm.all()) == 101 })

	// A plain connection, and a server of another cluster, get nowhere.
	stranger := real(t, t.TempDir(), 0, nil, func(c *consensus.Config) { c.Cluster = "other" })
	eventually(t, "start of the stranger", func() bool { return len(stranger.Members()) == 1 })
	if _, err := stranger.Join(t.Context(), []string{gossip(l)}); !problem.Is(err, problem.Unavailable) {
		t.Errorf("a server of another cluster joined: %v", err)
	}
}

// cpuTime is what this process has used.
func cpuTime() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkPropose measures the whole path on this machine: 3 servers in one process on loopback TCP, the
// log on disk with its syncs; entries of 1 KiB, one after another and pipelined by one goroutine.
func BenchmarkPropose(b *testing.B) {
	for _, servers := range []int{1, 3} {
		b.Run(fmt.Sprintf("servers=%d", servers), func(b *testing.B) {
			first := freeGossip(b)
			var all []*server
			for i := range servers {
				all = append(all, real(b, b.TempDir(), servers, []string{first}[:min(servers-1, 1)], func(c *consensus.Config) {
					if i == 0 {
						c.GossipBind = first
					}
				}))
			}
			var l *server
			eventually(b, "leader", func() bool {
				i := slices.IndexFunc(all, func(s *server) bool { return s.IsLeader() && s.Barrier(b.Context()) == nil })
				if i >= 0 {
					l = all[i]
				}
				return i >= 0
			})
			data := make([]byte, 1024)
			b.Run("one_by_one", func(b *testing.B) {
				for b.Loop() {
					if _, err := l.Propose(b.Context(), data); err != nil {
						b.Fatal(err)
					}
				}
			})
			b.Run("pipelined", func(b *testing.B) {
				before, spent := l.Stats(), cpuTime()
				window := make(chan *consensus.Future, 256)
				done := make(chan error, 1)
				go func() {
					for f := range window {
						if _, err := f.Wait(b.Context()); err != nil {
							done <- err
						}
					}
					close(done)
				}()
				for b.Loop() {
					window <- l.ProposeAsync(data)
				}
				close(window)
				if err := <-done; err != nil {
					b.Fatal(err)
				}
				s := l.Stats()
				b.ReportMetric(float64(cpuTime()-spent)/1e3/float64(b.N), "cpu-us/op") // of all servers
				b.ReportMetric(float64(s.LogEntries-before.LogEntries)/float64(s.LogAppends-before.LogAppends), "entries/sync")
			})
		})
	}
}
