package consensus

import (
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"github.com/berthd/berth/problem"
)

// listen makes the streams of server "b"; what comes in is echoed.
func listen(t *testing.T) *streams {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s, err := newStreams(Config{ID: "b", Listener: l, Timing: Timing{IO: 200 * time.Millisecond}})
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			c, err := s.Accept()
			if err != nil {
				return
			}
			go func() { _, _ = io.Copy(c, c); _ = c.Close() }()
		}
	}()
	t.Cleanup(func() { _ = s.Close(); <-ended })
	return s
}

func TestConnectionsReachWhomTheyAreFor(t *testing.T) {
	s := listen(t)
	at := raft.ServerAddress(s.Addr().String())
	for id, want := range map[raft.ServerID]error{"b": nil, "a": io.EOF, "": io.EOF} {
		c, err := s.Dial(target(id, at), time.Second)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = c.Write([]byte("x"))
		_ = c.SetReadDeadline(time.Now().Add(5 * time.Second))
		_, err = io.ReadFull(c, make([]byte, 1))
		if want == nil && err != nil || want != nil && (err == nil || errors.Is(err, os.ErrDeadlineExceeded)) {
			t.Errorf("for %q: %v, want %v", id, err, want)
		}
		_ = c.Close()
	}
	if _, err := s.Dial(at, time.Second); err == nil {
		t.Error("an address without a server was dialled")
	}
}

// One who says nothing, or something else, is cut off.
func TestStrangersAreCutOff(t *testing.T) {
	s := listen(t)
	for what, first := range map[string]string{"silence": "", "another protocol": "GET / HTTP/1.1\r\n", "half a greeting": "\x01\x05ab"} {
		c, err := net.Dial("tcp", s.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.WriteString(c, first)
		_ = c.SetReadDeadline(time.Now().Add(10 * time.Second))
		if _, err := c.Read(make([]byte, 1)); errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%s: still connected", what)
		}
		_ = c.Close()
	}
}

func TestAdvertisedAddressMustBeReachable(t *testing.T) {
	l, err := net.Listen("tcp", "0.0.0.0:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	for address, ok := range map[string]bool{"": false, "0.0.0.0:1": false, "host": false, ":7462": false, "host:0": false, "host:7462": true, "[::1]:7462": true} {
		_, err := newStreams(Config{ID: "b", Listener: l, RaftAdvertise: address})
		if (err == nil) != ok || err != nil && !problem.Is(err, problem.Invalid) {
			t.Errorf("%q: %v", address, err)
		}
	}
}
