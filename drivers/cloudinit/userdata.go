package cloudinit

import (
	"crypto/sha256"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"

	"github.com/berthd/berth/problem"
)

const cloudConfig = "#cloud-config"

// readyPath runs on every boot, before the scripts of the user's data.
const readyPath = "/var/lib/cloud/scripts/per-boot/berth-ready"

// readyScript waits beside cloud-init until that is through: result.json is written last,
// and /run is empty after a boot.
const readyScript = `#!/bin/sh
# Tells the host that cloud-init is through with this boot.
(
  while [ ! -e /run/cloud-init/result.json ]; do sleep 1; done
  word=` + ReadyLine + `
  grep -q '"errors": \[\]' /run/cloud-init/result.json || word=` + FailedLine + `
  modprobe virtio_console
  for try in 1 2 3 4 5 6 7 8 9 10; do
    for name in /sys/class/virtio-ports/*/name; do
      if [ "$(cat "$name")" = ` + ReadyPort + ` ]; then
        port=${name%/name}
        echo "$word" >"/dev/${port##*/}" && exit
      fi
    done
    sleep 1
  done
) </dev/null >/dev/null 2>&1 &
`

// userData is the user's, with what is to be added: merged where it is cloud-config, else
// beside it in a MIME message.
func (in *Input) userData() ([]byte, error) {
	added := in.additions()
	first, _, _ := strings.Cut(in.UserData, "\n")
	isConfig := strings.TrimRight(first, " \t\r") == cloudConfig
	switch {
	case isConfig:
		merged, err := merge(in.UserData, added)
		if err != nil || len(added) == 0 {
			return []byte(in.UserData), err
		}
		return config(merged)
	case in.UserData == "":
		return config(added)
	case len(added) == 0:
		return []byte(in.UserData), nil
	}
	ours, err := config(added)
	if err != nil {
		return nil, err
	}
	return multipart(string(ours), in.UserData), nil
}

// additions is what users, keys and readiness add to a cloud-config.
func (in *Input) additions() yaml.MapSlice {
	var added yaml.MapSlice
	if len(in.Users) > 0 {
		list := []any{"default"}
		for _, u := range in.Users {
			list = append(list, u.config())
		}
		added = append(added, yaml.MapItem{Key: "users", Value: list})
	}
	if len(in.SSHKeys) > 0 {
		added = append(added, yaml.MapItem{Key: "ssh_authorized_keys", Value: anys(in.SSHKeys)})
	}
	if in.Ready {
		added = append(added, yaml.MapItem{Key: "write_files", Value: []any{yaml.MapSlice{
			{Key: "path", Value: readyPath}, {Key: "permissions", Value: "0755"}, {Key: "content", Value: readyScript},
		}}})
	}
	return added
}

func config(values yaml.MapSlice) ([]byte, error) {
	if len(values) == 0 {
		return []byte(cloudConfig + "\n{}\n"), nil
	}
	text, err := yaml.MarshalWithOptions(values, yaml.UseLiteralStyleIfMultiline(true))
	if err != nil {
		return nil, fmt.Errorf("writing user-data: %w", err)
	}
	return append([]byte(cloudConfig+"\n"), text...), nil
}

// merge appends the lists in added to those in text. A list of users that is there already
// says itself whether there is a default one.
func merge(text string, added yaml.MapSlice) (yaml.MapSlice, error) {
	var values yaml.MapSlice
	if err := yaml.UnmarshalWithOptions([]byte(text), &values, yaml.UseOrderedMap()); err != nil {
		return nil, problem.New(problem.Invalid, "user_data", "is no cloud-config: %s", yaml.FormatError(err, false, false))
	}
	for _, a := range added {
		i := slices.IndexFunc(values, func(v yaml.MapItem) bool { return v.Key == a.Key })
		if i < 0 || values[i].Value == nil {
			if i >= 0 {
				values = slices.Delete(values, i, i+1)
			}
			values = append(values, a)
			continue
		}
		list, ok := values[i].Value.([]any)
		if !ok {
			return nil, problem.New(problem.Invalid, "user_data", "its %q is no list, so nothing can be added to it", a.Key).
				WithRemedy("write it as a list, or leave out what is added (user, ssh_keys, ready)")
		}
		more := a.Value.([]any)
		if a.Key == "users" {
			more = more[1:]
		}
		values[i].Value = append(slices.Clone(list), more...)
	}
	return values, nil
}

// parts are the types of what a text may begin with; the longer ones first.
var parts = []struct{ begins, is string }{
	{"## template:", "text/jinja2"},
	{"#!", "text/x-shellscript"},
	{"#cloud-config-archive", "text/cloud-config-archive"},
	{"#cloud-config-jsonp", "text/cloud-config-jsonp"},
	{"#cloud-boothook", "text/cloud-boothook"},
	{"#include-once", "text/x-include-once-url"},
	{"#include", "text/x-include-url"},
	{"#part-handler", "text/part-handler"},
}

// multipart is a MIME message of a cloud-config and what is something else.
func multipart(ours, theirs string) []byte {
	sum := sha256.Sum256([]byte(ours + theirs))
	boundary := fmt.Sprintf("berth-%x", sum[:12])
	var b strings.Builder
	part := func(kind, text string) {
		fmt.Fprintf(&b, "--%s\n", boundary)
		if kind != "" {
			fmt.Fprintf(&b, "Content-Type: %s; charset=\"utf-8\"\nMIME-Version: 1.0\n\n", kind)
		}
		b.WriteString(strings.TrimSuffix(text, "\n") + "\n")
	}
	fmt.Fprintf(&b, "Content-Type: multipart/mixed; boundary=%q\nMIME-Version: 1.0\n\n", boundary)
	part("text/cloud-config", ours)
	kind := "text/plain"
	for _, p := range parts {
		if strings.HasPrefix(theirs, p.begins) {
			kind = p.is
			break
		}
	}
	if message.MatchString(theirs) {
		kind = "" // it has its own headers
	}
	part(kind, theirs)
	fmt.Fprintf(&b, "--%s--\n", boundary)
	return []byte(b.String())
}

var message = regexp.MustCompile(`(?i)^(content-type|mime-version):`)
