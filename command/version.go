package command

import (
	"context"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"

	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

// Version is the version of this build; releases set it by
// -ldflags "-X github.com/berthd/berth/command.Version=1.2.3".
var Version = "0.0.0-dev"

// build says what this program is.
func build() *berthv1.Version {
	v := &berthv1.Version{Version: Version, Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return v
	}
	for _, s := range info.Settings {
		switch {
		case s.Key == "vcs.revision":
			v.Commit = s.Value + v.Commit
		case s.Key == "vcs.modified" && s.Value == "true":
			v.Commit += "+changes"
		}
	}
	return v
}

func (a *app) versionCommand() *cobra.Command {
	var o output
	var server bool
	cmd := a.leaf("version", "Show the version of this program, or of a server", "",
		func(ctx context.Context, _ []string) error {
			v := build()
			if server {
				c, err := a.api()
				if err != nil {
					return err
				}
				if v, err = c.Status.GetVersion(ctx, &berthv1.GetVersionRequest{}); err != nil {
					return err
				}
			}
			return a.show(&o, v, func() error {
				a.printf("berth %s  %s  %s", v.GetVersion(), v.GetPlatform(), v.GetGo())
				if c := v.GetCommit(); c != "" {
					a.printf("  commit %s", c)
				}
				if c := v.GetClusterId(); c != "" {
					a.printf("  cluster %s", c)
				}
				if r := v.GetRegion(); r != "" {
					a.printf("  region %s", r)
				}
				a.printf("\n")
				return nil
			})
		})
	cmd.Flags().BoolVar(&server, "server", false, "ask the server for its version")
	o.register(cmd)
	return cmd
}
