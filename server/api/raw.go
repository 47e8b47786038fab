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
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/berthd/berth/problem"
	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

// Routes whose body is bytes, not JSON: logs, files and snapshots.

// streamingHeader says, before the first message, that a stream has begun well.
const streamingHeader = "berth-streaming"

const (
	plainText = "text/plain; charset=utf-8"
	octets    = "application/octet-stream"
	ndjson    = "application/x-ndjson"
)

// beginStream sends the headers of a stream, so that the other side need not wait for
// its first message.
func beginStream(stream grpc.ServerStream) error {
	return stream.SendHeader(metadata.Pairs(streamingHeader, "1"))
}

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
	g.copyOut(w, r, plainText, stream, func() ([]byte, error) {
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
	g.copyOut(w, r, octets, stream, func() ([]byte, error) {
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
	w.Header().Set("Content-Disposition", `attachment; filename="berth.snapshot"`)
	g.copyOut(w, r, octets, stream, func() ([]byte, error) {
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

// copyOut writes what a stream brings. What goes wrong before its first bytes is a
// problem; after them the connection is cut, so that nobody takes a part for the whole.
func (g *gateway) copyOut(w http.ResponseWriter, r *http.Request, contentType string, stream grpc.ClientStream, next func() ([]byte, error)) {
	control := http.NewResponseController(w)
	begun := false
	begin := func() {
		begun = true
		w.Header().Set("Content-Type", contentType)
		w.Header().Set("X-Content-Type-Options", "nosniff")
		w.WriteHeader(http.StatusOK)
		_ = control.Flush() // not every writer can, as in tests
	}
	if header, err := stream.Header(); err == nil && len(header.Get(streamingHeader)) > 0 {
		begin()
	}
	for {
		data, err := next()
		switch {
		case errors.Is(err, io.EOF):
			if !begun {
				begin()
			}
			return
		case err != nil && !begun:
			w.Header().Del("Content-Disposition")
			writeProblem(w, err)
			return
		case err != nil:
			if r.Context().Err() == nil {
				g.a.logger.Info("a stream was cut short", "path", r.URL.Path, "error", problem.From(err))
			}
			panic(http.ErrAbortHandler)
		}
		if !begun {
			begin()
		}
		if _, err := w.Write(data); err != nil {
			return // the client is gone
		}
		_ = control.Flush()
	}
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
