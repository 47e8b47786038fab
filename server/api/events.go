package api

import (
	"context"
	"slices"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/berthd/berth/problem"
	berthv1 "github.com/berthd/berth/proto/berth/v1"
	"github.com/berthd/berth/server/state"
)

const (
	// heartbeatPeriod is how often an event stream says that it lives.
	heartbeatPeriod = 10 * time.Second
	// eventBatch is how many changes are taken from the history at a time.
	eventBatch = 256
)

// eventTables are the tables whose changes are events, in the order in which they are told.
var eventTables = []state.Table{
	state.TableJobs, state.TableAllocs, state.TableNodes, state.TableEvaluations, state.TableNamespaces,
	state.TableReservations, state.TableServices, state.TableDeployments, state.TableVariables, state.TableImages,
}

// StreamEvents tells what changes. The first event is a heartbeat with the revision that
// the stream starts after; the index of any event is one to resume with.
func (s statusService) StreamEvents(q *berthv1.StreamEventsRequest, stream grpc.ServerStreamingServer[berthv1.Event]) error {
	f, err := newEventFilter(q)
	if err != nil {
		return err
	}
	after := q.GetIndex()
	if after == 0 {
		after = max(s.a.store.Revision(), s.a.store.OldestChange())
	}
	if after < s.a.store.OldestChange() { // before the first event, so that it has a status of its own
		return s.a.tooOld(after)
	}
	if err := stream.Send(heartbeat(after)); err != nil {
		return err
	}
	beat := time.NewTicker(heartbeatPeriod)
	defer beat.Stop()
	reached := false // this server has come to where the stream is
	for {
		watch := s.a.store.Watch(state.Topic{Table: state.TableAny})
		changes, ok := s.a.store.Changes(after, eventBatch)
		revision := s.a.store.Revision()
		if !ok || reached && revision < after { // restoring a snapshot turns the state back
			watch.Close()
			return s.a.tooOld(after)
		}
		reached = revision >= after
		if after, err = f.send(stream, changes, after); err != nil {
			watch.Close()
			return err
		}
		if len(changes) > 0 {
			watch.Close()
			continue
		}
		err := s.a.rest(stream, watch, beat.C, after)
		watch.Close()
		if err != nil {
			return err
		}
	}
}

// rest waits for news, and sends a heartbeat when there is none for long.
func (a *API) rest(stream grpc.ServerStreamingServer[berthv1.Event], watch *state.Watch, beat <-chan time.Time, after uint64) error {
	select {
	case <-watch.C:
		return nil
	case <-beat:
		return stream.Send(heartbeat(after))
	case <-stream.Context().Done():
		return context.Cause(stream.Context())
	}
}

func heartbeat(after uint64) *berthv1.Event {
	return &berthv1.Event{Index: after, Time: timestamppb.Now()}
}

// tooOld is the problem of a stream that asks for what is not kept any more.
func (a *API) tooOld(after uint64) error {
	if revision := a.store.Revision(); revision < after {
		return problem.New(problem.Conflict, "index", "the state was replaced by a snapshot of revision %d", revision).
			WithRemedy("read what you follow anew, and resume with the index of that answer")
	}
	return problem.New(problem.Conflict, "index", "the events after %d are not kept any more, only those after %d", after, a.store.OldestChange()).
		WithRemedy("read what you follow anew, and resume with the index of that answer")
}

// eventFilter is what a stream wants to hear of.
type eventFilter struct {
	tables    []state.Table
	namespace string
	job       string
}

func newEventFilter(q *berthv1.StreamEventsRequest) (*eventFilter, error) {
	f := &eventFilter{namespace: namespaceOf(q), job: q.GetJob()}
	var names []string
	for _, t := range eventTables {
		names = append(names, t.String())
		if len(q.GetTopics()) == 0 || slices.Contains(q.GetTopics(), t.String()) {
			f.tables = append(f.tables, t)
		}
	}
	for _, topic := range q.GetTopics() {
		if !slices.Contains(names, topic) {
			return nil, problem.New(problem.Invalid, "topics", "there is no topic %q", topic).WithRemedy("it may be %s", orList(names))
		}
	}
	return f, nil
}

// send sends the changes that are wanted and gives the revision to go on after. An event
// that is not the last of its revision carries the index of the one before, so that who
// resumes with an index that it has seen may hear something twice, but misses nothing.
func (f *eventFilter) send(stream grpc.ServerStreamingServer[berthv1.Event], changes []state.Change, after uint64) (uint64, error) {
	if len(changes) == 0 {
		return after, nil
	}
	newest := changes[len(changes)-1].Revision
	wanted := slices.DeleteFunc(changes, func(c state.Change) bool { return !f.wants(c) })
	for i, c := range wanted {
		event := eventOf(c)
		if i+1 == len(wanted) || wanted[i+1].Revision != c.Revision {
			after = c.Revision
		}
		event.Index = after
		if err := stream.Send(event); err != nil {
			return after, err
		}
	}
	return newest, nil
}

func (f *eventFilter) wants(c state.Change) bool {
	if !slices.Contains(f.tables, c.Table) {
		return false
	}
	if c.Table == state.TableNodes || c.Table == state.TableNamespaces || c.Table == state.TableReservations || c.Table == state.TableImages {
		return f.job == ""
	}
	if f.namespace != anyNamespace && c.Namespace != f.namespace {
		return false
	}
	if c.Table == state.TableVariables {
		return f.job == ""
	}
	return f.job == "" || f.job == jobOf(c)
}

// jobOf is the job that a change concerns.
func jobOf(c state.Change) string {
	if c.Table == state.TableAllocs {
		before, after := c.Allocs()
		if after.Exists() {
			return after.Job()
		}
		return before.Job()
	}
	item := c.Item()
	if item == nil {
		item = c.Before()
	}
	if m, ok := item.(interface{ GetJob() string }); ok {
		return m.GetJob()
	}
	return c.Key()
}

func eventOf(c state.Change) *berthv1.Event {
	e := &berthv1.Event{
		Topic: c.Table.String(), Type: c.Kind.String(),
		Key: c.Key(), Namespace: c.Namespace, Time: timestamppb.New(c.Time),
	}
	switch item := c.Item().(type) {
	case *berthv1.Job:
		e.Item = &berthv1.Event_Job{Job: item}
	case *berthv1.Alloc:
		e.Item = &berthv1.Event_Alloc{Alloc: item}
	case *berthv1.Node:
		e.Item = &berthv1.Event_Node{Node: item}
	case *berthv1.Evaluation:
		e.Item = &berthv1.Event_Evaluation{Evaluation: item}
	case *berthv1.Namespace:
		e.Item = &berthv1.Event_NamespaceItem{NamespaceItem: item}
	case *berthv1.Reservation:
		e.Item = &berthv1.Event_Reservation{Reservation: item}
	case *berthv1.Variable:
		e.Item = &berthv1.Event_Variable{Variable: item}
	case *berthv1.Image:
		e.Item = &berthv1.Event_Image{Image: item}
	case *berthv1.ServiceInstance:
		e.Item = &berthv1.Event_Service{Service: item}
	case *berthv1.Deployment:
		e.Item = &berthv1.Event_Deployment{Deployment: item}
	}
	return e
}
