package bench

import (
	"context"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/google/uuid"

	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

// conns is how many connections the simulated agents share, per server: as many
// sessions as wanted fit one HTTP/2 connection, but a few spread the work.
const conns = 2

// opening bounds how many sessions are being opened at a time, for each server: a fleet does not
// come within one millisecond, and what is measured is how fast servers take it in.
const opening = 256

// agents are simulated: sessions that acknowledge what they are assigned as running,
// without running it. They look at no more of a message than that takes, so that what is
// measured is the servers.
type agents struct {
	nodes []*berthv1.Node
	// seen is told of n new allocations of a job that have come to an agent with its
	// session at a server (by its place among the servers).
	seen func(job string, server, n int, at time.Time)
}

// newNode makes a node, whose session will be at server i modulo their number: of 2 cells with 32 threads and 128 GiB each.
func newNode(i, servers int) *berthv1.Node {
	cell := func(id uint32) *berthv1.Cell {
		c := &berthv1.Cell{Id: id, MemoryMib: 128 << 10, Distances: []uint32{10 + 10*id, 20 - 10*id}}
		for core := range uint32(16) {
			first := id*16 + core
			c.Cores = append(c.Cores, fmt.Sprintf("%d,%d", first, first+32))
		}
		return c
	}
	return &berthv1.Node{
		Id: uuid.NewString(), Name: fmt.Sprintf("sim-%05d", i), Pool: "default", Arch: "amd64",
		Attributes: map[string]string{"node.rack": fmt.Sprint("r", i/32), "kernel.name": "linux", "sim.server": fmt.Sprint(i % servers)},
		Hardware:   &berthv1.Hardware{Cells: []*berthv1.Cell{cell(0), cell(1)}, DiskMib: 4 << 20},
		Drivers:    []*berthv1.DriverInfo{{Name: "mock", Healthy: true}},
		MinPort:    20000, MaxPort: 32000, Address: "127.0.0.1", Version: "sim",
	}
}

// run holds a session for each node until ctx ends; ready is called once all are open.
func (a *agents) run(ctx context.Context, servers []string, ready func()) error {
	var clients []link
	for range conns {
		for i, address := range servers {
			conn, err := grpc.NewClient("passthrough:///"+address,
				grpc.WithTransportCredentials(insecure.NewCredentials()),
				grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(64<<20), grpc.ForceCodecV2(rawCodec{})))
			if err != nil {
				return fmt.Errorf("connecting to %s: %w", address, err)
			}
			defer func() { _ = conn.Close() }() // the bench is over then
			clients = append(clients, link{conn, i})
		}
	}
	var open sync.WaitGroup
	open.Add(len(a.nodes))
	group, ctx := errgroup.WithContext(ctx)
	turns := make(chan struct{}, opening*len(servers))
	group.Go(func() error {
		for i, node := range a.nodes {
			select {
			case turns <- struct{}{}:
			case <-ctx.Done():
				return nil
			}
			opened := func() {
				open.Done()
				<-turns
			}
			group.Go(func() error { return a.session(ctx, clients[i%len(clients)], node, opened) })
		}
		return nil
	})
	go func() {
		open.Wait()
		ready()
	}()
	return group.Wait()
}
