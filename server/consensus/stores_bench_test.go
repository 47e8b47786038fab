package consensus

import (
	"fmt"
	"testing"

	"github.com/hashicorp/raft"
)

func entries(from uint64, n, size int) []*raft.Log {
	out := make([]*raft.Log, n)
	for i := range out {
		out[i] = &raft.Log{Index: from + uint64(i), Term: 1, Data: make([]byte, size)}
	}
	return out
}

// BenchmarkLogAppend writes batches with one sync each, as the leader and its followers do.
func BenchmarkLogAppend(b *testing.B) {
	for _, size := range []int{256, 4 << 10, 64 << 10} {
		for _, n := range []int{1, 16, 64} {
			b.Run(fmt.Sprintf("size=%d/batch=%d", size, n), func(b *testing.B) {
				s, err := openStores(b.TempDir(), silent)
				if err != nil {
					b.Fatal(err)
				}
				defer func() { _ = s.Close() }()
				batch, at := entries(1, n, size), uint64(0)
				b.SetBytes(int64(n * size))
				b.ReportAllocs()
				for b.Loop() {
					for _, l := range batch {
						at++
						l.Index = at
					}
					if err := s.Log.StoreLogs(batch); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

// BenchmarkLogOf100k reads, cuts and opens a log of 100,000 entries of 256 bytes.
func BenchmarkLogOf100k(b *testing.B) {
	const count = 100_000
	dir := b.TempDir()
	open := func() *Stores {
		s, err := openStores(dir, silent)
		if err != nil {
			b.Fatal(err)
		}
		return s
	}
	s := open()
	for at := uint64(1); at <= count; at += 100 {
		if err := s.Log.StoreLogs(entries(at, 100, 256)); err != nil {
			b.Fatal(err)
		}
	}
	b.Run("read", func(b *testing.B) {
		var l raft.Log
		for i := uint64(0); b.Loop(); i++ {
			if err := s.Log.GetLog(i*7919%count+1, &l); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("replace_last_10", func(b *testing.B) {
		for b.Loop() {
			if err := s.Log.DeleteRange(count-9, count); err != nil {
				b.Fatal(err)
			}
			if err := s.Log.StoreLogs(entries(count-9, 10, 256)); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("open", func(b *testing.B) {
		for b.Loop() {
			if err := s.Close(); err != nil {
				b.Fatal(err)
			}
			s = open()
		}
	})
	if err := s.Close(); err != nil {
		b.Fatal(err)
	}
}
