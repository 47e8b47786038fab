package consensus

import (
	"context"
	"io"
	"log"
	"log/slog"
	"strings"

	"github.com/hashicorp/go-hclog"
)

// raftLogger passes hashicorp/raft's log on to slog.
func raftLogger(l *slog.Logger) hclog.Logger {
	i := hclog.NewInterceptLogger(&hclog.LoggerOptions{Name: "raft", Level: hclog.Off, Output: io.Discard})
	i.RegisterSink(slogSink{l.With("from", "raft")})
	return i
}

// slogSink takes what hclog was told.
type slogSink struct{ to *slog.Logger }

// unreachable starts what raft reports as errors several times a second for as long as
// a peer is away. That a peer is away is told once, by what gossip sees.
var unreachable = []string{
	"failed to heartbeat", "failed to appendEntries", "failed to contact", "failed to pipeline",
	"failed to start pipeline", "failed to make requestVote", "failed to make pre-vote",
	"failed to make requestPreVote", "pipelining replication", "aborting pipeline",
}

// Accept implements hclog.SinkAdapter. Raft's Info is told as Debug: this package tells
// what an operator wants to know of it.
func (s slogSink) Accept(_ string, level hclog.Level, msg string, args ...any) {
	l := slog.LevelDebug
	switch level {
	case hclog.Warn:
		l = slog.LevelWarn
	case hclog.Error:
		l = slog.LevelError
	}
	for _, u := range unreachable {
		if strings.HasPrefix(msg, u) {
			l = slog.LevelDebug
		}
	}
	s.to.Log(context.Background(), l, msg, args...)
}

// gossipLogger passes memberlist's log on to slog.
func gossipLogger(l *slog.Logger) *log.Logger {
	return log.New(gossipWriter{l.With("from", "memberlist")}, "", 0)
}

// gossipWriter takes lines such as "[WARN] memberlist: text".
type gossipWriter struct{ to *slog.Logger }

// Write implements io.Writer; log.Logger calls it once a line.
func (w gossipWriter) Write(line []byte) (int, error) {
	level, text := slog.LevelDebug, strings.TrimSpace(string(line))
	if tag, rest, ok := strings.Cut(text, "] "); ok {
		text = strings.TrimPrefix(rest, "memberlist: ")
		switch strings.TrimPrefix(tag, "[") {
		case "WARN":
			level = slog.LevelWarn
		case "ERR", "ERROR":
			level = slog.LevelError
		}
	}
	w.to.Log(context.Background(), level, text)
	return len(line), nil
}
