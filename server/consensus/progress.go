package consensus

import (
	"errors"
	"io"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// progress is what a follower's last answer to this server, as leader, told.
type progress struct {
	last uint64    // newest entry of its log
	at   time.Time // when it answered
}

// watched is the transport; it sends to where a server is now, and takes down how far the
// followers are. Heartbeats always go through AppendEntries, every tenth of the heartbeat timeout, so the
// pipeline, which is the hot path, needs no look.
type watched struct {
	raft.Transport
	where func(raft.ServerID, raft.ServerAddress) raft.ServerAddress

	mu    sync.Mutex
	heard map[raft.ServerID]progress
}

func watch(t raft.Transport, where func(raft.ServerID, raft.ServerAddress) raft.ServerAddress) *watched {
	return &watched{Transport: t, where: where, heard: map[raft.ServerID]progress{}}
}

// AppendEntries implements raft.Transport.
func (w *watched) AppendEntries(id raft.ServerID, to raft.ServerAddress, req *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) error {
	err := w.Transport.AppendEntries(id, w.where(id, to), req, resp)
	if err == nil {
		w.mu.Lock()
		w.heard[id] = progress{last: resp.LastLog, at: time.Now()}
		w.mu.Unlock()
	}
	return err
}

// AppendEntriesPipeline implements raft.Transport.
func (w *watched) AppendEntriesPipeline(id raft.ServerID, to raft.ServerAddress) (raft.AppendPipeline, error) {
	return w.Transport.AppendEntriesPipeline(id, w.where(id, to))
}

// RequestVote implements raft.Transport.
func (w *watched) RequestVote(id raft.ServerID, to raft.ServerAddress, req *raft.RequestVoteRequest, resp *raft.RequestVoteResponse) error {
	return w.Transport.RequestVote(id, w.where(id, to), req, resp)
}

// RequestPreVote implements raft.WithPreVote.
func (w *watched) RequestPreVote(id raft.ServerID, to raft.ServerAddress, req *raft.RequestPreVoteRequest, resp *raft.RequestPreVoteResponse) error {
	t, ok := w.Transport.(raft.WithPreVote)
	if !ok {
		return errors.New("the transport knows no pre-vote")
	}
	return t.RequestPreVote(id, w.where(id, to), req, resp)
}

// InstallSnapshot implements raft.Transport.
func (w *watched) InstallSnapshot(id raft.ServerID, to raft.ServerAddress, req *raft.InstallSnapshotRequest, resp *raft.InstallSnapshotResponse, data io.Reader) error {
	return w.Transport.InstallSnapshot(id, w.where(id, to), req, resp, data)
}

// TimeoutNow implements raft.Transport.
func (w *watched) TimeoutNow(id raft.ServerID, to raft.ServerAddress, req *raft.TimeoutNowRequest, resp *raft.TimeoutNowResponse) error {
	return w.Transport.TimeoutNow(id, w.where(id, to), req, resp)
}

// Close implements raft.WithClose.
func (w *watched) Close() error {
	if n, ok := w.Transport.(*raft.NetworkTransport); ok {
		n.CloseStreams()
	}
	if t, ok := w.Transport.(raft.WithClose); ok {
		return t.Close()
	}
	return nil
}

// of gives the last answer of a server.
func (w *watched) of(id raft.ServerID) (progress, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	p, ok := w.heard[id]
	return p, ok
}
