package api

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/berthd/berth/problem"
	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

// Routes whose body is bytes, not JSON: logs, files and snapshots.

// patience is how long a stream is waited for before its answer begins: what goes wrong
// until then has a status of its own.
const patience = time.Second

const (
	plainText = "text/plain; charset=utf-8"
	octets    = "application/octet-stream"
	ndjson    = "application/x-ndjson"
)

func (g *gateway) logs(w http.ResponseWriter, r *http.Request) {
	if strings.Contains(r.Header.Get("Accept"), ndjson) {
		g.ServeHTTP(w, r) // the frames, as JSON
		return
	}
	q := &berthv1.LogsRequest{}
	if err := g.rawQuery(q, "AllocService/Logs", r); err != nil {
		writeProblem(w, err)
		return
	}
	stream, err := g.allocs.Logs(callOf(r), q)
	if err != nil {
		writeProblem(w, err)
		return
	}
	g.copyOut(w, r, plainText, func() ([]byte, error) {
		frame, err := stream.Recv()
		return frame.GetData(), err
	})
}

func (g *gateway) readFile(w http.ResponseWriter, r *http.Request) {
	if strings.Contains(r.Header.Get("Accept"), ndjson) {
		g.ServeHTTP(w, r)
		return
	}
	q := &berthv1.ReadFileRequest{}
	if err := g.rawQuery(q, "AllocService/ReadFile", r); err != nil {
		writeProblem(w, err)
		return
	}
	stream, err := g.allocs.ReadFile(callOf(r), q)
	if err != nil {
		writeProblem(w, err)
		return
	}
	g.copyOut(w, r, octets, func() ([]byte, error) {
		chunk, err := stream.Recv()
		return chunk.GetData(), err
	})
}

func (g *gateway) saveSnapshot(w http.ResponseWriter, r *http.Request) {
	q := &berthv1.SaveSnapshotRequest{}
	if err := g.rawQuery(q, "OperatorService/SaveSnapshot", r); err != nil {
		writeProblem(w, err)
		return
	}
	stream, err := g.admin.SaveSnapshot(callOf(r), q)
	if err != nil {
		writeProblem(w, err)
		return
	}
	g.copyOut(w, r, octets, func() ([]byte, error) {
		chunk, err := stream.Recv()
		return chunk.GetData(), err
	})
}

// rawQuery fills a request from the path and the query.
func (g *gateway) rawQuery(into proto.Message, method string, r *http.Request) error {
	m := methods["/berth.v1."+method]
	params := map[string]string{}
	if id := r.PathValue("alloc_id"); id != "" {
		params["alloc_id"] = id
	}
	if _, err := checkParameters(m, r, params); err != nil {
		return err
	}
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return problem.New(problem.Invalid, "query", "%w", err)
	}
	if err := parseQuery(into, query, m, params); err != nil {
		return err
	}
	if id := params["alloc_id"]; id != "" {
		fields := into.ProtoReflect().Descriptor().Fields()
		into.ProtoReflect().Set(fields.ByName("alloc_id"), protoreflect.ValueOfString(id))
	}
	return nil
}

// chunk is what a stream has brought; err is io.EOF at its end.
type chunk struct {
	data []byte
	err  error
}

// copyOut writes what a stream brings. What goes wrong before its first bytes is a
// problem; after them the connection is cut, so that nobody takes a part for the whole.
func (g *gateway) copyOut(w http.ResponseWriter, r *http.Request, contentType string, next func() ([]byte, error)) {
	first := make(chan chunk, 1)
	read := func() { data, err := next(); first <- chunk{data, err} }
	if !g.a.start(read) {
		writeProblem(w, errClosing())
		return
	}
	impatient := time.NewTimer(patience)
	defer impatient.Stop()
	var c chunk
	select {
	case c = <-first:
		if c.err != nil && !errors.Is(c.err, io.EOF) {
			writeProblem(w, c.err)
			return
		}
		beginBytes(w, contentType)
	case <-impatient.C:
		beginBytes(w, contentType)
		c = <-first
	}
	for ; c.err == nil; c.data, c.err = next() {
		if _, err := w.Write(c.data); err != nil {
			return // the client is gone
		}
		_ = http.NewResponseController(w).Flush() // not every writer can, as in tests
	}
	if errors.Is(c.err, io.EOF) {
		return
	}
	if r.Context().Err() == nil {
		g.a.logger.Info("a stream was cut short", "path", r.URL.Path, "error", problem.From(c.err))
	}
	panic(http.ErrAbortHandler)
}

// beginBytes sends the head of an answer whose body is bytes.
func beginBytes(w http.ResponseWriter, contentType string) {
	w.Header().Set("Content-Type", contentType)
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(http.StatusOK)
	_ = http.NewResponseController(w).Flush()
}

func (g *gateway) restoreSnapshot(w http.ResponseWriter, r *http.Request) {
	stream, err := g.admin.RestoreSnapshot(callOf(r))
	if err != nil {
		writeProblem(w, err)
		return
	}
	if err := sendBody(w, r, stream); err != nil {
		writeProblem(w, err)
		return
	}
	resp, err := stream.CloseAndRecv()
	if err != nil {
		writeProblem(w, err)
		return
	}
	data, err := toJSON(resp)
	if err != nil {
		writeProblem(w, fmt.Errorf("writing the answer: %w", err))
		return
	}
	w.Header().Set("Content-Type", jsonCodec{}.ContentType(nil))
	_, _ = w.Write(data) // the client is gone if it fails
}

// sendBody sends a request's body in chunks. A client that stops sending loses its
// connection after a while.
func sendBody(w http.ResponseWriter, r *http.Request, stream grpc.ClientStreamingClient[berthv1.SnapshotChunk, berthv1.RestoreSnapshotResponse]) error {
	control := http.NewResponseController(w)
	defer func() { _ = control.SetReadDeadline(time.Time{}) }()
	buffer := make([]byte, chunkSize)
	for {
		_ = control.SetReadDeadline(time.Now().Add(bodyTimeout)) // not every writer can, as in tests
		n, err := r.Body.Read(buffer)
		if n > 0 {
			if err := stream.Send(&berthv1.SnapshotChunk{Data: buffer[:n]}); err != nil {
				return nil // the call is over, and its answer says why
			}
		}
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return problem.New(problem.Invalid, "body", "reading the snapshot: %w", err)
		}
	}
}
