package main

import (
	"os/exec"
	"runtime"
	"sync"
)

// spawner starts processes from one thread that lives as long as the plugin: for the
// kernel, a process's parent has died when the thread that started it has.
type spawner struct {
	mu       sync.Mutex
	commands chan *exec.Cmd
	results  chan error
}

func newSpawner() *spawner {
	s := &spawner{commands: make(chan *exec.Cmd), results: make(chan error)}
	go func() {
		runtime.LockOSThread()
		for cmd := range s.commands {
			s.results <- cmd.Start()
		}
	}()
	return s
}

func (s *spawner) start(cmd *exec.Cmd) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.commands <- cmd
	return <-s.results
}
