// Berth turns a fleet of hosts and machines into one pool. See package command.
package main

import (
	"context"
	"os"

	"github.com/berthd/berth/command"
)

func main() {
	os.Exit(command.Main(context.Background(), os.Args[1:], command.OSStreams()))
}
