package command

import (
	"github.com/spf13/cobra"

	"github.com/berthd/berth/command/config"
	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

func parseTaints(texts []string) (taints []*berthv1.Taint, err error) {
	for _, text := range texts {
		t, err := config.ParseTaint(text)
		if err != nil {
			return nil, err
		}
		taints = append(taints, t)
	}
	return taints, nil
}

// taintWord is a taint as it is written.
func taintWord(t *berthv1.Taint) string {
	text := t.GetKey()
	if t.GetValue() != "" {
		text += "=" + t.GetValue()
	}
	return text + ":" + t.GetEffect().String()
}

func (a *app) nodeTaint() *cobra.Command {
	var o output
	var add, remove []string
	cmd := a.leaf("taint NODE", "Keep work off a node that does not tolerate it",
		"A taint is key=value:effect. With keep_off (default) nothing new is placed on the node that does not tolerate the taint; with avoid only what fits nowhere else. "+
			"What runs there goes on. These taints stay with the node when its agent starts anew; others come from the agent's configuration (agent.taints).", nil)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		taints, err := parseTaints(add)
		if err != nil {
			return err
		}
		c, err := a.api()
		if err != nil {
			return err
		}
		n, err := c.Nodes.SetNodeTaints(cmd.Context(), &berthv1.SetNodeTaintsRequest{NodeId: args[0], Add: taints, Remove: remove})
		if err != nil {
			return err
		}
		return a.show(&o, n, func() error {
			if len(n.GetTaints())+len(n.GetOperatorTaints()) == 0 {
				a.printf("%s has no taints.\n", nodeWord(n.GetName(), n.GetId()))
			}
			a.printTaints(n)
			return nil
		})
	}
	cmd.Flags().StringArrayVar(&add, "add", nil, "`taint` to add, key=value:effect; may be repeated")
	cmd.Flags().StringArrayVar(&remove, "remove", nil, "`taint` to remove, key or key=value; may be repeated")
	o.register(cmd)
	cmd.ValidArgsFunction = a.completeNodes
	return cmd
}

func (a *app) printTaints(n *berthv1.Node) {
	for _, t := range n.GetTaints() {
		a.printf("taint %s  of the agent's configuration\n", taintWord(t))
	}
	for _, t := range n.GetOperatorTaints() {
		a.printf("taint %s\n", taintWord(t))
	}
}
