package plugins

import (
	"os"
	"os/signal"
	"syscall"

	"github.com/hashicorp/go-hclog"
	goplugin "github.com/hashicorp/go-plugin"
	"google.golang.org/grpc"

	"github.com/berthd/berth/drivers"
)

// Serve is the whole main function of a driver plugin:
//
//	func main() { plugins.Serve(mydriver.New()) }
//
// It serves the driver until the agent tells the plugin to end, and does not return
// before. Started by hand it says what it is and exits with code 1. What the driver
// writes to its standard error is in the agent's log for as long as there is an agent;
// a plugin must not depend on it being read.
func Serve(d drivers.Driver) {
	// The agent may die and the plugin goes on: writing to its pipe must not kill it.
	signal.Ignore(syscall.SIGPIPE, syscall.SIGHUP)
	goplugin.Serve(&goplugin.ServeConfig{
		HandshakeConfig: handshake,
		Plugins:         goplugin.PluginSet{pluginName: &wire{server: NewServer(d)}},
		GRPCServer: func(opts []grpc.ServerOption) *grpc.Server {
			return grpc.NewServer(append(opts, grpc.UnaryInterceptor(guardUnary), grpc.StreamInterceptor(guardStream))...)
		},
		Logger: hclog.New(&hclog.LoggerOptions{Level: hclog.Warn, Output: os.Stderr}),
	})
}
