package scheduler

import (
	"cmp"
	"regexp"
	"strconv"
	"strings"

	"github.com/hashicorp/go-version"

	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

// check is a compiled constraint: whether a node's attribute is as it should be.
type check struct {
	attribute string
	// text is the check in words: "kernel.version >= 6.1".
	text string
	ok   func(value string, has bool) bool
}

// compileCheck compiles a constraint or an affinity. An error says what is wrong with
// its operator or value.
func compileCheck(attribute, operator, value string) (check, error) {
	if operator == "" || operator == "==" {
		operator = "="
	}
	c := check{attribute: attribute, text: strings.TrimSpace(attribute + " " + operator + " " + value)}
	if attribute == "" {
		return c, invalid("attribute", "the attribute is missing")
	}
	compile, known := operators[operator]
	if !known {
		return c, invalid("operator", "there is no operator %q", operator)
	}
	var err error
	c.ok, err = compile(value)
	return c, err
}

type predicate = func(value string, has bool) bool

// operators compile the value on a constraint's right side. A node without the
// attribute satisfies != and not_set, nothing else.
var operators = map[string]func(want string) (predicate, error){
	"=": func(want string) (predicate, error) {
		return func(v string, has bool) bool { return has && v == want }, nil
	},
	"!=": func(want string) (predicate, error) {
		return func(v string, has bool) bool { return !has || v != want }, nil
	},
	">":  func(want string) (predicate, error) { return ordered(want, func(c int) bool { return c > 0 }), nil },
	">=": func(want string) (predicate, error) { return ordered(want, func(c int) bool { return c >= 0 }), nil },
	"<":  func(want string) (predicate, error) { return ordered(want, func(c int) bool { return c < 0 }), nil },
	"<=": func(want string) (predicate, error) { return ordered(want, func(c int) bool { return c <= 0 }), nil },
	"matches": func(want string) (predicate, error) {
		re, err := regexp.Compile(want)
		if err != nil {
			return nil, invalid("value", "the regular expression %q does not compile: %w", want, err)
		}
		return func(v string, has bool) bool { return has && re.MatchString(v) }, nil
	},
	"contains": func(want string) (predicate, error) {
		items := items(want)
		return func(v string, has bool) bool {
			have := itemSet(v)
			for _, i := range items {
				if !have[i] {
					return false
				}
			}
			return has
		}, nil
	},
	"any_of": func(want string) (predicate, error) {
		wanted := itemSet(want)
		return func(v string, has bool) bool {
			for _, i := range items(v) {
				if has && wanted[i] {
					return true
				}
			}
			return false
		}, nil
	},
	"is_set":  func(string) (predicate, error) { return func(_ string, has bool) bool { return has }, nil },
	"not_set": func(string) (predicate, error) { return func(_ string, has bool) bool { return !has }, nil },
	"version": func(want string) (predicate, error) {
		limits, err := version.NewConstraint(want)
		if err != nil {
			return nil, invalid("value", "%q is not a version constraint such as \">= 6.1, < 7\"", want)
		}
		return func(v string, has bool) bool {
			parsed, err := version.NewVersion(v)
			return has && err == nil && limits.Check(parsed.Core())
		}, nil
	},
}

// ordered compares as numbers when both sides are, else as versions when both sides
// are, else as text.
func ordered(want string, ok func(int) bool) predicate {
	number, notNumber := strconv.ParseFloat(want, 64)
	wanted, notVersion := version.NewVersion(want)
	return func(v string, has bool) bool {
		if !has {
			return false
		}
		if n, err := strconv.ParseFloat(v, 64); err == nil && notNumber == nil {
			// 6.9 and 6.10 are numbers too, but whoever writes them means versions.
			if dots(v) == 0 && dots(want) == 0 || notVersion != nil {
				return ok(cmp.Compare(n, number))
			}
		}
		if parsed, err := version.NewVersion(v); err == nil && notVersion == nil {
			if wanted.Prerelease() == "" { // a kernel's 6.1.0-13-amd64 is a 6.1
				parsed = parsed.Core()
			}
			return ok(parsed.Compare(wanted))
		}
		return ok(strings.Compare(v, want))
	}
}

func dots(s string) int { return strings.Count(s, ".") }

// items splits a list by commas.
func items(list string) []string {
	parts := strings.Split(list, ",")
	for i := range parts {
		parts[i] = strings.TrimSpace(parts[i])
	}
	return parts
}

func itemSet(list string) map[string]bool {
	set := map[string]bool{}
	for _, i := range items(list) {
		set[i] = true
	}
	return set
}

// attributeOf gives a node's attribute by the name that constraints use: node.id,
// node.name, node.pool, node.arch, meta.<key>, driver.<name> (its version),
// driver.<name>.<key>, and whatever else the node reports under its own name.
func attributeOf(n *berthv1.Node, name string) (string, bool) {
	switch name {
	case "node.id":
		return n.GetId(), true
	case "node.name":
		return n.GetName(), true
	case "node.pool":
		return n.GetPool(), true
	case "node.arch":
		return n.GetArch(), true
	}
	if v, ok := n.GetAttributes()[name]; ok {
		return v, true
	}
	if key, ok := strings.CutPrefix(name, "meta."); ok {
		v, ok := n.GetMeta()[key]
		return v, ok
	}
	if rest, ok := strings.CutPrefix(name, "driver."); ok {
		return driverAttribute(n, rest)
	}
	return "", false
}

func driverAttribute(n *berthv1.Node, name string) (string, bool) {
	driver, key, keyed := strings.Cut(name, ".")
	for _, d := range n.GetDrivers() {
		if d.GetName() != driver {
			continue
		}
		if !keyed {
			return d.GetVersion(), true
		}
		v, ok := d.GetAttributes()[key]
		return v, ok
	}
	return "", false
}
