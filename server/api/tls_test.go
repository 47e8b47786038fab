package api

import (
	"crypto/tls"
	"crypto/x509"
	"net/http/httptest"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
)

// TestForwardOverTLS: servers with certificates forward to each other.
func TestForwardOverTLS(t *testing.T) {
	certified := httptest.NewUnstartedServer(nil)
	certified.StartTLS() // for its certificate, which is good for example.com
	defer certified.Close()
	pool := x509.NewCertPool()
	pool.AddCert(certified.Certificate())
	c := newClusterOf(t, 2, []grpc.ServerOption{grpc.Creds(credentials.NewTLS(&tls.Config{Certificates: certified.TLS.Certificates}))}, func(c *Config) {
		c.ClientTLS = &tls.Config{RootCAs: pool, ServerName: "example.com"}
	})
	resp := c.members[1].call(t, "POST", "/v1/jobs", jobJSON("web", 1)).want(t, 200)
	if resp["version"] != "1" || c.members[0].proposed != 1 {
		t.Fatalf("%v", resp)
	}
	c.members[1].api.peers.Close()
	plain := newClusterOf(t, 2, []grpc.ServerOption{grpc.Creds(credentials.NewTLS(&tls.Config{Certificates: certified.TLS.Certificates}))}, func(c *Config) {
		c.LeaderWait = 1 // the attempt, and no more
	})
	plain.members[1].call(t, "POST", "/v1/jobs", jobJSON("web", 1)).problem(t, 503)
}
