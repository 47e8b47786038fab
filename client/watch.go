package client

import (
	"context"
	"iter"
	"strconv"
	"time"

	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/types/known/durationpb"

	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

// The headers of an answer; see proto/berth/v1/api.proto.
const (
	headerIndex       = "berth-index"
	headerKnownLeader = "berth-known-leader"
	headerLastContact = "berth-last-contact-ms"
)

// blockFor is how long one blocking query waits before it is asked again. Short enough
// that proxies on the way keep the connection, long enough to cost nothing.
const blockFor = time.Minute

// Freshness says how an answer relates to now. It is in the header that grpc.Header
// collects.
type Freshness struct {
	// Index is the revision that the answer shows; a blocking query waits for a later one.
	Index uint64
	// KnownLeader says that the server that answered knew of a leader.
	KnownLeader bool
	// LastContact is how long ago that server heard the leader: the answer may be so old.
	LastContact time.Duration
}

// FreshnessOf reads the header of an answer.
func FreshnessOf(header metadata.MD) Freshness {
	first := func(key string) string {
		if v := header.Get(key); len(v) > 0 {
			return v[0]
		}
		return ""
	}
	var f Freshness
	f.Index, _ = strconv.ParseUint(first(headerIndex), 10, 64)
	f.KnownLeader = first(headerKnownLeader) == "true"
	ms, _ := strconv.ParseInt(first(headerLastContact), 10, 64)
	f.LastContact = time.Duration(ms) * time.Millisecond
	return f
}

// Watch calls query again and again, each time with the index to wait after and how
// long, until it says that it is done, fails, or ctx ends. query puts both into its
// request (a blocking query) and returns the index of the answer (see FreshnessOf).
func Watch(ctx context.Context, query func(index uint64, wait *durationpb.Duration) (next uint64, done bool, err error)) error {
	var index uint64
	for {
		began := time.Now()
		next, done, err := query(index, durationpb.New(blockFor))
		if err != nil || done {
			return err
		}
		if next < index {
			next = 0 // the state was restored to an older one: begin again
		}
		// A server that answers a blocking query at once, without news, would be asked in
		// a busy loop: be slower than that.
		if next == index && time.Since(began) < time.Second && !sleep(ctx, time.Second) {
			return context.Cause(ctx)
		}
		index = next
	}
}

// WaitEvaluation waits until an evaluation has been looked at, and returns what came of
// it: complete, blocked or superseded.
func (c *Client) WaitEvaluation(ctx context.Context, id string) (*berthv1.Evaluation, error) {
	var eval *berthv1.Evaluation
	err := Watch(ctx, func(index uint64, wait *durationpb.Duration) (uint64, bool, error) {
		var header metadata.MD
		req := &berthv1.GetEvaluationRequest{EvaluationId: id, Index: index, Wait: wait}
		var err error
		eval, err = c.Evaluations.GetEvaluation(ctx, req, headerInto(&header))
		return FreshnessOf(header).Index, eval.GetStatus() != berthv1.Evaluation_pending, err
	})
	return eval, err
}

// Pages walks a list over all its pages. page asks for the page of a token ("" for the
// first) and returns its items and the token of the next one.
func Pages[T any](page func(token string) (items []T, next string, err error)) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		for token := ""; ; {
			items, next, err := page(token)
			if err != nil {
				var none T
				yield(none, err)
				return
			}
			for _, item := range items {
				if !yield(item, nil) {
					return
				}
			}
			if next == "" {
				return
			}
			token = next
		}
	}
}
