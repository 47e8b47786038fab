package command

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"net"
	"os"
	"syscall"

	"github.com/berthd/berth/command/config"
	"github.com/berthd/berth/problem"
	"github.com/berthd/berth/server"
	"github.com/berthd/berth/server/consensus"
	"github.com/berthd/berth/server/dispatch"
)

// makeServer opens the server's ports and stores.
func (d *daemon) makeServer() error {
	cfg := d.cfg
	serverTLS, clientTLS, err := d.loadTLS()
	if err != nil {
		return err
	}
	listeners := map[string]net.Listener{}
	for _, l := range []struct {
		name, address string
		port          int
	}{{"http", cfg.Addresses.HTTP, cfg.Ports.HTTP}, {"grpc", cfg.Addresses.GRPC, cfg.Ports.GRPC}, {"raft", cfg.Addresses.Raft, cfg.Ports.Raft}} {
		if listeners[l.name], err = listen(l.name, cfg.Listen(l.address, l.port)); err != nil {
			return err
		}
		d.undo = append(d.undo, func() { _ = listeners[l.name].Close() })
	}
	reached, err := advertised(cfg, listeners)
	if err != nil {
		return err
	}
	if serverTLS == nil && !isLoopback(reached.GRPC) {
		d.log.Warn("other hosts can reach this server, and nothing is encrypted or asks who they are; keep it in a network that you trust", "address", reached.GRPC)
	}
	key, _ := base64.StdEncoding.DecodeString(cfg.Server.GossipKey)
	version := build()
	version.Region = cfg.Region
	server.TuneGC()
	s, err := server.New(server.Config{
		Consensus: consensus.Config{
			Name: cfg.Name, Cluster: cfg.Region, DataDir: cfg.DataDir + "/server",
			Listener: listeners["raft"], RaftAdvertise: reached.Raft, ServerTLS: serverTLS, ClientTLS: clientTLS,
			GossipBind: cfg.Listen(cfg.Addresses.Gossip, cfg.Ports.Gossip), GossipAdvertise: reached.Gossip, GossipKey: key,
			GRPCAddress: reached.GRPC, HTTPAddress: reached.HTTP, Version: Version,
			BootstrapExpect: cfg.Server.BootstrapExpect, Join: config.WithPort(cfg.Server.Join, config.PortGossip),
			Timing: consensus.Timing{DeadGrace: cfg.Server.DeadServerGrace},
		},
		GRPCListener: listeners["grpc"], HTTPListener: listeners["http"],
		ServerTLS: serverTLS, ClientTLS: clientTLS,
		Dispatch: dispatch.Timing{TTL: cfg.Server.HeartbeatTTL},
		Version:  version, Logger: d.log,
	})
	if err != nil {
		return err
	}
	d.server, d.grpcAddress, d.httpAddress = s, listeners["grpc"].Addr().String(), listeners["http"].Addr().String()
	return nil
}

// listen opens a port, and says what to do when it is taken.
func listen(name, address string) (net.Listener, error) {
	l, err := net.Listen("tcp", address)
	switch {
	case err == nil:
		return l, nil
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, problem.New(problem.Conflict, address, "another process listens on the %s port already", name).
			WithRemedy("stop it, or choose another by -%s-addr or ports { %s = ... }", name, name)
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return nil, problem.New(problem.Invalid, address, "this host has no such address").
			WithRemedy("set bind, or addresses { %s = ... }, to one that `ip address` shows", name)
	}
	return nil, problem.New(problem.Invalid, address, "the %s port cannot be opened: %w", name, err)
}

// advertised are the addresses by which others reach this server: those of the
// configuration, else those that it listens on, else, where that is every address of
// the host, one that others can route to.
func advertised(cfg *config.Config, listeners map[string]net.Listener) (config.Endpoints, error) {
	var reached config.Endpoints
	for _, e := range []struct {
		name, told, bound string
		port              int
		into              *string
	}{
		{"http", cfg.Advertise.HTTP, listeners["http"].Addr().String(), cfg.Ports.HTTP, &reached.HTTP},
		{"grpc", cfg.Advertise.GRPC, listeners["grpc"].Addr().String(), cfg.Ports.GRPC, &reached.GRPC},
		{"raft", cfg.Advertise.Raft, listeners["raft"].Addr().String(), cfg.Ports.Raft, &reached.Raft},
		{"gossip", cfg.Advertise.Gossip, cfg.Listen(cfg.Addresses.Gossip, cfg.Ports.Gossip), cfg.Ports.Gossip, &reached.Gossip},
	} {
		host, port, err := net.SplitHostPort(e.bound)
		if err != nil {
			return reached, problem.New(problem.Invalid, "addresses."+e.name, "%w", err)
		}
		if ip := net.ParseIP(host); ip != nil && ip.IsUnspecified() {
			host = hostAddress()
		}
		if h, p, err := net.SplitHostPort(e.told); err == nil {
			host, port = h, p
		} else if e.told != "" {
			host = e.told
		}
		if host == "" {
			return reached, problem.New(problem.Invalid, "advertise."+e.name, "this host has no address that others could reach").
				WithRemedy("set advertise { %s = \"host\" }", e.name)
		}
		*e.into = net.JoinHostPort(host, port)
	}
	return reached, nil
}

// hostAddress is an address of this host that is not loopback, a private one before
// others; "" when there is none.
func hostAddress() string {
	addresses, _ := net.InterfaceAddrs()
	found := ""
	for _, a := range addresses {
		n, ok := a.(*net.IPNet)
		if !ok || !n.IP.IsGlobalUnicast() {
			continue
		}
		if n.IP.IsPrivate() && n.IP.To4() != nil {
			return n.IP.String()
		}
		if found == "" {
			found = n.IP.String()
		}
	}
	return found
}

func isLoopback(address string) bool {
	host, _, err := net.SplitHostPort(address)
	ip := net.ParseIP(host)
	return err == nil && (host == "localhost" || ip != nil && ip.IsLoopback())
}

// loadTLS reads the certificates that the configuration names; nil, nil: there are none.
func (d *daemon) loadTLS() (serverTLS, clientTLS *tls.Config, err error) {
	files := d.cfg.TLS
	if files.CertFile == "" && files.CAFile == "" {
		return nil, nil, nil
	}
	if files.CertFile == "" || files.CAFile == "" {
		return nil, nil, problem.New(problem.Invalid, "tls", "a server needs ca_file, cert_file and key_file")
	}
	clientTLS, err = d.clientTLS()
	if err != nil {
		return nil, nil, err
	}
	serverTLS = &tls.Config{MinVersion: tls.VersionTLS13, Certificates: clientTLS.Certificates, ClientCAs: clientTLS.RootCAs, ClientAuth: tls.RequireAndVerifyClientCert}
	return serverTLS, clientTLS, nil
}

// clientTLS is how this process calls servers; nil: without TLS.
func (d *daemon) clientTLS() (*tls.Config, error) {
	files := d.cfg.TLS
	if files.CAFile == "" && files.CertFile == "" {
		return nil, nil
	}
	cfg := &tls.Config{MinVersion: tls.VersionTLS13, ServerName: files.ServerName}
	if files.CAFile != "" {
		pem, err := os.ReadFile(files.CAFile)
		if err != nil {
			return nil, problem.New(problem.Invalid, "tls.ca_file", "reading the CA certificate: %w", err)
		}
		cfg.RootCAs = x509.NewCertPool()
		if !cfg.RootCAs.AppendCertsFromPEM(pem) {
			return nil, problem.New(problem.Invalid, "tls.ca_file", "there is no PEM certificate in %s", files.CAFile)
		}
	}
	if files.CertFile != "" {
		pair, err := tls.LoadX509KeyPair(files.CertFile, files.KeyFile)
		if err != nil {
			return nil, problem.New(problem.Invalid, "tls.cert_file", "loading the certificate and its key: %w", err)
		}
		cfg.Certificates = []tls.Certificate{pair}
	}
	return cfg, nil
}
