// Command guest writes a disk that boots a tiny Linux, which greets on its console and runs
// shell commands: guest FILE [COMMAND...]. The demo and people who try virtual machines use
// it; package drivers/qemu/guest says what it is made of.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"runtime"

	"github.com/berthd/berth/drivers/qemu/guest"
)

func main() {
	if len(os.Args) < 2 {
		fmt.Fprintln(os.Stderr, "usage: guest FILE [COMMAND...]")
		os.Exit(64)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := write(ctx, os.Args[1], os.Args[2:]); err != nil {
		fmt.Fprintln(os.Stderr, "guest:", err)
		os.Exit(1)
	}
}

func write(ctx context.Context, path string, commands []string) error {
	g, err := guest.Build(ctx, runtime.GOARCH)
	if err != nil {
		return err
	}
	return g.Disk(ctx, path, commands...)
}
