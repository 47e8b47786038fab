package api

import (
	"context"
	"errors"
	"io"
	"net/http"
	"time"

	"github.com/coder/websocket"
	"google.golang.org/protobuf/proto"

	"github.com/berthd/berth/problem"
	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

// Sessions of exec and attach over a WebSocket: every message is a frame as JSON, the
// first one is start (its alloc_id comes from the path). A session that fails ends with
// {"error": {...}} and a close.

// maxFrame is the largest message of a session, in bytes.
const maxFrame = 1 << 20

// pingPeriod keeps a quiet session alive through what stands in between.
const pingPeriod = 30 * time.Second

func (g *gateway) exec(w http.ResponseWriter, r *http.Request) {
	overWebSocket(w, r, func(ctx context.Context, cancel context.CancelFunc, ws *websocket.Conn) error {
		start := &berthv1.ExecFrame{}
		if err := readStart(ctx, ws, start, func() bool { return start.GetStart() != nil }); err != nil {
			return err
		}
		start.GetStart().AllocId = r.PathValue("alloc_id")
		stream, err := g.allocs.Exec(ctx)
		if err != nil {
			return err
		}
		return carry(ctx, cancel, g.a, ws, stream, start, func() *berthv1.ExecFrame { return &berthv1.ExecFrame{} })
	})
}

func (g *gateway) attach(w http.ResponseWriter, r *http.Request) {
	overWebSocket(w, r, func(ctx context.Context, cancel context.CancelFunc, ws *websocket.Conn) error {
		start := &berthv1.AttachFrame{}
		if err := readStart(ctx, ws, start, func() bool { return start.GetStart() != nil }); err != nil {
			return err
		}
		start.GetStart().AllocId = r.PathValue("alloc_id")
		stream, err := g.allocs.Attach(ctx)
		if err != nil {
			return err
		}
		return carry(ctx, cancel, g.a, ws, stream, start, func() *berthv1.AttachFrame { return &berthv1.AttachFrame{} })
	})
}

// overWebSocket has a session on a WebSocket, and closes it as the session ended.
func overWebSocket(w http.ResponseWriter, r *http.Request, session func(context.Context, context.CancelFunc, *websocket.Conn) error) {
	if len(r.URL.Query()) > 0 {
		writeProblem(w, problem.New(problem.Invalid, "query", "a session takes its parameters in its first frame"))
		return
	}
	ws, err := websocket.Accept(w, r, nil)
	if err != nil {
		return // Accept has answered
	}
	ws.SetReadLimit(maxFrame)
	ctx, cancel := context.WithCancel(callOf(r))
	defer cancel()
	err = session(ctx, cancel, ws)
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

// readStart reads the first frame of a session.
func readStart(ctx context.Context, ws *websocket.Conn, frame proto.Message, is func() bool) error {
	if err := readFrame(ctx, ws, frame); err != nil {
		return err
	}
	if !is() {
		return problem.New(problem.Invalid, "start", "the first frame of a session must be start")
	}
	return nil
}

// carry takes frames from a WebSocket to a stream and back, until the stream has ended.
// cancel ends ctx, which is the stream's.
func carry[F proto.Message](ctx context.Context, cancel context.CancelFunc, a *API, ws *websocket.Conn, stream interface {
	Send(F) error
	Recv() (F, error)
}, start F, blank func() F) error {
	if err := stream.Send(start); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	refused := make(chan error, 1)
	a.start(func() {
		for {
			frame := blank()
			if err := readFrame(ctx, ws, frame); err != nil { // the client has gone, or sends what is no frame
				refused <- err
				cancel()
				return
			}
			if stream.Send(frame) != nil {
				return // the call is over, and Recv says why
			}
		}
	})
	a.start(func() { ping(ctx, ws) })
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

func readFrame(ctx context.Context, ws *websocket.Conn, frame proto.Message) error {
	_, data, err := ws.Read(ctx)
	if err != nil {
		return problem.New(problem.Canceled, "", "the client has gone: %w", err)
	}
	return unmarshalJSON(data, frame)
}
