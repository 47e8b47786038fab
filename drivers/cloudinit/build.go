package cloudinit

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/kdomanski/iso9660"

	"github.com/berthd/berth/problem"
)

// maxText bounds each text of the input, in bytes.
const maxText = 1 << 20

// Build makes the image: an ISO 9660 file system of a few KiB. A problem's field is one of
// the config block's cloud_init: "user_data", "network_config", ...
func Build(in Input) ([]byte, error) {
	if err := in.check(); err != nil {
		return nil, err
	}
	user, err := in.userData()
	if err != nil {
		return nil, err
	}
	if in.Datasource == ConfigDrive {
		files, err := in.configDrive(user)
		if err != nil {
			return nil, err
		}
		return volume("config-2", files)
	}
	files, err := in.noCloud(user)
	if err != nil {
		return nil, err
	}
	return volume("CIDATA", files)
}

// hostname is a label of DNS, or several.
var hostname = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?$`)

func (in *Input) check() error {
	if in.Datasource != NoCloud && in.Datasource != ConfigDrive {
		return problem.New(problem.Invalid, "datasource", "%q is neither %q nor %q", in.Datasource, NoCloud, ConfigDrive)
	}
	if in.Hostname != "" && !hostname.MatchString(in.Hostname) {
		return problem.New(problem.Invalid, "hostname", "%q is no name of a host", in.Hostname)
	}
	texts := map[string]string{"user_data": in.UserData, "vendor_data": in.VendorData, "network_config": in.NetworkConfig}
	for _, field := range slices.Sorted(maps.Keys(texts)) {
		if len(texts[field]) > maxText {
			return problem.New(problem.Invalid, field, "is %d bytes long, more than %d", len(texts[field]), maxText)
		}
	}
	for i, u := range in.Users {
		if err := u.check(fmt.Sprintf("user[%d]", i)); err != nil {
			return err
		}
	}
	return checkKeys("ssh_keys", in.SSHKeys)
}

func (in *Input) noCloud(user []byte) (map[string][]byte, error) {
	meta := yaml.MapSlice{{Key: "instance-id", Value: in.InstanceID}}
	if in.Hostname != "" {
		meta = append(meta, yaml.MapItem{Key: "local-hostname", Value: in.Hostname})
	}
	text, err := yaml.Marshal(meta)
	if err != nil {
		return nil, fmt.Errorf("writing meta-data: %w", err)
	}
	files := map[string][]byte{"meta-data": text, "user-data": user}
	if in.VendorData != "" {
		files["vendor-data"] = []byte(in.VendorData)
	}
	if in.NetworkConfig != "" {
		// Read for its errors only: the guest gets what was written.
		if _, err := parseNetwork(in.NetworkConfig, false); err != nil {
			return nil, err
		}
		files["network-config"] = []byte(in.NetworkConfig)
	}
	return files, nil
}

func (in *Input) configDrive(user []byte) (map[string][]byte, error) {
	const dir = "openstack/latest/"
	meta := map[string]string{"uuid": in.InstanceID}
	if in.Hostname != "" {
		meta["hostname"] = in.Hostname
	}
	values := map[string]any{"meta_data.json": meta}
	if in.VendorData != "" {
		values["vendor_data.json"] = map[string]string{"cloud-init": in.VendorData}
	}
	if in.NetworkConfig != "" {
		network, err := openstackNetwork(in.NetworkConfig)
		if err != nil {
			return nil, err
		}
		values["network_data.json"] = network
	}
	files := map[string][]byte{dir + "user_data": user}
	for name, v := range values {
		text, err := json.MarshalIndent(v, "", "  ")
		if err != nil {
			return nil, fmt.Errorf("writing %s: %w", name, err)
		}
		files[dir+name] = append(text, '\n')
	}
	return files, nil
}

// volume writes the files into an ISO 9660 file system.
func volume(label string, files map[string][]byte) ([]byte, error) {
	w, err := iso9660.NewWriter()
	if err != nil {
		return nil, fmt.Errorf("making cloud-init's medium: %w", err)
	}
	defer func() { _ = w.Cleanup() }()
	for _, path := range slices.Sorted(maps.Keys(files)) {
		if err := w.AddFile(bytes.NewReader(files[path]), path); err != nil {
			return nil, fmt.Errorf("making cloud-init's medium: %w", err)
		}
	}
	var b bytes.Buffer
	if err := w.WriteTo(&b, label); err != nil {
		return nil, fmt.Errorf("making cloud-init's medium: %w", err)
	}
	// The library writes the time at which the volume was made: that would make equal
	// inputs unequal. "Not specified" is sixteen zeros and a zero byte (ECMA-119 8.4.26.1).
	const descriptor, created, effective, stamp = 16 * 2048, 813, 864, 17
	none := strings.Repeat("0", stamp-1) + "\x00"
	for at := created; at <= effective; at += stamp {
		copy(b.Bytes()[descriptor+at:], none)
	}
	return b.Bytes(), nil
}
