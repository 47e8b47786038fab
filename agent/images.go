package agent

import (
	"github.com/berthd/berth/agent/session"
	"github.com/berthd/berth/problem"
)

// Images gives the images that the cluster keeps. Unavailable: the agent has not begun yet.
func (a *Agent) Images() (*session.Images, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.client == nil {
		return nil, problem.New(problem.Unavailable, "", "the agent has no session with a server yet")
	}
	return a.client.Images(), nil
}
