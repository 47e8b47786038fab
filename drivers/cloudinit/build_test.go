package cloudinit

import (
	"bytes"
	"flag"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kdomanski/iso9660"

	"github.com/berthd/berth/problem"
)

var update = flag.Bool("update", false, "write the golden files anew")

const key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIC ann@example"

// full has one of everything.
func full() Input {
	return Input{
		Datasource: NoCloud, InstanceID: "0193-a", Hostname: "web-0.example",
		UserData:      "#cloud-config\npackages: [nginx]\nusers:\n  - name: old\nruncmd:\n  - [echo, hello]\n",
		NetworkConfig: "version: 2\nethernets:\n  one:\n    match: {macaddress: \"52:54:00:AA:bb:01\"}\n    addresses: [10.0.0.5/24, \"fd00::5/64\"]\n    gateway4: 10.0.0.1\n    mtu: 1400\n    nameservers: {addresses: [10.0.0.2]}\n    routes: [{to: 192.168.0.0/16, via: 10.0.0.9}, {to: default, via: \"fd00::1\"}]\n  two:\n    match: {macaddress: \"52:54:00:aa:bb:02\"}\n    dhcp4: true\n",
		VendorData:    "#cloud-config\npackage_update: true\n",
		Users:         []User{{Name: "ann", SSHKeys: []string{key}, Groups: []string{"adm", "video"}, Sudo: true, Shell: "/bin/bash"}, {Name: "bob", PasswordHash: "$6$salt$hash/of.it"}},
		SSHKeys:       []string{key}, Ready: true,
	}
}

// TestGolden holds what a guest reads: testdata/<case>/<file>.
func TestGolden(t *testing.T) {
	cases := map[string]func(*Input){
		"nocloud":      func(*Input) {},
		"config-drive": func(in *Input) { in.Datasource = ConfigDrive },
		"empty":        func(in *Input) { *in = Input{Datasource: NoCloud, InstanceID: "i"} },
		"as-it-is": func(in *Input) {
			*in = Input{Datasource: NoCloud, InstanceID: "i", UserData: "#cloud-config\n# a comment stays\na: 1\n"}
		},
		"only-users": func(in *Input) { in.UserData, in.NetworkConfig, in.VendorData = "", "", "" },
		"script":     func(in *Input) { in.UserData = "#!/bin/sh\necho hello\n" },
		"jinja":      func(in *Input) { in.UserData = "## template: jinja\n#cloud-config\nfqdn: {{ v1.x }}\n" },
		"message": func(in *Input) {
			in.UserData = "Content-Type: multipart/mixed; boundary=\"x\"\nMIME-Version: 1.0\n\n--x\nContent-Type: text/x-shellscript\n\n#!/bin/sh\ntrue\n--x--\n"
		},
	}
	for name, change := range cases {
		t.Run(name, func(t *testing.T) {
			in := full()
			change(&in)
			image, err := Build(in)
			if err != nil {
				t.Fatal(err)
			}
			if again, _ := Build(in); !bytes.Equal(image, again) {
				t.Error("equal inputs gave different bytes")
			}
			got := read(t, image)
			dir := filepath.Join("testdata", name)
			if *update {
				_ = os.RemoveAll(dir)
				for file, text := range got {
					path := filepath.Join(dir, file)
					_ = os.MkdirAll(filepath.Dir(path), 0o755)
					if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
						t.Fatal(err)
					}
				}
			}
			for file, text := range got {
				want, err := os.ReadFile(filepath.Join(dir, file))
				if err != nil || string(want) != text {
					t.Errorf("%s (%v):\n%s\nwant\n%s", file, err, text, want)
				}
			}
			want := 0
			_ = filepath.Walk(dir, func(_ string, info os.FileInfo, _ error) error {
				if !info.IsDir() {
					want++
				}
				return nil
			})
			if len(got) != want {
				t.Errorf("%d files, want %d", len(got), want)
			}
		})
	}
}

// read gives all files of an image.
func read(t *testing.T, image []byte) map[string]string {
	t.Helper()
	opened, err := iso9660.OpenImage(bytes.NewReader(image))
	if err != nil {
		t.Fatal(err)
	}
	root, err := opened.RootDir()
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{}
	var walk func(dir string, f *iso9660.File)
	walk = func(dir string, f *iso9660.File) {
		children, err := f.GetChildren()
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range children {
			path := filepath.Join(dir, c.Name())
			if c.IsDir() {
				walk(path, c)
				continue
			}
			text, err := io.ReadAll(c.Reader())
			if err != nil {
				t.Fatal(err)
			}
			files[path] = string(text)
		}
	}
	walk("", root)
	return files
}

// TestOtherReaders reads it by other programs than the one that wrote it.
func TestOtherReaders(t *testing.T) {
	for _, datasource := range []string{NoCloud, ConfigDrive} {
		in := full()
		in.Datasource = datasource
		image, err := Build(in)
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(t.TempDir(), "seed.iso")
		if err := os.WriteFile(path, image, 0o600); err != nil {
			t.Fatal(err)
		}
		file, label := "/user-data", "CIDATA"
		if datasource == ConfigDrive {
			file, label = "/openstack/latest/user_data", "config-2"
		}
		if tool, err := exec.LookPath("isoinfo"); err != nil {
			t.Log("isoinfo is not installed: not read by it")
		} else {
			about, err := exec.Command(tool, "-d", "-i", path).CombinedOutput()
			if err != nil || !strings.Contains(string(about), "Volume id: "+label) {
				t.Errorf("%v\n%s", err, about)
			}
			list, err := exec.Command(tool, "-f", "-i", path).CombinedOutput()
			if err != nil || !strings.Contains(strings.ToLower(string(list)), file) {
				t.Errorf("%v\n%s", err, list)
			}
		}
		if tool, err := exec.LookPath("blkid"); err != nil {
			t.Log("blkid is not installed: its label is not read by it")
		} else if out, err := exec.Command(tool, "-p", "-o", "value", "-s", "LABEL", path).CombinedOutput(); err != nil || strings.TrimSpace(string(out)) != label {
			t.Errorf("label %q, %v", out, err)
		}
		if tool, err := exec.LookPath("cloud-init"); err != nil {
			t.Log("cloud-init is not installed: its schema is not asked")
		} else {
			config := filepath.Join(t.TempDir(), "user-data")
			_ = os.WriteFile(config, []byte(read(t, image)[file[1:]]), 0o600)
			if out, err := exec.Command(tool, "schema", "-c", config).CombinedOutput(); err != nil {
				t.Errorf("%v\n%s", err, out)
			}
		}
	}
}

func TestRefused(t *testing.T) {
	cases := map[string]func(*Input){
		"datasource":            func(in *Input) { in.Datasource = "floppy" },
		"hostname":              func(in *Input) { in.Hostname = "a b" },
		"user_data":             func(in *Input) { in.UserData = "#cloud-config\na: [" },
		"user[0].name":          func(in *Input) { in.Users[0].Name = "Root:0" },
		"user[1].password_hash": func(in *Input) { in.Users[1].PasswordHash = "secret" },
		"user[0].shell":         func(in *Input) { in.Users[0].Shell = "bash" },
		"user[0].groups":        func(in *Input) { in.Users[0].Groups = []string{"a,b"} },
		"user[0].ssh_keys[0]":   func(in *Input) { in.Users[0].SSHKeys = []string{key + "\n" + key} },
		"ssh_keys[0]":           func(in *Input) { in.SSHKeys = []string{"x"} },
		"network_config":        func(in *Input) { in.NetworkConfig = "version: 1" },
		"vendor_data":           func(in *Input) { in.VendorData = strings.Repeat("x", maxText+1) },
	}
	for field, change := range cases {
		in := full()
		change(&in)
		if _, err := Build(in); !problem.Is(err, problem.Invalid) || problem.From(err).Field != field {
			t.Errorf("%s: %v", field, err)
		}
	}
	for _, text := range []string{
		"version: 2\nbonds: {b: {}}", "version: 2\nethernets: {a: {dhcp4: true}}",
		"version: 2\nethernets: {a: {match: {macaddress: x}, wakeonlan: true}}",
	} {
		in := full()
		in.Datasource, in.NetworkConfig = ConfigDrive, text
		if _, err := Build(in); !problem.Is(err, problem.Unsupported) {
			t.Errorf("%q: %v", text, err)
		}
		in.Datasource = NoCloud
		if _, err := Build(in); err != nil {
			t.Errorf("%q with nocloud: %v", text, err)
		}
	}
	for _, text := range []string{"#cloud-config\nusers: ann", "#cloud-config\nwrite_files: {a: b}", "#cloud-config\n- a\n"} {
		in := full()
		in.UserData = text
		if _, err := Build(in); !problem.Is(err, problem.Invalid) {
			t.Errorf("%q: %v", text, err)
		}
	}
}

// FuzzUserData: whatever a user writes is refused, or can be built and is there.
func FuzzUserData(f *testing.F) {
	f.Add("#cloud-config\nusers: [default]\n", "version: 2\nethernets: {a: {dhcp4: true}}\n")
	f.Add("#!/bin/sh\n", "")
	f.Add("#cloud-config\nwrite_files:\n- &a {path: /x}\n- *a\n", "network: {version: 2}")
	f.Fuzz(func(t *testing.T, user, network string) {
		in := full()
		in.UserData, in.NetworkConfig = user, network
		for _, in.Datasource = range []string{NoCloud, ConfigDrive} {
			image, err := Build(in)
			if err == nil && !bytes.Contains(image, []byte(key)) {
				t.Errorf("%q lost the keys", user)
			}
		}
	})
}
