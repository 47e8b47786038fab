package guest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// fetch unpacks Debian packages below dir, with an apt of its own that knows the host's
// mirrors and keys but leaves the host's state alone. A package that is empty but for what
// it depends on, as linux-image-cloud-amd64, brings the image that it names.
func fetch(ctx context.Context, arch, dir string, packages ...string) error {
	root := filepath.Join(dir, "apt")
	defer os.RemoveAll(root)
	for _, d := range []string{"state/lists/partial", "cache/archives/partial", "debs"} {
		if err := os.MkdirAll(filepath.Join(root, d), 0o755); err != nil {
			return err
		}
	}
	if err := os.WriteFile(filepath.Join(root, "status"), nil, 0o644); err != nil {
		return err
	}
	a := apt{dir: filepath.Join(root, "debs"), options: []string{
		"-o", "APT::Architecture=" + arch, "-o", "APT::Architectures=" + arch, "-o", "APT::Sandbox::User=",
		"-o", "Dir::State=" + filepath.Join(root, "state"), "-o", "Dir::State::status=" + filepath.Join(root, "status"),
		"-o", "Dir::Cache=" + filepath.Join(root, "cache"), "-o", "Acquire::Languages=none", "-q",
	}}
	if _, err := a.run(ctx, "apt-get", "update", "--error-on=any"); err != nil {
		return err
	}
	for i, p := range packages {
		if !strings.HasPrefix(p, "linux-image-cloud-") {
			continue
		}
		out, err := a.run(ctx, "apt-cache", "depends", p)
		if err != nil {
			return err
		}
		_, after, _ := strings.Cut(out, "Depends: ")
		name, _, _ := strings.Cut(after, "\n")
		packages = slices.Clone(packages)
		packages[i] = strings.TrimSpace(name)
	}
	if _, err := a.run(ctx, "apt-get", append([]string{"download"}, packages...)...); err != nil {
		return err
	}
	debs, err := filepath.Glob(filepath.Join(a.dir, "*.deb"))
	if err != nil || len(debs) != len(packages) {
		return fmt.Errorf("apt-get fetched %d packages of %d", len(debs), len(packages))
	}
	for _, deb := range debs {
		if _, err := run(ctx, dir, "dpkg", "-x", deb, dir); err != nil {
			return err
		}
	}
	return nil
}

type apt struct {
	dir     string
	options []string
}

func (a apt) run(ctx context.Context, program string, args ...string) (string, error) {
	return run(ctx, a.dir, program, append(slices.Clone(a.options), args...)...)
}

// run gives a program's output; its error has what it complained about last.
func run(ctx context.Context, dir, program string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Dir = dir
	var out, complaint bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &complaint
	err := cmd.Run()
	if errors.Is(err, exec.ErrNotFound) {
		return "", fmt.Errorf("%s is not there", program)
	}
	if err != nil {
		said := strings.TrimSpace(complaint.String())
		return "", fmt.Errorf("%s: %w: %s", program, err, said[max(0, len(said)-300):])
	}
	return out.String(), nil
}
