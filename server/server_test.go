package server

import (
	"context"
	"fmt"
	"net"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	berthv1 "github.com/berthd/berth/proto/berth/v1"
	"github.com/berthd/berth/server/consensus"
	"github.com/berthd/berth/server/state"
)

func listen(t *testing.T) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// Three real servers on loopback, with stores on disk: any of them takes a write, and
// all of them have it.
func TestThreeServersTakeWritesAnywhere(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	var servers []*Server
	var ended []chan error
	var conns []*grpc.ClientConn
	gossip := ""
	for i := range 3 {
		g := listen(t)
		address := g.Addr().String()
		_ = g.Close()
		cfg := Config{GRPCListener: listen(t), HTTPListener: listen(t)}
		cfg.Consensus = consensus.Config{
			Name: fmt.Sprint("s", i), Cluster: "test", DataDir: t.TempDir(), Listener: listen(t), GossipBind: address,
			GRPCAddress: cfg.GRPCListener.Addr().String(), BootstrapExpect: 3,
		}
		if gossip == "" {
			gossip = address
		}
		cfg.Consensus.Join = []string{gossip}
		s, err := New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		done := make(chan error, 1)
		go func() { done <- s.Run(ctx) }()
		conn, err := grpc.NewClient("passthrough:///"+cfg.Consensus.GRPCAddress, grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err != nil {
			t.Fatal(err)
		}
		servers, ended, conns = append(servers, s), append(ended, done), append(conns, conn)
	}
	defer func() {
		cancel()
		for i, done := range ended {
			if err := <-done; err != nil {
				t.Errorf("server %d ended: %v", i, err)
			}
			_ = conns[i].Close()
		}
	}()
	for i, conn := range conns {
		name := fmt.Sprint("ns-", i)
		call, stop := context.WithTimeout(ctx, time.Minute)
		defer stop()
		if _, err := berthv1.NewNamespaceServiceClient(conn).SetNamespace(call, &berthv1.SetNamespaceRequest{
			Namespace: &berthv1.Namespace{Name: name}}); err != nil {
			t.Fatalf("server %d: %v", i, err)
		}
	}
	for i, s := range servers {
		if err := heard(ctx, s, "ns-2"); err != nil {
			t.Fatalf("server %d never heard of it: %v", i, err)
		}
	}
}

// heard waits until a server's own state has the namespace.
func heard(ctx context.Context, s *Server, namespace string) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for {
		watch := s.Store().Watch(state.Topic{Table: state.TableNamespaces, Key: namespace})
		if s.Store().View().Namespace(namespace) != nil {
			watch.Close()
			return nil
		}
		select {
		case <-watch.C:
			watch.Close()
		case <-ctx.Done():
			watch.Close()
			return ctx.Err()
		}
	}
}
