package command

import (
	"context"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/berthd/berth/client"
	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

func (a *app) serviceCommands() *cobra.Command {
	return a.group("service", "Services: who answers to a name", "", a.serviceList(), a.serviceInfo())
}

func (a *app) serviceList() *cobra.Command {
	var o output
	var filter string
	cmd := a.leaf("list", "List services with their ready instances",
		"A service is here while an allocation offers it. In DNS it is <service>.<namespace>.berth, asked of any agent.",
		func(ctx context.Context, _ []string) error {
			c, err := a.api()
			if err != nil {
				return err
			}
			list, err := collect(func(token string) ([]*berthv1.ServiceSummary, string, error) {
				r, err := c.Services.ListServices(ctx, &berthv1.ListServicesRequest{Filter: filter, PageToken: token})
				return r.GetServices(), r.GetNextPageToken(), err
			})
			if err != nil {
				return err
			}
			return showList(a, &o, list, func() error {
				if len(list) == 0 {
					a.printf("No services in namespace %s. A group of a job offers one: service \"web\" { port = \"http\" }\n", c.Namespace())
					return nil
				}
				t := newTable(column{title: "SERVICE"}, column{title: "NAMESPACE", drop: 2}, column{title: "READY", right: true}, column{title: "TAGS", shrink: 8, drop: 1})
				for _, s := range list {
					t.add(s.GetName(), s.GetNamespace(), fmt.Sprintf("%d/%d", s.GetReady(), s.GetInstances()), strings.Join(s.GetTags(), " "))
				}
				return a.table(t)
			})
		})
	registerFilter(cmd, &filter)
	o.register(cmd)
	return cmd
}

func (a *app) serviceInfo() *cobra.Command {
	var o output
	var tag string
	var ready bool
	cmd := a.leaf("info SERVICE", "Show the instances of a service", "", func(ctx context.Context, args []string) error {
		c, err := a.api()
		if err != nil {
			return err
		}
		s, err := c.Services.GetService(ctx, &berthv1.GetServiceRequest{Service: args[0], Tag: tag, Ready: ready})
		if err != nil {
			return err
		}
		return a.show(&o, s, func() error { return a.printService(s) })
	})
	cmd.Flags().StringVar(&tag, "tag", "", "only instances with this `tag`")
	cmd.Flags().BoolVar(&ready, "ready", false, "only ready instances")
	o.register(cmd)
	cmd.ValidArgsFunction = a.completeServices
	return cmd
}

func (a *app) printService(s *berthv1.GetServiceResponse) error {
	ready := 0
	for _, i := range s.GetInstances() {
		if i.GetReady() {
			ready++
		}
	}
	a.printf("%s  %d of %d ready  %s.%s.berth\n\n", a.paint(strong, s.GetName()), ready, len(s.GetInstances()), s.GetName(), s.GetNamespace())
	t := newTable(column{title: "ALLOC"}, column{title: "JOB", shrink: 8, drop: 3}, column{title: "ADDRESS"}, column{title: "NODE", shrink: 6, drop: 2}, column{title: "TAGS", shrink: 6, drop: 4}, column{title: "READY"}, column{title: "REASON", shrink: 10, drop: 1})
	for _, i := range s.GetInstances() {
		t.add(shortID(i.GetAllocId()), fmt.Sprintf("%s.%s[%d]", i.GetJob(), i.GetGroup(), i.GetIndex()), endpoint(i), i.GetNodeName(), strings.Join(i.GetTags(), " "), readyWord(i), oneLine(i.GetReason()))
	}
	return a.table(t)
}

func endpoint(i *berthv1.ServiceInstance) string {
	if i.GetPort() == 0 {
		return i.GetAddress()
	}
	return net.JoinHostPort(i.GetAddress(), strconv.Itoa(int(i.GetPort())))
}

func readyWord(i *berthv1.ServiceInstance) any {
	switch {
	case i.GetReady():
		return word("ready")
	case i.GetCanary():
		return word("canary")
	}
	return word("not ready")
}

// printAllocServices says what an allocation offers, and how its checks are.
func (a *app) printAllocServices(instances []*berthv1.ServiceInstance) error {
	for _, i := range instances {
		a.printf("\nservice %s  %s  %s", a.paint(strong, i.GetService()), endpoint(i), readyWord(i))
		if i.GetReason() != "" {
			a.printf(" (%s)", oneLine(i.GetReason()))
		}
		a.printf("\n")
		if len(i.GetChecks()) == 0 {
			continue
		}
		t := newTable(column{title: "CHECK"}, column{title: "FOR", drop: 2}, column{title: "STATUS"}, column{title: "SINCE", drop: 1}, column{title: "OUTPUT", shrink: 10})
		for _, k := range i.GetChecks() {
			t.add(k.GetCheck(), k.GetOn(), word(k.GetStatus().String()), ago(k.GetSince(), time.Now()), oneLine(k.GetOutput()))
		}
		if err := a.table(t); err != nil {
			return err
		}
	}
	return nil
}

func (a *app) completeServices(cmd *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
	return a.complete(func(ctx context.Context, c *client.Client, prefix string) ([]string, error) {
		r, err := c.Services.ListServices(ctx, &berthv1.ListServicesRequest{Prefix: prefix, PageSize: completeCount, Stale: true})
		var names []string
		for _, s := range r.GetServices() {
			names = append(names, s.GetName())
		}
		return names, err
	})(cmd, args, typed)
}
