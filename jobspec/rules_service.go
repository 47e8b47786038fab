package jobspec

import (
	"fmt"
	"regexp"
	"strings"
	"unicode"

	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

// A service's name is a label in DNS (RFC 1123).
var dnsLabel = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)

func (c *checker) services(job *berthv1.Job, g *berthv1.Group, path string) {
	keys := elementKeysOf(g, "services")
	for i, s := range g.GetServices() {
		at := path + ".services[" + keys[i] + "]"
		if s.GetName() != "" && !dnsLabel.MatchString(s.GetName()) {
			c.add(at+".name", `small letters, digits and "-", at most 63, with a letter or digit at both ends`,
				"service %q cannot be a name in DNS", clip(s.GetName()))
		}
		c.port(g, s.GetPort(), at+".port")
		for _, tag := range append(s.GetTags()[:len(s.GetTags()):len(s.GetTags())], s.GetCanaryTags()...) {
			if tag == "" || len(tag) > 255 || strings.ContainsFunc(tag, unicode.IsSpace) {
				c.add(at+".tags", "", "tag %q is empty, has a space or is too long", clip(tag))
			}
		}
		c.keys(s.GetMeta(), at+".meta")
		names := elementKeysOf(s, "checks")
		for k, check := range s.GetChecks() {
			c.check(g, s, check, at+".checks["+names[k]+"]")
		}
	}
}

// port checks the name of one of the group's ports.
func (c *checker) port(g *berthv1.Group, name, path string) {
	if name == "" {
		return
	}
	var known []string
	for _, p := range g.GetNetwork().GetPorts() {
		if p.GetName() == name {
			return
		}
		known = append(known, p.GetName())
	}
	remedy := didYouMean(name, known)
	if remedy == "" {
		remedy = fmt.Sprintf("write port %q {} in the group's network", clip(name))
	}
	c.add(path, remedy, "group %q has no port %q", g.GetName(), clip(name))
}

func (c *checker) check(g *berthv1.Group, s *berthv1.Service, k *berthv1.Check, path string) {
	c.port(g, k.GetPort(), path+".port")
	c.interval(k.GetInterval(), "a check", path)
	if k.Timeout != nil && k.GetTimeout().AsDuration() == 0 {
		c.add(path+".timeout", "", "the timeout of a check cannot be 0")
	}
	c.name(k.GetName(), "check", path+".name")
	switch kind := checkType(k); kind {
	case "":
		c.add(path+".type", `"http", "tcp", "grpc" or "script"`, "check %q has no type", clip(k.GetName()))
	case "script":
		c.script(g, k, path)
	default:
		if len(k.GetCommand()) > 0 {
			c.add(path+".command", `check "script" runs commands`, "a %s check runs no command", kind)
		}
		if k.GetPort() == "" && s.GetPort() == "" {
			c.add(path+".port", "", "a %s check needs a port, and service %q has none", kind, s.GetName())
		}
	}
	if t := k.GetTask(); t != "" {
		c.taskOf(g, t, path+".task")
	}
	if p := k.GetPath(); p != "" && !strings.HasPrefix(p, "/") {
		c.add(path+".path", "", "path %q does not begin with /", clip(p))
	}
	if m := k.GetMethod(); m != "" && strings.Trim(m, "ABCDEFGHIJKLMNOPQRSTUVWXYZ") != "" {
		c.add(path+".method", `such as "GET" or "HEAD"`, "method %q is no HTTP method", clip(m))
	}
	if e := k.GetExpectStatus(); e == "" {
		return
	} else if _, err := berthv1.ParseStatuses(e); err != nil {
		c.add(path+".expect_status", `write statuses and ranges, such as "200", "200-299" or "200,404"`, "expect_status %q is no list of statuses", clip(e))
	}
}

// checkType is how a check asks: check "http" {} need not say it again.
func checkType(k *berthv1.Check) string {
	switch name := k.GetName(); {
	case k.GetType() != "":
		return k.GetType()
	case name == "http" || name == "tcp" || name == "grpc" || name == "script":
		return name
	}
	return ""
}

func (c *checker) script(g *berthv1.Group, k *berthv1.Check, path string) {
	if len(k.GetCommand()) == 0 {
		c.add(path+".command", `write command = ["/bin/check"]`, "a script check has no command")
	}
	mains := 0
	for _, t := range g.GetTasks() {
		if t.GetLifecycle() == nil {
			mains++
		}
	}
	if k.GetTask() == "" && mains > 1 {
		c.add(path+".task", "", "a script check runs inside a task; group %q has several: name one", g.GetName())
	}
}

func (c *checker) taskOf(g *berthv1.Group, name, path string) {
	var known []string
	for _, t := range g.GetTasks() {
		if t.GetName() == name {
			return
		}
		known = append(known, t.GetName())
	}
	c.add(path, didYouMean(name, known), "group %q has no task %q", g.GetName(), clip(name))
}
