package image

import (
	"context"
	"maps"
	"slices"
	"sync"
)

// flight is one fetch that several wait for. It goes on as long as anybody does.
type flight struct {
	cancel  context.CancelFunc
	done    chan struct{}
	waiting int // guarded by Store.mu

	// Set when done. release is the flight's own hold of the base.
	base    *Base
	release func()
	err     error

	mu     sync.Mutex
	listen map[*Progress]Progress
}

// share fetches w, or waits for who does already. The last who goes away before the end
// ends the fetch, and waits until nothing of it is left.
func (s *Store) share(ctx context.Context, w *wanted, progress Progress) (*Base, func(), error) {
	key := w.ref + w.version + w.Format
	s.mu.Lock()
	f := s.flights[key]
	if f == nil {
		f = s.start(context.WithoutCancel(ctx), w)
		s.flights[key] = f
	}
	f.waiting++
	s.mu.Unlock()
	defer s.leave(key, f)
	defer f.hear(&progress)()
	select {
	case <-ctx.Done():
		return nil, nil, context.Cause(ctx)
	case <-f.done:
	}
	if f.err != nil {
		return nil, nil, f.err
	}
	return f.base, s.pin(f.base.Path), nil
}

func (s *Store) start(ctx context.Context, w *wanted) *flight {
	ctx, cancel := context.WithCancel(ctx)
	f := &flight{cancel: cancel, done: make(chan struct{}), listen: map[*Progress]Progress{}, release: func() {}}
	go func() {
		defer close(f.done)
		base, release, err := s.fetch(ctx, w, f.tell)
		if err != nil {
			f.err = err
			return
		}
		f.base, f.release = base, release
		if _, err := s.Tidy(ctx); err != nil {
			s.cfg.Log.Warn("unused images stay", "error", err)
		}
	}()
	return f
}

func (s *Store) leave(key string, f *flight) {
	s.mu.Lock()
	f.waiting--
	last := f.waiting == 0
	if last && s.flights[key] == f {
		delete(s.flights, key)
	}
	s.mu.Unlock()
	if last {
		f.cancel()
		<-f.done
		f.release()
	}
}

// hear has p told what the fetch does, until stop is called.
func (f *flight) hear(p *Progress) (stop func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.listen[p] = *p
	return func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		delete(f.listen, p)
	}
}

func (f *flight) tell(words string) {
	f.mu.Lock()
	told := slices.Collect(maps.Values(f.listen))
	f.mu.Unlock()
	for _, p := range told {
		p(words)
	}
}
