package dispatch

import (
	"cmp"
	"context"
	"sync"
	"time"

	"google.golang.org/grpc"

	"github.com/berthd/berth/problem"
	berthv1 "github.com/berthd/berth/proto/berth/v1"
	"github.com/berthd/berth/server/fsm"
	"github.com/berthd/berth/server/rows"
)

// reports gathers what all agents of this server report and makes it durable, as much
// at a time as came in while the last batch was on its way.
type reports struct {
	propose func(context.Context, []byte) error

	mu      sync.Mutex
	waiting []report
	wake    chan struct{}
}

// report is an encoded StatusReport.
type report struct {
	encoded []byte
	done    func(error)
}

func newReports(propose func(context.Context, []byte) error) *reports {
	return &reports{propose: propose, wake: make(chan struct{}, 1)}
}

func (r *reports) add(encoded []byte, done func(error)) {
	r.mu.Lock()
	r.waiting = append(r.waiting, report{encoded, done})
	r.mu.Unlock()
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// reportTimeout bounds one batch; agents repeat what was not acknowledged.
const reportTimeout = 10 * time.Second

func (r *reports) run(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-r.wake:
		}
		for {
			batch := r.take()
			if len(batch) == 0 {
				break
			}
			r.flush(ctx, batch)
		}
	}
}

// take gives what is waiting.
func (r *reports) take() []report {
	r.mu.Lock()
	defer r.mu.Unlock()
	batch := r.waiting
	r.waiting = nil
	return batch
}

// flush makes a batch durable, in as many entries as it takes.
func (r *reports) flush(ctx context.Context, batch []report) {
	ctx, cancel := context.WithTimeout(ctx, reportTimeout)
	defer cancel()
	var w rows.ReportWriter
	var err error
	garbled := map[int]error{} // by its place in the batch
	for i, b := range batch {
		_, bad := readReport(b.encoded, func(update []byte) error {
			if err == nil && full(&w, len(update)) {
				err = r.propose(ctx, w.Bytes())
			}
			return addUpdate(&w, update)
		})
		if bad != nil {
			garbled[i] = problem.New(problem.Invalid, "report", "%w", bad)
		}
	}
	if err == nil && w.Rows() > 0 {
		err = r.propose(ctx, w.Bytes())
	}
	for i, b := range batch {
		b.done(cmp.Or(garbled[i], err))
	}
}

// maxReports bounds the rows of an entry in bytes, below fsm.MaxEntry by what surrounds
// them.
const maxReports = fsm.MaxEntry - 1024

// full says that another update of that size may not fit the entry.
func full(w *rows.ReportWriter, update int) bool {
	return w.Rows() > 0 && w.Size()+update+16 > maxReports
}

func (d *Dispatcher) proposeReports(ctx context.Context, reported []byte) error {
	_, err := onLeader(ctx, d, &berthv1.ReportAllocsRequest{Rows: reported}, d.ReportAllocs, berthv1.InternalServiceClient.ReportAllocs)
	return err
}

// ReportAllocs implements berthv1.InternalServiceServer.
func (d *Dispatcher) ReportAllocs(ctx context.Context, req *berthv1.ReportAllocsRequest) (*berthv1.ReportAllocsResponse, error) {
	entry := fsm.NewEntry(time.Now(), func(e *berthv1.LogEntry) {
		e.Fact = &berthv1.LogEntry_AllocsReported{AllocsReported: &berthv1.AllocsReported{Rows: req.GetRows()}}
	})
	revision, err := d.propose(ctx, entry)
	if err != nil {
		return nil, problem.Wire(err)
	}
	return &berthv1.ReportAllocsResponse{Revision: revision}, nil
}

// onLeader calls a method of InternalService here, when this server leads, or there.
func onLeader[Req, Resp any](ctx context.Context, d *Dispatcher, req Req,
	here func(context.Context, Req) (Resp, error),
	there func(berthv1.InternalServiceClient, context.Context, Req, ...grpc.CallOption) (Resp, error),
) (Resp, error) {
	if d.cfg.Cluster.IsLeader() {
		return here(ctx, req)
	}
	conn, err := d.cfg.Cluster.LeaderConn()
	if err != nil {
		var none Resp
		return none, err
	}
	return there(berthv1.NewInternalServiceClient(conn), ctx, req)
}
