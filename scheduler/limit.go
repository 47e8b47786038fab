package scheduler

import (
	"iter"
	"slices"
	"strconv"
	"strings"
)

// limit says which values of an attribute an instance may lie in, by the instances that
// lie there already. Nodes without the attribute are never taken.
type limit struct {
	attribute string
	kind      limitKind
	most      int // instances that may share a value: atMost
	scope     scope
	others    []GroupKey // whose instances it keeps apart from: apart
	members   []member   // who lies together, the group first: together
}

type limitKind uint8

const (
	// atMost: so many in a value (distinct_property).
	atMost limitKind = iota
	// together: all in one value, that of the first (same_property).
	together
	// apart: in no value where an instance of certain other groups is (apart_from).
	apart
)

// scope is among whom something must be distinct.
type scope uint8

const (
	nobody scope = iota
	sameGroup
	sameJob
)

// limitOperators are the operators of constraints that become limits.
var limitOperators = map[string]limitKind{"distinct_property": atMost, "same_property": together, "apart_from": apart}

// compileLimit compiles a constraint of one of those operators.
func (g *Group) compileLimit(attribute, operator, value string, among scope) error {
	l := limit{attribute: attribute, kind: limitOperators[operator], most: 1, scope: among}
	switch {
	case l.kind == atMost && value != "":
		n, err := strconv.Atoi(value)
		if err != nil || n < 1 {
			return invalid("value", "%q is not how many instances may share a value", value)
		}
		l.most = n
	case l.kind == apart:
		for _, name := range strings.Split(value, ",") {
			key := GroupKey{g.Key.Namespace, g.Key.Job, strings.TrimSpace(name)}
			if !slices.Contains(g.siblings, key) {
				return invalid("value", "%q is not a group of the job", key.Group)
			}
			if key != g.Key { // at the job, for all groups alike: each is apart from the others
				l.others = append(l.others, key)
			}
		}
	}
	g.limits = append(g.limits, l)
	g.sole = g.sole || l.kind == atMost && l.most == 1
	return nil
}

// keys are the groups whose instances count for the limit.
func (l *limit) keys(g *Group) iter.Seq[GroupKey] {
	return func(yield func(GroupKey) bool) {
		for i := 0; ; i++ {
			if key, more := l.key(g, i); !more || !yield(key) {
				return
			}
		}
	}
}

// key is the i-th of those groups; false: there are not so many.
func (l *limit) key(g *Group, i int) (GroupKey, bool) {
	from := g.siblings
	switch {
	case l.kind == apart:
		from = l.others
	case l.scope == sameGroup:
		return g.Key, i == 0
	}
	if i >= len(from) {
		return GroupKey{}, false
	}
	return from[i], true
}

// full says that an instance may not lie in a value where count of those that are
// counted lie, of all there are.
func (l *limit) full(count, all int32) bool {
	switch l.kind {
	case together:
		return all > 0 && count == 0
	case apart:
		return count > 0
	}
	return int(count) >= l.most
}

// words say why a value is full.
func (l *limit) words() (check, detail string) {
	switch l.kind {
	case together:
		return "same_property", "the others are in another " + l.attribute + ", or it has none"
	case apart:
		return "apart_from", "a group to be apart from is in its " + l.attribute + ", or it has none"
	}
	return "distinct_property", "enough instances have its " + l.attribute + " already, or it has none"
}
