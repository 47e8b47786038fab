package diskimage

import (
	"archive/tar"
	"bufio"
	"crypto/sha1" //nolint:gosec // what old OVAs have; it finds damage, it trusts nobody
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"encoding/xml"
	"errors"
	"fmt"
	"hash"
	"io"
	"path"
	"regexp"
	"strings"
)

const (
	maxMembers = 1000
	maxOVF     = 4 << 20
)

// Member is a disk in an OVA.
type Member struct {
	Name   string
	Info   *Info
	f      *file
	digest string // "SHA256:<hex>" of the manifest; "": none
}

// Reader reads the disk from its beginning.
func (m *Member) Reader() *io.SectionReader { return m.f.section(0, m.f.size) }

// Verify compares the disk with the archive's manifest, where there is one. It reads all of it.
func (m *Member) Verify() error {
	if m.digest == "" {
		return nil
	}
	kind, want, _ := strings.Cut(m.digest, ":")
	h := map[string]func() hash.Hash{"SHA1": sha1.New, "SHA256": sha256.New, "SHA512": sha512.New}[kind]
	if h == nil {
		return invalid("its manifest has a sum of the unknown kind %q", kind)
	}
	sum := h()
	if _, err := io.Copy(sum, m.Reader()); err != nil {
		return fmt.Errorf("reading %s: %w", m.Name, err)
	}
	if got := hex.EncodeToString(sum.Sum(nil)); !strings.EqualFold(got, want) {
		return invalid("%s in it does not match its manifest: %s is %s", m.Name, kind, got)
	}
	return nil
}

// inspectOVA reads an archive of a description (OVF) and one disk. Nothing is written
// anywhere by a name that stands in it.
func inspectOVA(f *file) (*Info, error) {
	members, ovf, manifest, err := readTar(f)
	if err != nil {
		return nil, err
	}
	if ovf == nil {
		return nil, invalid("it is a tar archive without an .ovf")
	}
	var e envelope
	if err := xml.Unmarshal(ovf, &e); err != nil {
		return nil, invalid("its .ovf cannot be read: %s", err)
	}
	if len(e.Disks) != 1 {
		return nil, refused(fmt.Sprintf("it has %d disks, not one", len(e.Disks)), "take the disks out of it (tar xf) and use them by themselves")
	}
	name := ""
	for _, r := range e.References {
		if r.ID == e.Disks[0].FileRef {
			name = r.Href
		}
	}
	disk := members[name]
	if name == "" || disk == nil {
		return nil, invalid("its .ovf names a disk %q that is not in it", name)
	}
	info, err := Inspect(disk.r, disk.size, "auto")
	if err != nil {
		return nil, fmt.Errorf("%s in it: %w", path.Base(name), err)
	}
	if info.Format == OVA || info.Format == ISO {
		return nil, invalid("%s in it is no disk but %s", path.Base(name), info.Format)
	}
	return &Info{VirtualSize: info.VirtualSize, Hints: e.hints(info.Hints), Disk: &Member{Name: path.Base(name), Info: info, f: disk, digest: manifest[name]}}, nil
}

// readTar finds the members' places, without reading them but for the .ovf and the manifest.
func readTar(f *file) (members map[string]*file, ovf []byte, manifest map[string]string, err error) {
	members = map[string]*file{}
	archive := f.section(0, f.size)
	t := tar.NewReader(archive)
	for range maxMembers {
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			return members, ovf, manifest, nil
		}
		if err != nil {
			return nil, nil, nil, invalid("its archive is cut off or broken: %s", err)
		}
		at, err := archive.Seek(0, io.SeekCurrent)
		if err != nil {
			return nil, nil, nil, fmt.Errorf("reading an archive: %w", err)
		}
		sparse := h.Typeflag == tar.TypeGNUSparse || h.PAXRecords["GNU.sparse.major"] != "" || h.PAXRecords["GNU.sparse.map"] != ""
		if h.Typeflag != tar.TypeReg || sparse {
			return nil, nil, nil, invalid("%q in it is no plain file", h.Name)
		}
		if h.Size > f.size-at {
			return nil, nil, nil, invalid("it is cut off: %q has %d bytes, and %d are there", h.Name, h.Size, f.size-at)
		}
		members[h.Name] = &file{r: f.section(at, h.Size), size: h.Size}
		switch strings.ToLower(path.Ext(h.Name)) {
		case ".ovf":
			if ovf != nil || h.Size > maxOVF {
				return nil, nil, nil, invalid("it has several descriptions, or one of %d bytes", h.Size)
			}
			ovf, err = members[h.Name].read(0, h.Size)
		case ".mf":
			manifest, err = readManifest(members[h.Name])
		}
		if err != nil {
			return nil, nil, nil, err
		}
	}
	return nil, nil, nil, invalid("it has more than %d members", maxMembers)
}

var manifestLine = regexp.MustCompile(`^(SHA\d+) ?\((.+)\) ?= ?([0-9a-fA-F]+)$`)

func readManifest(f *file) (map[string]string, error) {
	if f.size > maxOVF {
		return nil, invalid("its manifest has %d bytes", f.size)
	}
	sums := map[string]string{}
	for s := bufio.NewScanner(f.section(0, f.size)); s.Scan(); {
		if m := manifestLine.FindStringSubmatch(strings.TrimSpace(s.Text())); m != nil {
			sums[m[2]] = m[1] + ":" + m[3]
		}
	}
	return sums, nil
}

// envelope is what is read of an OVF, in whatever namespaces.
type envelope struct {
	References []struct {
		ID   string `xml:"id,attr"`
		Href string `xml:"href,attr"`
	} `xml:"References>File"`
	Disks []struct {
		FileRef string `xml:"fileRef,attr"`
	} `xml:"DiskSection>Disk"`
	System struct {
		OS struct {
			Type        string `xml:"osType,attr"`
			Description string `xml:"Description"`
		} `xml:"OperatingSystemSection"`
		Config []struct {
			Key   string `xml:"key,attr"`
			Value string `xml:"value,attr"`
		} `xml:"VirtualHardwareSection>Config"`
	} `xml:"VirtualSystem"`
}

// hints are the description's, then the disk's own.
func (e *envelope) hints(disk Hints) Hints {
	words := strings.ToLower(e.System.OS.Type + " " + e.System.OS.Description)
	for _, x := range []struct{ word, os string }{
		{"windows", "windows"}, {"freebsd", "freebsd"}, {"linux", "linux"}, {"debian", "linux"}, {"ubuntu", "linux"},
		{"rhel", "linux"}, {"centos", "linux"}, {"fedora", "linux"}, {"suse", "linux"},
	} {
		if strings.Contains(words, x.word) {
			disk.OS = x.os
			break
		}
	}
	switch {
	case disk.Arch != "":
	case strings.Contains(words, "arm64") || strings.Contains(words, "aarch64"):
		disk.Arch = "arm64"
	case strings.Contains(words, "64"):
		disk.Arch = "amd64"
	}
	for _, c := range e.System.Config {
		if c.Key == "firmware" {
			disk.Firmware = map[string]string{"efi": "uefi", "bios": "bios"}[c.Value]
		}
	}
	return disk
}
