package template

import (
	"regexp"
	"strconv"
	"strings"

	"github.com/berthd/berth/problem"
)

var variableNames = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

// ParseEnv reads lines KEY=value. Empty lines and those that begin with # are passed over.
// A value is all that follows the =, without space around it; in "double quotes" it takes
// \n, \t, \" and \\ as Go does, in 'single quotes' all is as it stands.
func ParseEnv(name string, text []byte) (map[string]string, error) {
	env := map[string]string{}
	line := 0
	for l := range strings.SplitSeq(string(text), "\n") {
		line++
		l = strings.TrimSpace(l)
		if l == "" || l[0] == '#' {
			continue
		}
		key, value, ok := strings.Cut(l, "=")
		key, value = strings.TrimSpace(key), strings.TrimSpace(value)
		invalid := func(what string) error {
			return problem.New(problem.Invalid, name, "line %d of what became of the template %s", line, what).WithRemedy(`lines are KEY=value`)
		}
		switch {
		case !ok || !variableNames.MatchString(key):
			return nil, invalid("does not begin with KEY=")
		case strings.Contains(value, "\x00"):
			return nil, invalid("has a zero byte")
		case len(value) > 0 && value[0] == '"':
			v, err := strconv.Unquote(value)
			if err != nil {
				return nil, invalid("has double quotes that do not fit")
			}
			value = v
		case len(value) > 0 && value[0] == '\'':
			inner, ok := strings.CutSuffix(value[1:], "'")
			if !ok {
				return nil, invalid("has single quotes that do not fit")
			}
			value = inner
		}
		env[key] = value
	}
	return env, nil
}
