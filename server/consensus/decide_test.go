package consensus

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/raft"
	"pgregory.net/rapid"
)

// parseView reads a view in a small language: each word is one server.
//
//	a          a voter that is there          a?     a nonvoter
//	a-         not heard, shorter than grace   a--    not heard for longer
//	+d         a member that is no peer       a!     leaves
//	a~         a peer that left               d@a    a member, no peer, at a's address
//	a>         at a new address               +d*    a member of another Raft set
//	b?9        a nonvoter, 9 entries behind; without a number it does not answer
func parseView(words string) view {
	v := view{self: "a", set: "set", members: map[string]Member{}, goneFor: map[string]time.Duration{}, behind: map[string]uint64{}, grace: time.Minute}
	for _, w := range strings.Fields(words) {
		if w[0] == '+' || strings.Contains(w, "@") {
			id, at, _ := strings.Cut(strings.TrimSuffix(strings.TrimPrefix(w, "+"), "*"), "@")
			if at == "" {
				at = id
			}
			m := Member{ID: id, State: Alive, RaftAddress: at + ":1"}
			if strings.HasSuffix(w, "*") {
				m.Set = "other"
			}
			v.members[id] = m
			continue
		}
		id, marks := w[:1], w[1:]
		p := raft.Server{ID: raft.ServerID(id), Address: raft.ServerAddress(id + ":1")}
		m := Member{ID: id, State: Alive, RaftAddress: id + ":1", Set: "set"}
		if strings.HasPrefix(marks, "?") {
			p.Suffrage = raft.Nonvoter
			var behind uint64
			if _, err := fmt.Sscanf(marks, "?%d", &behind); err == nil {
				v.behind[id] = behind
			}
		}
		m.Leaving = strings.Contains(marks, "!")
		if strings.Contains(marks, ">") {
			m.RaftAddress = id + ":2"
		}
		switch {
		case strings.Contains(marks, "~"):
			m.State = Left
			v.goneFor[id] = time.Millisecond
		case strings.Contains(marks, "--"):
			m.State = Dead
			v.goneFor[id] = time.Minute
		case strings.Contains(marks, "-"):
			m.State = Dead
			v.goneFor[id] = 59 * time.Second
		}
		v.peers = append(v.peers, p)
		v.members[id] = m
	}
	return v
}

func TestDecide(t *testing.T) {
	for _, c := range []struct{ view, want string }{
		{"a b c", ""},
		{"a b c +d", "adding server d"},
		{"a b c +e +d", "adding server d"},
		{"a b c +d*", ""},
		{"a b c d?", ""},
		{"a b c d?512", "giving a vote to server d"},
		{"a b c d?513", ""},
		{"a b c>", "changing the address of server c"},
		{"a> b c", "changing the address of server a"},
		{"a b c-", ""},
		{"a b c--", "removing server c"},
		{"a b--", "removing server b"}, // a alone would be a quorum; but a leader that hears no quorum steps down first
		{"a b~", "removing server b"},  // it left
		{"a b-- c--", ""},
		{"a b c-- d--", "removing server c"},
		{"a b c d-- e--", "removing server d"},
		{"a b c-- d-- e--", ""},
		{"a b c!", "removing server c"},
		{"a b!", "removing server b"},
		{"a! b c", ""}, // the leader hands over first
		{"a b c~", "removing server c"},
		{"a b c- d@c", "removing server c"}, // c's host came back empty
		{"a b c d@c", "adding server d"},    // refused by Raft, and told, as c is there
		{"a b c?-- +d", "removing server c"},
		{"a b c~ +d", "removing server c"},
		{"a", ""},
		{"a +b", "adding server b"},
	} {
		got := decide(parseView(c.view))
		if s := strings.TrimSpace(string(got.kind) + " " + string(got.server.ID)); s != c.want {
			t.Errorf("%-22s got %q (%s), want %q", c.view, s, got.why, c.want)
		}
	}
}

// Whatever the view, a removal leaves a quorum of those that are there, and is never of the
// leader; an added server was no peer.
func TestDecideIsSafe(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		words := []string{"a"}
		for _, id := range "bcdefg" {
			mark := rapid.SampledFrom([]string{"", "?", "?1", "?9999", "-", "--", "!", "~", ">", "+", "+*", "none"}).Draw(t, string(id))
			switch mark {
			case "none":
			case "+", "+*":
				words = append(words, "+"+string(id)+mark[1:])
			default:
				words = append(words, string(id)+mark)
			}
		}
		v := parseView(strings.Join(words, " "))
		got := decide(v)
		switch got.kind {
		case remove:
			if string(got.server.ID) == v.self || !v.quorumWithout(got.server.ID) {
				t.Fatalf("%v: %+v", words, got)
			}
		case addServer:
			for _, p := range v.peers {
				if p.ID == got.server.ID {
					t.Fatalf("%v: %+v", words, got)
				}
			}
		}
	})
}

func fresh(id, promise string) Member {
	return Member{ID: id, State: Alive, Expect: 3, Promise: promise, RaftAddress: id}
}

func TestDecideFirst(t *testing.T) {
	abc := decideFirst(fresh("a", ""), []Member{fresh("a", ""), fresh("b", ""), fresh("c", "")}).digest
	formedB := fresh("b", abc)
	formedB.Formed = true
	five := fresh("b", "")
	five.Expect = 5
	joiner := fresh("d", "")
	joiner.Expect = 0
	dead := fresh("c", abc)
	dead.State = Dead
	for _, c := range []struct {
		name    string
		self    Member
		members []Member
		start   bool
		wait    string
	}{
		{"alone", fresh("a", ""), nil, false, "1 are here"},
		{"two of three", fresh("a", ""), []Member{fresh("b", "")}, false, "2 are here"},
		{"nobody agreed yet", fresh("a", ""), []Member{fresh("b", ""), fresh("c", "")}, false, "to agree"},
		{"one is missing", fresh("a", abc), []Member{fresh("b", abc), fresh("c", "")}, false, "waiting for c to agree"},
		{"all agreed, the lowest starts", fresh("a", abc), []Member{fresh("b", abc), fresh("c", abc)}, true, ""},
		{"all agreed, the others wait", fresh("b", abc), []Member{fresh("a", abc), fresh("c", abc)}, false, ""},
		{"one agreed to another set", fresh("a", abc), []Member{fresh("b", abc), fresh("c", "xyz")}, false, "another set"},
		{"a cluster is there", fresh("a", abc), []Member{formedB, fresh("c", abc)}, false, "to be added to the cluster that b"},
		{"different expectations", fresh("a", ""), []Member{five, fresh("c", "")}, false, "bootstrap_expect 5"},
		{"one joins only", fresh("a", ""), []Member{fresh("b", ""), joiner}, false, "2 are here"},
		{"one is dead", fresh("a", abc), []Member{fresh("b", abc), dead}, false, "2 are here"},
		{"a fourth waits", fresh("d", ""), []Member{fresh("a", abc), fresh("b", abc), fresh("c", abc)}, false, "to be added"},
		{"joins only", joiner, []Member{fresh("a", ""), fresh("b", ""), fresh("c", "")}, false, "bootstrap_expect is 0"},
	} {
		f := decideFirst(c.self, append(c.members, c.self))
		if f.start != c.start || !strings.Contains(f.wait, c.wait) || c.wait == "" && f.wait != "" {
			t.Errorf("%s: %+v, want start=%v wait=%q", c.name, f, c.start, c.wait)
		}
	}
}
