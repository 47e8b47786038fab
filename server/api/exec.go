package api

import (
	"context"
	"errors"
	"io"
	"net/http"
	"time"

	"github.com/coder/websocket"

	"github.com/berthd/berth/problem"
	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

// maxFrame is the largest message of an exec session, in bytes.
const maxFrame = 1 << 20

// pingPeriod keeps a quiet exec session alive through what stands in between.
const pingPeriod = 30 * time.Second

// exec carries an exec session over a WebSocket: every message is an ExecFrame as JSON,
// the first one is start (its alloc_id comes from the path). A session that fails ends
// with {"error": {...}} and a close.
func (g *gateway) exec(w http.ResponseWriter, r *http.Request) {
	if len(r.URL.Query()) > 0 {
		writeProblem(w, problem.New(problem.Invalid, "query", "an exec session takes its parameters in its first frame"))
		return
	}
	ws, err := websocket.Accept(w, r, nil)
	if err != nil {
		return // Accept has answered
	}
	ws.SetReadLimit(maxFrame)
	ctx, cancel := context.WithCancel(callOf(r))
	defer cancel()
	err = g.execOver(ctx, cancel, ws, r.PathValue("alloc_id"))
	if err == nil {
		_ = ws.Close(websocket.StatusNormalClosure, "")
		return
	}
	p := problem.From(err)
	_ = ws.Write(ctx, websocket.MessageText, problemJSON(p.Proto()))
	code := websocket.StatusInternalError
	if p.Kind.HTTP() < http.StatusInternalServerError {
		code = websocket.StatusPolicyViolation
	}
	_ = ws.Close(code, string(p.Kind))
}

func (g *gateway) execOver(ctx context.Context, cancel context.CancelFunc, ws *websocket.Conn, allocID string) error {
	start, err := readFrame(ctx, ws)
	if err != nil {
		return err
	}
	if start.GetStart() == nil {
		return problem.New(problem.Invalid, "start", "the first frame of an exec session must be start")
	}
	start.GetStart().AllocId = allocID
	stream, err := g.allocs.Exec(ctx)
	if err != nil {
		return err
	}
	if err := stream.Send(start); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	refused := make(chan error, 1)
	g.a.start(func() {
		for {
			frame, err := readFrame(ctx, ws)
			if err != nil { // the client has gone, or sends what is no frame
				refused <- err
				cancel()
				return
			}
			if stream.Send(frame) != nil {
				return // the call is over, and Recv says why
			}
		}
	})
	g.a.start(func() { ping(ctx, ws) })
	for {
		frame, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			select {
			case why := <-refused:
				return why
			default:
			}
			return err
		}
		data, err := toJSON(frame)
		if err != nil {
			return err
		}
		if err := ws.Write(ctx, websocket.MessageText, data); err != nil {
			return err
		}
	}
}

func ping(ctx context.Context, ws *websocket.Conn) {
	tick := time.NewTicker(pingPeriod)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			if ws.Ping(ctx) != nil {
				return
			}
		case <-ctx.Done():
			return
		}
	}
}

func readFrame(ctx context.Context, ws *websocket.Conn) (*berthv1.ExecFrame, error) {
	_, data, err := ws.Read(ctx)
	if err != nil {
		return nil, problem.New(problem.Canceled, "", "the client has gone: %w", err)
	}
	frame := &berthv1.ExecFrame{}
	return frame, unmarshalJSON(data, frame)
}
