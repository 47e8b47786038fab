package session

import (
	"context"
	"io"
	"testing"

	"google.golang.org/grpc"

	"github.com/berthd/berth/problem"
	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

// diskServer sends chunks, then ends with an error.
type diskServer struct {
	berthv1.AgentServiceClient
	chunks []*berthv1.FileChunk
	end    error
}

type diskStream struct {
	grpc.ClientStream
	server *diskServer
}

func (s *diskServer) FetchDisk(context.Context, *berthv1.FetchDiskRequest, ...grpc.CallOption) (grpc.ServerStreamingClient[berthv1.FileChunk], error) {
	return &diskStream{server: s}, nil
}

func (s *diskStream) Recv() (*berthv1.FileChunk, error) {
	if len(s.server.chunks) == 0 {
		return nil, s.server.end
	}
	c := s.server.chunks[0]
	s.server.chunks = s.server.chunks[1:]
	return c, nil
}

func TestFetchDisk(t *testing.T) {
	chunk := func(offset int64, data string) *berthv1.FileChunk {
		return &berthv1.FileChunk{Offset: offset, Data: []byte(data)}
	}
	gone := problem.Wire(problem.New(problem.NotFound, "", "gone"))
	away := problem.Wire(problem.New(problem.Unavailable, "", "away"))
	for name, tc := range map[string]struct {
		chunks     []*berthv1.FileChunk
		end        error
		atOnce     problem.Kind // what FetchDisk itself says
		want       string
		afterwards problem.Kind
	}{
		"whole":         {[]*berthv1.FileChunk{chunk(0, "abc"), chunk(3, ""), chunk(3, "de")}, io.EOF, "", "abcde", ""},
		"empty":         {nil, io.EOF, "", "", ""},
		"gone":          {nil, gone, problem.NotFound, "", ""},
		"cut short":     {[]*berthv1.FileChunk{chunk(0, "abc")}, away, "", "abc", problem.Unavailable},
		"a part missed": {[]*berthv1.FileChunk{chunk(0, "abc"), chunk(4, "e")}, io.EOF, "", "abc", problem.Internal},
	} {
		c := New(Config{Node: func() *berthv1.Node { return &berthv1.Node{Id: "n1"} }})
		if _, err := c.FetchDisk(t.Context(), "a1"); !problem.Is(err, problem.Unavailable) {
			t.Errorf("%s: without a session: %v", name, err)
		}
		c.rpc = &diskServer{chunks: tc.chunks, end: tc.end}
		r, err := c.FetchDisk(t.Context(), "a1")
		if problem.KindOf(err) != tc.atOnce {
			t.Errorf("%s: %v", name, err)
		}
		if err != nil {
			continue
		}
		got, err := io.ReadAll(r)
		if string(got) != tc.want || problem.KindOf(err) != tc.afterwards {
			t.Errorf("%s: %q, %v", name, got, err)
		}
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	}
}
