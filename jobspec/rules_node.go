package jobspec

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

func (c *checker) constraints(list []*berthv1.Constraint, path string, distinct bool) {
	for i, x := range list {
		at := join(path, fmt.Sprintf("constraints[%d]", i))
		op := x.GetOperator()
		if aboutInstances(op) && !distinct {
			c.add(at+".operator", "put it into the group or the job", "%s is about the instances of a group, not about a task", op)
			continue
		}
		switch op {
		case "distinct_hosts":
			if x.GetAttribute() != "" || x.GetValue() != "" {
				c.add(at, "write operator alone", "distinct_hosts takes no attribute and no value")
			}
		case "distinct_property":
			c.attribute(x.GetAttribute(), at)
			if v := x.GetValue(); v != "" {
				if n, err := strconv.ParseUint(v, 10, 32); err != nil || n == 0 {
					c.add(at+".value", "", "distinct_property wants a number of instances from 1 as its value, not %q", clip(v))
				}
			}
		case "same_property":
			c.attribute(x.GetAttribute(), at)
			if x.GetValue() != "" {
				c.add(at+".value", "leave the value out", "same_property takes no value: the first instance decides it")
			}
		case "apart_from":
			c.attribute(x.GetAttribute(), at)
			if x.GetValue() == "" {
				c.add(at+".value", "name groups of the job, with commas", "apart_from wants the groups to be apart from")
				continue
			}
			for _, name := range strings.Split(x.GetValue(), ",") {
				if name = strings.TrimSpace(name); !slices.Contains(c.groups, name) {
					c.add(at+".value", "name groups of the job, with commas", "the job has no group %q to be apart from", clip(name))
				}
			}
		default:
			c.comparison(x.GetAttribute(), op, x.GetValue(), at)
		}
	}
}

// aboutInstances says that an operator is about where other instances are.
func aboutInstances(operator string) bool {
	return strings.HasPrefix(operator, "distinct_") || operator == "same_property" || operator == "apart_from"
}

func (c *checker) attribute(attribute, path string) {
	switch {
	case attribute == "":
		c.add(path+".attribute", `name one, such as attribute = "node.rack"`, "a constraint needs an attribute")
	case strings.Contains(attribute, "${"):
		c.add(path+".attribute", fmt.Sprintf("write attribute = %q", strings.Trim(attribute, "${}")), "an attribute is named without ${}")
	}
}

// comparison checks what constraints and affinities share.
func (c *checker) comparison(attribute, op, value, path string) {
	c.attribute(attribute, path)
	switch op {
	case "is_set", "not_set":
		if value != "" {
			c.add(path+".value", "leave the value out", "%s takes no value", op)
		}
		return
	case "matches":
		if len(value) > 1000 {
			c.add(path+".value", "", "the pattern is longer than 1000 characters")
		} else if _, err := regexp.Compile(value); err != nil {
			c.add(path+".value", "", "the pattern is no regular expression: %v", err)
		}
	}
	if value == "" && op != "" && op != "=" && op != "!=" {
		c.add(path+".value", "", "%s needs a value", op)
	} else if value == "" && attribute != "" {
		c.add(path+".value", `operator "is_set" asks whether there is any`, "the constraint on %s needs a value", clip(attribute))
	}
}

func (c *checker) affinities(list []*berthv1.Affinity, path string) {
	for i, x := range list {
		at := join(path, fmt.Sprintf("affinities[%d]", i))
		if x.GetAttribute() != "" { // else it was said already
			c.comparison(x.GetAttribute(), x.GetOperator(), x.GetValue(), at)
		}
	}
}

func (c *checker) spreads(list []*berthv1.Spread, path string) {
	seen := map[string]bool{}
	for i, s := range list {
		at := join(path, fmt.Sprintf("spreads[%d]", i))
		if seen[s.GetAttribute()] {
			c.add(at+".attribute", "", "a second spread over %s", clip(s.GetAttribute()))
		}
		seen[s.GetAttribute()] = true
		sum := uint64(0)
		for _, t := range s.GetTargets() {
			sum += uint64(t.GetPercent())
		}
		if sum > 100 {
			c.add(at, "", "the targets of the spread over %s add up to %d percent", clip(s.GetAttribute()), sum)
		}
	}
}
