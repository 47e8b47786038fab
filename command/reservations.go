package command

import (
	"context"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/berthd/berth/client"
	"github.com/berthd/berth/problem"
	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

func (a *app) reservationCommands() *cobra.Command {
	return a.group("reservation", "Keep nodes for some jobs", "",
		a.reservationList(), a.reservationStatus(), a.reservationCreate(), a.reservationDelete())
}

func (a *app) reservationList() *cobra.Command {
	var o output
	cmd := a.leaf("list", "List reservations", "", func(ctx context.Context, _ []string) error {
		c, err := a.api()
		if err != nil {
			return err
		}
		list, err := collect(func(token string) ([]*berthv1.Reservation, string, error) {
			r, err := c.Reservations.ListReservations(ctx, &berthv1.ListReservationsRequest{PageToken: token})
			return r.GetReservations(), r.GetNextPageToken(), err
		})
		if err != nil {
			return err
		}
		return showList(a, &o, list, func() error {
			if len(list) == 0 {
				a.printf("No reservations. `berth reservation create` makes one.\n")
				return nil
			}
			t := newTable(column{title: "RESERVATION"}, column{title: "HOLDS"}, column{title: "NODES", right: true}, column{title: "FOR", shrink: 10}, column{title: "DESCRIPTION", shrink: 11, drop: 1})
			for _, r := range list {
				t.add(r.GetName(), holdsWords(r, time.Now()), len(r.GetNodeIds()), usersOf(r), r.GetDescription())
			}
			return a.table(t)
		})
	})
	o.register(cmd)
	return cmd
}

// holdsWords says when a reservation holds.
func holdsWords(r *berthv1.Reservation, now time.Time) string {
	const layout = "2006-01-02 15:04"
	start, end := r.GetStartTime(), r.GetEndTime()
	switch {
	case end != nil && !now.Before(end.AsTime()):
		return "over since " + end.AsTime().Local().Format(layout)
	case start != nil && now.Before(start.AsTime()):
		return "from " + start.AsTime().Local().Format(layout)
	case end != nil:
		return "until " + end.AsTime().Local().Format(layout)
	}
	return "now"
}

func usersOf(r *berthv1.Reservation) string {
	words := append([]string{}, r.GetJobs()...)
	for _, n := range r.GetNamespaces() {
		words = append(words, n+"/*")
	}
	return strings.Join(words, " ")
}

func (a *app) reservationStatus() *cobra.Command {
	var o output
	cmd := a.leaf("status NAME", "Show a reservation with its nodes", "", func(ctx context.Context, args []string) error {
		c, err := a.api()
		if err != nil {
			return err
		}
		r, err := c.Reservations.GetReservation(ctx, &berthv1.GetReservationRequest{Name: args[0]})
		if err != nil {
			return err
		}
		return a.show(&o, r, func() error { return a.printReservation(ctx, c, r) })
	})
	o.register(cmd)
	cmd.ValidArgsFunction = a.completeReservations
	return cmd
}

func (a *app) printReservation(ctx context.Context, c *client.Client, r *berthv1.Reservation) error {
	a.printf("%s  %s", a.paint(strong, r.GetName()), holdsWords(r, time.Now()))
	if r.GetDescription() != "" {
		a.printf("  %s", oneLine(r.GetDescription()))
	}
	a.printf("\nfor %s; a job says reservation = %q\n\n", usersOf(r), r.GetName())
	t := newTable(column{title: "NODE"}, column{title: "NAME", shrink: 8}, column{title: "STATUS"})
	for _, id := range r.GetNodeIds() {
		n, err := c.Nodes.GetNode(ctx, &berthv1.GetNodeRequest{NodeId: id})
		switch {
		case problem.Is(err, problem.NotFound):
			t.add(shortID(id), "", word("gone"))
		case err != nil:
			return err
		default:
			t.add(shortID(id), n.GetName(), word(n.GetStatus().String()))
		}
	}
	return a.table(t)
}

const reservationHelp = "From its start to its end, nothing new is placed on the nodes but allocations of jobs that name the reservation (reservation = \"NAME\") and may use it. " +
	"What runs there already goes on. Nodes are given by name, id or a unique prefix of an id; with -count the servers choose so many, the emptiest first, that meet the constraints. " +
	"A constraint is attribute=value, or attribute OPERATOR value with spaces. Times are as in 2026-12-24T08:00:00Z, or how long from now: 2h."

func (a *app) reservationCreate() *cobra.Command {
	var o output
	var description, pool, start, end string
	var jobs, namespaces, constraints []string
	var number uint32
	cmd := a.leaf("create NAME [NODE...]", "Keep nodes for some jobs", reservationHelp, nil)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		q := &berthv1.CreateReservationRequest{Count: number, NodePool: pool, Reservation: &berthv1.Reservation{
			Name: args[0], Description: description, NodeIds: args[1:], Namespaces: namespaces}}
		for _, job := range jobs {
			if !strings.Contains(job, "/") {
				job = or(a.flags.namespaceMeant(a.Getenv), "default") + "/" + job
			}
			q.Reservation.Jobs = append(q.Reservation.Jobs, job)
		}
		for _, text := range constraints {
			q.Constraints = append(q.Constraints, parseConstraint(text))
		}
		var err error
		if q.Reservation.StartTime, err = parseTime("-start", start, time.Now()); err != nil {
			return err
		}
		if q.Reservation.EndTime, err = parseTime("-end", end, time.Now()); err != nil {
			return err
		}
		c, err := a.api()
		if err != nil {
			return err
		}
		r, err := c.Reservations.CreateReservation(cmd.Context(), q)
		if err != nil {
			return err
		}
		return a.show(&o, r, func() error { return a.printReservation(cmd.Context(), c, r) })
	}
	cmd.Flags().StringVar(&description, "description", "", "what it is for, in `words`")
	cmd.Flags().StringArrayVar(&jobs, "job", nil, "`job` that may use it, or namespace/job; may be repeated")
	cmd.Flags().StringArrayVar(&namespaces, "for-namespace", nil, "`namespace` whose jobs may all use it; may be repeated")
	cmd.Flags().Uint32Var(&number, "count", 0, "`number` of nodes to choose")
	cmd.Flags().StringArrayVar(&constraints, "constraint", nil, "what a chosen node must `satisfy`, such as node.arch=arm64; may be repeated")
	cmd.Flags().StringVar(&pool, "pool", "", "node `pool` to choose from (default default; all: every pool)")
	cmd.Flags().StringVar(&start, "start", "", "`time` from which it holds (default now)")
	cmd.Flags().StringVar(&end, "end", "", "`time` at which it is over (default never)")
	o.register(cmd)
	return cmd
}

// parseConstraint reads "attribute=value", or "attribute operator value".
func parseConstraint(text string) *berthv1.Constraint {
	if f := strings.Fields(text); len(f) >= 2 {
		return &berthv1.Constraint{Attribute: f[0], Operator: f[1], Value: strings.Join(f[2:], " ")}
	}
	attribute, value, _ := strings.Cut(text, "=")
	return &berthv1.Constraint{Attribute: attribute, Operator: "=", Value: value}
}

// parseTime reads a time, or how long it is from now; nil: none was given.
func parseTime(flag, text string, now time.Time) (*timestamppb.Timestamp, error) {
	if text == "" {
		return nil, nil
	}
	if t, err := time.Parse(time.RFC3339, text); err == nil {
		return timestamppb.New(t), nil
	}
	d, err := time.ParseDuration(text)
	if err != nil || d < 0 {
		return nil, problem.New(problem.Invalid, flag, "%q is not a time", text).WithRemedy("write it like 2026-12-24T08:00:00Z, or how long from now: 2h")
	}
	return timestamppb.New(now.Add(d)), nil
}

func (a *app) reservationDelete() *cobra.Command {
	cmd := a.leaf("delete NAME", "Give the nodes of a reservation back to all", "What runs there goes on.", func(ctx context.Context, args []string) error {
		c, err := a.api()
		if err != nil {
			return err
		}
		if _, err := c.Reservations.DeleteReservation(ctx, &berthv1.DeleteReservationRequest{Name: args[0]}); err != nil {
			return err
		}
		a.printf("Reservation %s is no more; its nodes are for all.\n", args[0])
		return nil
	})
	cmd.ValidArgsFunction = a.completeReservations
	return cmd
}

func (a *app) completeReservations(cmd *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
	return a.complete(func(ctx context.Context, c *client.Client, prefix string) ([]string, error) {
		r, err := c.Reservations.ListReservations(ctx, &berthv1.ListReservationsRequest{Prefix: prefix, PageSize: completeCount, Stale: true})
		var names []string
		for _, x := range r.GetReservations() {
			names = append(names, x.GetName()+"\t"+x.GetDescription())
		}
		return names, err
	})(cmd, args, typed)
}
