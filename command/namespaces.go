package command

import (
	"context"
	"strings"

	"github.com/spf13/cobra"

	"github.com/berthd/berth/problem"
	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

func (a *app) namespaceCommands() *cobra.Command {
	return a.group("namespace", "Look after namespaces", "",
		a.namespaceList(), a.namespaceStatus(), a.namespaceApply(), a.namespaceDelete())
}

func (a *app) namespaceList() *cobra.Command {
	var o output
	cmd := a.leaf("list", "List namespaces", "", func(ctx context.Context, _ []string) error {
		c, err := a.api()
		if err != nil {
			return err
		}
		list, err := collect(func(token string) ([]*berthv1.Namespace, string, error) {
			r, err := c.Namespaces.ListNamespaces(ctx, &berthv1.ListNamespacesRequest{PageToken: token})
			return r.GetNamespaces(), r.GetNextPageToken(), err
		})
		if err != nil {
			return err
		}
		return showList(a, &o, list, func() error {
			t := newTable(column{title: "NAMESPACE"}, column{title: "DESCRIPTION", shrink: 11})
			for _, n := range list {
				t.add(n.GetName(), n.GetDescription())
			}
			return a.table(t)
		})
	})
	o.register(cmd)
	return cmd
}

func (a *app) namespaceStatus() *cobra.Command {
	var o output
	cmd := a.leaf("status NAME", "Show a namespace with what is used of its quota", "", func(ctx context.Context, args []string) error {
		c, err := a.api()
		if err != nil {
			return err
		}
		n, err := c.Namespaces.GetNamespace(ctx, &berthv1.GetNamespaceRequest{Name: args[0]})
		if err != nil {
			return err
		}
		return a.show(&o, n, func() error {
			a.printf("%s", a.paint(strong, n.GetName()))
			if n.GetDescription() != "" {
				a.printf("  %s", oneLine(n.GetDescription()))
			}
			a.printf("\n")
			for _, k := range sortedKeys(n.GetMeta()) {
				a.printf("meta %s = %s\n", k, oneLine(n.GetMeta()[k]))
			}
			if d := n.GetAllowedDrivers(); len(d) > 0 {
				a.printf("drivers %s\n", strings.Join(d, " "))
			}
			usage, err := c.Namespaces.GetNamespaceUsage(ctx, &berthv1.GetNamespaceUsageRequest{Name: n.GetName()})
			if err != nil {
				return err
			}
			a.printf("\n")
			return a.printQuota(usage)
		})
	})
	o.register(cmd)
	cmd.ValidArgsFunction = a.completeNamespaces
	return cmd
}

func (a *app) namespaceApply() *cobra.Command {
	var o output
	var f namespaceFlags
	cmd := a.leaf("apply NAME", "Make a namespace, or change one", "What no flag names stays as it is; -meta key= takes a key away. "+quotaHelp, nil)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		ctx := cmd.Context()
		c, err := a.api()
		if err != nil {
			return err
		}
		n, err := c.Namespaces.GetNamespace(ctx, &berthv1.GetNamespaceRequest{Name: args[0]})
		if problem.Is(err, problem.NotFound) {
			n, err = &berthv1.Namespace{Name: args[0]}, nil
		}
		if err != nil {
			return err
		}
		if cmd.Flags().Changed("description") {
			n.Description = f.description
		}
		if err := f.change(n); err != nil {
			return err
		}
		n, err = c.Namespaces.SetNamespace(ctx, &berthv1.SetNamespaceRequest{Namespace: n})
		if err != nil {
			return err
		}
		return a.show(&o, n, func() error { a.printf("Namespace %s is there.\n", n.GetName()); return nil })
	}
	cmd.Flags().StringVar(&f.description, "description", "", "what it is for, in `words`")
	cmd.Flags().StringArrayVar(&f.meta, "meta", nil, "`key=value` to keep with it; may be repeated")
	cmd.Flags().StringSliceVar(&f.quota, "quota", nil, "`what=amount` that it may hold, such as cpu=64 or gpu=16; several by commas, or again")
	cmd.Flags().StringSliceVar(&f.drivers, "allow-drivers", nil, "`drivers` that its jobs may use, and no others; several by commas, or again")
	cmd.Flags().BoolVar(&f.anyDriver, "allow-any-driver", false, "let its jobs use any driver")
	cmd.Flags().BoolVar(&f.noQuota, "no-quota", false, "take away every limit")
	o.register(cmd)
	cmd.ValidArgsFunction = a.completeNamespaces
	return cmd
}

// namespaceFlags say what is to be changed of a namespace.
type namespaceFlags struct {
	description          string
	meta, quota, drivers []string
	noQuota, anyDriver   bool
}

// change makes the changes, but for the description, which may become empty.
func (f *namespaceFlags) change(n *berthv1.Namespace) error {
	for _, pair := range f.meta {
		key, value, ok := strings.Cut(pair, "=")
		if !ok || key == "" {
			return problem.New(problem.Invalid, "-meta", "%q is not key=value", pair)
		}
		if n.Meta == nil {
			n.Meta = map[string]string{}
		}
		n.Meta[key] = value
		if value == "" {
			delete(n.Meta, key)
		}
	}
	if f.anyDriver {
		n.AllowedDrivers = nil
	}
	if len(f.drivers) > 0 {
		n.AllowedDrivers = f.drivers
	}
	if f.noQuota {
		n.Quota = nil
	}
	for _, word := range f.quota {
		if n.Quota == nil {
			n.Quota = &berthv1.Quota{}
		}
		if err := setQuota(n.Quota, word); err != nil {
			return err
		}
	}
	return nil
}

func (a *app) namespaceDelete() *cobra.Command {
	cmd := a.leaf("delete NAME", "Forget a namespace that has no jobs", "", func(ctx context.Context, args []string) error {
		c, err := a.api()
		if err != nil {
			return err
		}
		if _, err := c.Namespaces.DeleteNamespace(ctx, &berthv1.DeleteNamespaceRequest{Name: args[0]}); err != nil {
			return err
		}
		a.printf("Namespace %s is forgotten.\n", args[0])
		return nil
	})
	cmd.ValidArgsFunction = a.completeNamespaces
	return cmd
}
