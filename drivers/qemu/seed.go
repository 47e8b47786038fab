package qemu

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/berthd/berth/drivers/cloudinit"
	"github.com/berthd/berth/drivers/qemu/machine"
	"github.com/berthd/berth/problem"
)

// seed writes the medium that cloud-init in the guest reads.
func (m *preparer) seed(context.Context) error {
	c := m.c.GetCloudInit()
	if c == nil {
		return nil
	}
	in := cloudinit.Input{
		Datasource: c.GetDatasource(), InstanceID: machine.UUID(m.t.ID),
		Hostname: cmp.Or(c.GetHostname(), hostname(cmp.Or(m.t.Env["BERTH_ALLOC_NAME"], m.t.Name))),
		UserData: c.GetUserData(), NetworkConfig: c.GetNetworkConfig(), VendorData: c.GetVendorData(),
		SSHKeys: c.GetSshKeys(), Ready: m.c.GetReady() == "phone-home",
	}
	if file := c.GetUserDataFile(); file != "" {
		text, err := readInside(m.t.Dirs.Task, file)
		if err != nil {
			return problem.New(problem.Invalid, "config.cloud_init.user_data_file", "%w", err)
		}
		in.UserData = text
	}
	for _, u := range c.GetUsers() {
		in.Users = append(in.Users, cloudinit.User{
			Name: u.GetName(), SSHKeys: u.GetSshKeys(), Groups: u.GetGroups(), Sudo: u.GetSudo(),
			PasswordHash: u.GetPasswordHash(), Shell: u.GetShell(),
		})
	}
	iso, err := cloudinit.Build(in)
	if err != nil {
		p := *problem.From(err)
		p.Field = "config.cloud_init." + p.Field
		return &p
	}
	m.p.Seed = filepath.Join(m.dir, "seed.iso")
	if err := os.WriteFile(m.p.Seed, iso, 0o600); err != nil {
		return unavailable("writing the medium for cloud-init", err)
	}
	return nil
}

// hostname makes a host name of an allocation's: "web.group[0]" is web-group-0.
func hostname(words string) string {
	clean := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' {
			return r
		}
		return '-'
	}, words)
	return strings.Trim(clean[:min(len(clean), 63)], "-")
}

// readInside reads a file of a directory that may not lead out of it.
func readInside(dir, file string) (string, error) {
	const most = 1 << 20
	root, err := os.OpenRoot(dir)
	if err != nil {
		return "", err
	}
	defer root.Close()
	f, err := root.Open(strings.TrimPrefix(file, "./"))
	if err != nil {
		return "", err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, most+1))
	if err == nil && len(b) > most {
		err = fmt.Errorf("%s has more than %d KiB", file, most>>10)
	}
	return string(b), err
}
