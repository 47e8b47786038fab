package api

import (
	"context"
	"math/rand/v2"
	"strconv"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/berthd/berth/problem"
	"github.com/berthd/berth/server/state"
)

// Headers of answers; over HTTP with capitals.
const (
	// HeaderIndex is the revision of what was asked for: wait for what comes after it by
	// giving it as index.
	HeaderIndex = "berth-index"
	// HeaderKnownLeader says whether the server that answered knows a leader.
	HeaderKnownLeader = "berth-known-leader"
	// HeaderLastContact is how many milliseconds ago that server has heard its leader.
	HeaderLastContact = "berth-last-contact-ms"
)

// How long a blocking query waits when it does not say, and at most.
const (
	defaultWait = 5 * time.Minute
	maxWait     = 10 * time.Minute
)

// blocking is a request that may wait for a change.
type blocking interface {
	GetIndex() uint64
	GetWait() *durationpb.Duration
}

// read answers a query from the state, when what the topics name has changed since the
// query's index or the wait is over.
func read[T any](ctx context.Context, a *API, q blocking, topics []state.Topic, look func(*state.View) (T, error)) (T, error) {
	view, revision, err := a.wait(ctx, q, topics)
	if err != nil {
		var none T
		return none, err
	}
	setHeader(ctx, HeaderIndex, strconv.FormatUint(revision, 10))
	return look(view)
}

// wait gives a view, and the revision of the topics in it.
func (a *API) wait(ctx context.Context, q blocking, topics []state.Topic) (*state.View, uint64, error) {
	var over <-chan time.Time
	for {
		watch := a.store.Watch(topics...)
		view := a.store.View()
		revision := revised(view, topics)
		if q.GetIndex() == 0 || revision > q.GetIndex() {
			watch.Close()
			return view, revision, nil
		}
		if over == nil {
			timer := time.NewTimer(waitOf(q))
			defer timer.Stop()
			over = timer.C
		}
		select {
		case <-watch.C:
			watch.Close()
		case <-over:
			watch.Close()
			return view, revision, nil
		case <-ctx.Done():
			watch.Close()
			return nil, 0, problem.From(context.Cause(ctx))
		case <-a.life.Done():
			watch.Close()
			return nil, 0, errClosing()
		}
	}
}

// revised is the newest revision of some topics, at least 1: as an index, 0 would not wait.
func revised(view *state.View, topics []state.Topic) uint64 {
	newest := uint64(1)
	for _, t := range topics {
		newest = max(newest, view.Revised(t))
	}
	return newest
}

// waitOf is how long a query may wait, with a little jitter so that those who came
// together do not come back together.
func waitOf(q blocking) time.Duration {
	wait := defaultWait
	if q.GetWait() != nil {
		wait = min(q.GetWait().AsDuration(), maxWait)
	}
	if wait <= 0 {
		return 0
	}
	return wait + rand.N(wait/16+1)
}

// setHeader adds a header to the answer. It fails only outside of a call, as in a test
// that calls a handler by itself.
func setHeader(ctx context.Context, key, value string) {
	_ = grpc.SetHeader(ctx, metadata.Pairs(key, value))
}
