package command

import (
	"context"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/berthd/berth/problem"
	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

func (a *app) varCommands() *cobra.Command {
	return a.group("var", "Look after variables: words that templates of tasks read",
		"A variable is a name with some keys and values, 60 KiB together, in a namespace. It is no place for secrets: it is stored as it is.",
		a.varList(), a.varGet(), a.varPut(), a.varDelete())
}

func (a *app) varList() *cobra.Command {
	var o output
	var prefix string
	cmd := a.leaf("list", "List variables", "", func(ctx context.Context, _ []string) error {
		c, err := a.api()
		if err != nil {
			return err
		}
		list, err := collect(func(token string) ([]*berthv1.Variable, string, error) {
			r, err := c.Variables.ListVariables(ctx, &berthv1.ListVariablesRequest{PageToken: token, Prefix: prefix})
			return r.GetVariables(), r.GetNextPageToken(), err
		})
		if err != nil {
			return err
		}
		return showList(a, &o, list, func() error {
			t := newTable(column{title: "VARIABLE", shrink: 12}, column{title: "NAMESPACE", drop: 2}, column{title: "KEYS", shrink: 10}, column{title: "CHANGED", drop: 1})
			for _, v := range list {
				t.add(v.GetName(), v.GetNamespace(), strings.Join(sortedKeys(v.GetItems()), " "), ago(v.GetModifyTime(), time.Now()))
			}
			return a.table(t)
		})
	})
	cmd.Flags().StringVar(&prefix, "prefix", "", "only names that begin with `words`")
	o.register(cmd)
	return cmd
}

func (a *app) varGet() *cobra.Command {
	var o output
	var key string
	cmd := a.leaf("get NAME", "Show a variable", "With -key: that value alone, as it is.", func(ctx context.Context, args []string) error {
		c, err := a.api()
		if err != nil {
			return err
		}
		v, err := c.Variables.GetVariable(ctx, &berthv1.GetVariableRequest{Name: args[0]})
		if err != nil {
			return err
		}
		if key != "" {
			value, ok := v.GetItems()[key]
			if !ok {
				return problem.New(problem.NotFound, "-key", "variable %q has no key %q", v.GetName(), key).WithRemedy("it has %s", strings.Join(sortedKeys(v.GetItems()), ", "))
			}
			a.printf("%s", value)
			return nil
		}
		return a.show(&o, v, func() error {
			a.printf("%s  revision %d  changed %s\n", a.paint(strong, v.GetName()), v.GetModifyRevision(), ago(v.GetModifyTime(), time.Now()))
			for _, k := range sortedKeys(v.GetItems()) {
				a.printf("%s = %s\n", k, oneLine(v.GetItems()[k]))
			}
			return nil
		})
	})
	cmd.Flags().StringVar(&key, "key", "", "print only the value of this `key`")
	o.register(cmd)
	return cmd
}

func (a *app) varPut() *cobra.Command {
	var o output
	var check checkRevision
	cmd := a.leaf("put NAME KEY=VALUE...", "Write a variable",
		"The variable gets these keys and no others. KEY=@FILE takes the value from a file.", nil)
	cmd.Args = func(cmd *cobra.Command, args []string) error {
		if len(args) < 2 {
			return usageError(cmd, "%s is missing", []string{"NAME", "KEY=VALUE"}[len(args)])
		}
		return nil
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		items, err := itemsOf(args[1:])
		if err != nil {
			return err
		}
		c, err := a.api()
		if err != nil {
			return err
		}
		v, err := c.Variables.SetVariable(cmd.Context(), &berthv1.SetVariableRequest{
			Variable: &berthv1.Variable{Namespace: c.Namespace(), Name: args[0], Items: items}, Check: check.given(cmd), CheckRevision: check.revision,
		})
		if err != nil {
			return err
		}
		return a.show(&o, v, func() error {
			a.printf("%s is at revision %d.\n", v.GetName(), v.GetModifyRevision())
			return nil
		})
	}
	check.register(cmd)
	o.register(cmd)
	return cmd
}

func itemsOf(pairs []string) (map[string]string, error) {
	items := map[string]string{}
	for _, pair := range pairs {
		key, value, ok := strings.Cut(pair, "=")
		if !ok || key == "" {
			return nil, problem.New(problem.Invalid, "KEY=VALUE", "%q is not key=value", pair)
		}
		if file, ok := strings.CutPrefix(value, "@"); ok {
			data, err := os.ReadFile(file)
			if err != nil {
				return nil, problem.New(problem.Invalid, key, "the value cannot be read: %w", unpath(err))
			}
			value = string(data)
		}
		items[key] = value
	}
	return items, nil
}

func (a *app) varDelete() *cobra.Command {
	var check checkRevision
	cmd := a.leaf("delete NAME", "Forget a variable", "", nil)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		c, err := a.api()
		if err != nil {
			return err
		}
		if _, err := c.Variables.DeleteVariable(cmd.Context(), &berthv1.DeleteVariableRequest{Name: args[0], Check: check.given(cmd), CheckRevision: check.revision}); err != nil {
			return err
		}
		a.printf("Variable %s is forgotten.\n", args[0])
		return nil
	}
	check.register(cmd)
	return cmd
}

// checkRevision is -check: do it only if nobody changed the variable since.
type checkRevision struct{ revision uint64 }

func (f *checkRevision) register(cmd *cobra.Command) {
	cmd.Flags().Uint64Var(&f.revision, "check", 0, "do it only if the variable is still at `revision`; 0: only if there is none")
}

func (f *checkRevision) given(cmd *cobra.Command) bool { return cmd.Flags().Changed("check") }
