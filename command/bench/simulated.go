package bench

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	berthv1 "github.com/berthd/berth/proto/berth/v1"
	"github.com/berthd/berth/server/rows"
)

// link is a connection to a server.
type link struct {
	*grpc.ClientConn
	server int
}

// raw is a message that is not decoded.
type raw []byte

// rawCodec leaves messages as they are.
type rawCodec struct{}

func (rawCodec) Marshal(v any) (mem.BufferSlice, error) {
	return mem.BufferSlice{mem.SliceBuffer(*v.(*raw))}, nil
}

func (rawCodec) Unmarshal(data mem.BufferSlice, v any) error {
	m := v.(*raw)
	*m = slices.Grow((*m)[:0], data.Len())[:data.Len()]
	data.CopyTo(*m)
	return nil
}

func (rawCodec) Name() string { return "proto" }

// simulated is one node's agent.
type simulated struct {
	agents *agents
	node   *berthv1.Node
	server int
	known  map[rows.ID]struct{}
	serial uint64
	// unacked are the reports that are not known to be durable, by sequence.
	unacked map[uint64]raw

	sending sync.Mutex // of stream.SendMsg
	stream  grpc.ClientStream
}

// session is one node's; it dials again when its stream ends.
func (a *agents) session(ctx context.Context, to link, node *berthv1.Node, opened func()) error {
	once := sync.OnceFunc(opened)
	defer once()
	s := &simulated{agents: a, node: node, server: to.server, known: map[rows.ID]struct{}{}, unacked: map[uint64]raw{}}
	pause := shortestPause
	for {
		began := time.Now()
		_ = s.dial(ctx, to, once) // it dials again, whatever ended the stream
		if pause = min(2*pause, longestPause); time.Since(began) > longestPause {
			pause = shortestPause
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(pause/2 + rand.N(pause)):
		}
	}
}

// Agents pause before they dial again, some more, some less, and longer when that did not help.
const (
	shortestPause = 200 * time.Millisecond
	longestPause  = 5 * time.Second
)

func (s *simulated) dial(ctx context.Context, to link, opened func()) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var err error
	if s.stream, err = to.NewStream(ctx, &berthv1.AgentService_ServiceDesc.Streams[0], berthv1.AgentService_Session_FullMethodName); err != nil {
		return err
	}
	hello, err := proto.Marshal(&berthv1.AgentMessage{Body: &berthv1.AgentMessage_Hello{Hello: &berthv1.Hello{Node: s.node, Protocol: 1}}})
	if err == nil {
		err = s.send(hello)
	}
	var m raw
	for err == nil {
		if err = s.stream.RecvMsg(&m); err != nil {
			return err
		}
		field, _, n := protowire.ConsumeTag(m)
		if n < 0 {
			return fmt.Errorf("a message that is none")
		}
		body, _ := protowire.ConsumeBytes(m[n:])
		switch field {
		case 1: // welcome
			welcome := &berthv1.Welcome{}
			if err = proto.Unmarshal(body, welcome); err == nil {
				s.beat(ctx, welcome.GetHeartbeatPeriod().AsDuration())
			}
		case 2: // assignments
			opened()
			err = s.accept(body)
		case 3: // the acknowledgement of a report
			err = s.acknowledged(body)
		}
	}
	return err
}

func (s *simulated) send(m raw) error {
	s.sending.Lock()
	defer s.sending.Unlock()
	return s.stream.SendMsg(&m)
}

// beat sends a heartbeat each period until ctx ends; without a goroutine that waits, of
// which there would be as many as nodes.
func (s *simulated) beat(ctx context.Context, period time.Duration) {
	if ctx.Err() == nil && s.send(heartbeat) == nil { // RecvMsg tells why not
		time.AfterFunc(max(period, 100*time.Millisecond), func() { s.beat(ctx, period) })
	}
}

// heartbeat is an AgentMessage.
var heartbeat = raw(protowire.AppendBytes(protowire.AppendTag(nil, 2, protowire.BytesType), nil))

// acknowledged forgets a report that is durable, and repeats one that is not.
func (s *simulated) acknowledged(body []byte) error {
	ack := &berthv1.ReportAck{}
	if err := proto.Unmarshal(body, ack); err != nil {
		return err
	}
	if ack.GetProblem() == nil {
		delete(s.unacked, ack.GetSequence())
		return nil
	}
	time.Sleep(100 * time.Millisecond) // as an agent that waits for a new leader
	if again := s.unacked[ack.GetSequence()]; again != nil {
		return s.send(again)
	}
	return nil
}

// accept takes assignments in and says that what is new runs, and what is to stop has.
func (s *simulated) accept(assignments []byte) error {
	now := time.Now()
	var updates []byte
	var job string
	count := 0
	arrived := func() {
		if count > 0 {
			s.agents.seen(job, s.server, count, now)
		}
		count = 0
	}
	for field, value := range fields(assignments) {
		switch field {
		case 5: // alloc
			a := assigned(value)
			if _, known := s.known[a.id]; !known {
				s.known[a.id] = struct{}{}
				if a.job != job {
					arrived()
					job = a.job
				}
				count++
			}
			if status := a.becomes(); status != a.status {
				updates = appendUpdate(updates, a.id, status, now)
			}
		case 6: // removed
			if id, ok := rows.ParseID(string(value)); ok {
				delete(s.known, id)
			}
		}
	}
	arrived()
	if len(updates) == 0 {
		return nil
	}
	s.serial++
	report := protowire.AppendVarint(protowire.AppendTag(nil, 1, protowire.VarintType), s.serial)
	m := raw(protowire.AppendBytes(protowire.AppendTag(nil, 3, protowire.BytesType), append(report, updates...)))
	s.unacked[s.serial] = m
	return s.send(m)
}

// appendUpdate appends the field of a StatusReport with an update.
func appendUpdate(b []byte, id rows.ID, status berthv1.Alloc_Status, at time.Time) []byte {
	var when, update [80]byte
	t := protowire.AppendVarint(protowire.AppendTag(when[:0], 1, protowire.VarintType), uint64(at.Unix()))
	t = protowire.AppendVarint(protowire.AppendTag(t, 2, protowire.VarintType), uint64(at.Nanosecond()))
	u := protowire.AppendString(protowire.AppendTag(update[:0], 1, protowire.BytesType), id.String())
	u = protowire.AppendVarint(protowire.AppendTag(u, 2, protowire.VarintType), uint64(status))
	u = protowire.AppendBytes(protowire.AppendTag(u, 4, protowire.BytesType), t)
	return protowire.AppendBytes(protowire.AppendTag(b, 2, protowire.BytesType), u)
}

// simAlloc is what a simulated agent looks at of an allocation.
type simAlloc struct {
	id      rows.ID
	job     string
	status  berthv1.Alloc_Status
	desired berthv1.Alloc_Desired
}

// becomes is the status that it is to report.
func (a *simAlloc) becomes() berthv1.Alloc_Status {
	switch {
	case a.status == berthv1.Alloc_complete || a.status == berthv1.Alloc_failed:
		return a.status
	case a.desired != berthv1.Alloc_run:
		return berthv1.Alloc_complete
	}
	return berthv1.Alloc_running
}

func assigned(alloc []byte) (a simAlloc) {
	for len(alloc) > 0 {
		field, kind, n := protowire.ConsumeTag(alloc)
		size := protowire.ConsumeFieldValue(field, kind, alloc[max(n, 0):])
		if n < 0 || size < 0 {
			return a
		}
		value := alloc[n : n+size]
		switch field {
		case 1:
			text, _ := protowire.ConsumeBytes(value)
			a.id, _ = rows.ParseID(string(text))
		case 3:
			text, _ := protowire.ConsumeBytes(value)
			a.job = string(text)
		case 11:
			v, _ := protowire.ConsumeVarint(value)
			a.desired = berthv1.Alloc_Desired(v)
		case 14:
			v, _ := protowire.ConsumeVarint(value)
			a.status = berthv1.Alloc_Status(v)
		}
		alloc = alloc[n+size:]
	}
	return a
}

// fields iterates over the fields of a message that have bytes.
func fields(m []byte) func(func(protowire.Number, []byte) bool) {
	return func(yield func(protowire.Number, []byte) bool) {
		for len(m) > 0 {
			field, kind, n := protowire.ConsumeTag(m)
			size := protowire.ConsumeFieldValue(field, kind, m[max(n, 0):])
			if n < 0 || size < 0 {
				return
			}
			if kind == protowire.BytesType {
				value, _ := protowire.ConsumeBytes(m[n : n+size])
				if !yield(field, value) {
					return
				}
			}
			m = m[n+size:]
		}
	}
}
