// Package plugins runs drivers out of process, so that anybody can write one and a fault
// in it harms nothing else. A plugin is an executable that calls Serve; the agent makes a
// Plugin of its path, and that is a drivers.Driver like any other.
//
// The wire is gRPC (DriverService in driver.proto) on a Unix socket, with the handshake
// of hashicorp/go-plugin. Any driver can be served: NewServer mirrors the contract of
// package drivers, Plugin mirrors it back, and drivertest runs through both.
//
// # What outlives what
//
// A plugin's process outlives the agent, for some drivers can keep their tasks only in
// it: the next agent finds it by a file in its state directory and attaches again. When
// the process itself dies it is started anew, with growing pauses, and given every task
// that it had to recover; who waits for a task's end does not notice.
package plugins

import (
	"context"
	"errors"

	goplugin "github.com/hashicorp/go-plugin"
	"google.golang.org/grpc"

	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

// handshake tells a plugin from a program that was started by mistake, and versions of
// the wire that do not understand each other.
var handshake = goplugin.HandshakeConfig{
	ProtocolVersion:  1,
	MagicCookieKey:   "BERTH_PLUGIN",
	MagicCookieValue: "driver",
}

// pluginName is what the wire calls its one service.
const pluginName = "driver"

// maxHandleState is the most that a driver's handle may hold: the agent stores it.
const maxHandleState = 64 << 10

// wire is the plugin in go-plugin's sense: on the one side a server, on the other a link.
type wire struct {
	goplugin.NetRPCUnsupportedPlugin
	server berthv1.DriverServiceServer
}

var _ goplugin.GRPCPlugin = (*wire)(nil)

// GRPCServer implements goplugin.GRPCPlugin.
func (w *wire) GRPCServer(_ *goplugin.GRPCBroker, s *grpc.Server) error {
	if w.server == nil {
		return errors.New("nothing to serve")
	}
	berthv1.RegisterDriverServiceServer(s, w.server)
	return nil
}

// GRPCClient implements goplugin.GRPCPlugin; ctx ends with the plugin's process.
func (w *wire) GRPCClient(ctx context.Context, _ *goplugin.GRPCBroker, conn *grpc.ClientConn) (any, error) {
	return &link{conn: conn, service: berthv1.NewDriverServiceClient(conn), gone: ctx.Done()}, nil
}

// link is a connection to a plugin's process.
type link struct {
	conn    *grpc.ClientConn
	service berthv1.DriverServiceClient
	gone    <-chan struct{}
}
