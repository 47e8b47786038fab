package cloudinit

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/goccy/go-yaml"

	"github.com/berthd/berth/problem"
)

var (
	userName = regexp.MustCompile(`^[a-z_][a-z0-9_-]{0,31}$`)
	// A hash of crypt(3) ("$6$..."), or what locks the password.
	passwordHash = regexp.MustCompile(`^(\$[0-9a-z]+\$[!-9;-~]+|[!*]+)$`)
)

func (u *User) check(field string) error {
	switch {
	case !userName.MatchString(u.Name):
		return problem.New(problem.Invalid, field+".name", "%q is no name of a user", u.Name)
	case u.PasswordHash != "" && !passwordHash.MatchString(u.PasswordHash):
		return problem.New(problem.Invalid, field+".password_hash", "is no hash as in /etc/shadow").
			WithRemedy("make one with: openssl passwd -6")
	case u.Shell != "" && !strings.HasPrefix(u.Shell, "/"):
		return problem.New(problem.Invalid, field+".shell", "%q is no absolute path", u.Shell)
	}
	for _, g := range u.Groups {
		if !userName.MatchString(g) {
			return problem.New(problem.Invalid, field+".groups", "%q is no name of a group", g)
		}
	}
	return checkKeys(field+".ssh_keys", u.SSHKeys)
}

// checkKeys wants one key a text, as in authorized_keys.
func checkKeys(field string, keys []string) error {
	for i, k := range keys {
		if strings.ContainsAny(k, "\n\r") || len(strings.Fields(k)) < 2 {
			return problem.New(problem.Invalid, fmt.Sprintf("%s[%d]", field, i), "is no public key on one line").
				WithRemedy(`it looks like "ssh-ed25519 AAAA... name"`)
		}
	}
	return nil
}

// config is the user in a cloud-config.
func (u *User) config() yaml.MapSlice {
	m := yaml.MapSlice{{Key: "name", Value: u.Name}}
	add := func(key string, value any) { m = append(m, yaml.MapItem{Key: key, Value: value}) }
	if len(u.Groups) > 0 {
		add("groups", anys(u.Groups))
	}
	if u.Sudo {
		add("sudo", "ALL=(ALL) NOPASSWD:ALL")
	}
	if u.Shell != "" {
		add("shell", u.Shell)
	}
	add("lock_passwd", u.PasswordHash == "")
	if u.PasswordHash != "" {
		add("passwd", u.PasswordHash)
	}
	if len(u.SSHKeys) > 0 {
		add("ssh_authorized_keys", anys(u.SSHKeys))
	}
	return m
}

func anys(texts []string) []any {
	list := make([]any, len(texts))
	for i, t := range texts {
		list[i] = t
	}
	return list
}
