package command

import (
	"context"

	"github.com/spf13/cobra"

	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

// memberCommands are the commands below `berth server`, which itself runs one.
func (a *app) memberCommands() []*cobra.Command {
	return []*cobra.Command{a.serverMembers(), a.serverJoin(), a.serverLeave()}
}

func (a *app) serverMembers() *cobra.Command {
	var o output
	cmd := a.leaf("members", "List the servers that gossip knows", "", func(ctx context.Context, _ []string) error {
		c, err := a.api()
		if err != nil {
			return err
		}
		r, err := c.Status.GetMembers(ctx, &berthv1.GetMembersRequest{})
		if err != nil {
			return err
		}
		return showList(a, &o, r.GetMembers(), func() error {
			t := newTable(column{title: "NAME", shrink: 8}, column{title: "STATE"}, column{title: "ROLE"}, column{title: "GRPC", drop: 1},
				column{title: "HTTP", drop: 4}, column{title: "RAFT", drop: 3}, column{title: "GOSSIP", drop: 5}, column{title: "VERSION", drop: 2}, column{title: "REGION", drop: 6})
			for _, m := range r.GetMembers() {
				role := cell{text: "follower"}
				if m.GetLeader() {
					role = cell{text: "leader", style: strong}
				}
				t.add(or(m.GetName(), shortID(m.GetId())), word(m.GetState()), role, m.GetGrpcAddress(), m.GetHttpAddress(), m.GetRaftAddress(), m.GetGossipAddress(), m.GetVersion(), m.GetRegion())
			}
			return a.table(t)
		})
	})
	o.register(cmd)
	return cmd
}

func (a *app) serverJoin() *cobra.Command {
	return a.leaf("join ADDRESS...", "Have the asked server join others", "ADDRESS is the gossip address (host:port, port 7463 unless configured otherwise) of a server that is in the cluster.",
		func(ctx context.Context, args []string) error {
			c, err := a.api()
			if err != nil {
				return err
			}
			r, err := c.Status.JoinServers(ctx, &berthv1.JoinServersRequest{Addresses: args})
			if err != nil {
				return err
			}
			a.printf("Joined %s.\n", count(r.GetJoined(), "server"))
			return nil
		})
}

func (a *app) serverLeave() *cobra.Command {
	var yes bool
	cmd := a.leaf("leave", "Have the asked server leave the cluster for good", "It hands leadership over, leaves the Raft set and ends. Agents go on with the other servers.",
		func(ctx context.Context, _ []string) error {
			c, err := a.api()
			if err != nil {
				return err
			}
			if err := a.confirm(yes, "Take this server out of the cluster for good?"); err != nil {
				return err
			}
			if _, err := c.Status.LeaveServer(ctx, &berthv1.LeaveServerRequest{}); err != nil {
				return err
			}
			a.printf("The server has left the cluster.\n")
			return nil
		})
	cmd.Flags().BoolVar(&yes, "yes", false, "do not ask before something is lost for good")
	return cmd
}
