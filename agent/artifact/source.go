package artifact

import (
	"net/url"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	getter "github.com/hashicorp/go-getter/v2"

	"github.com/berthd/berth/problem"
	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

// source is where an artifact comes from.
type source struct {
	git bool
	url *url.URL
	// sub is the directory of it that is wanted; "": all.
	sub string
	// name is what a single file is called.
	name string
	// archive is the kind of archive that is unpacked; "": it is left as it is.
	archive string
	// alone says that the archive is one compressed file.
	alone bool
}

func (s *source) String() string {
	u := *s.url
	u.RawQuery = ""
	if s.git {
		return "git::" + u.Redacted()
	}
	return u.Redacted()
}

var (
	// refs are branches, tags and commits; what begins with - would be an option of git.
	refs = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9._/-]{0,199}$`)
	// archives are the endings that say how a file is unpacked, the longest of a kind first.
	archives = []string{"tar.bz2", "tar.gz", "tar.xz", "tar.zst", "tbz2", "tgz", "txz", "tzst", "tar", "zip"}
	// alone are the endings of single files.
	alone = []string{"bz2", "gz", "xz", "zst"}
)

// parse reads a definition, and refuses what is not allowed.
func parse(a *berthv1.Artifact) (*source, error) {
	invalid := func(field, remedy, format string, args ...any) error {
		return problem.New(problem.Invalid, field, format, args...).WithRemedy("%s", remedy)
	}
	const sources = "http://, https://, file:/// and git::https:// are fetched"
	text, git := strings.CutPrefix(a.GetSource(), "git::")
	text, sub := getter.SourceDirSubdir(text)
	u, err := url.Parse(text)
	if err != nil || u.Scheme == "" {
		return nil, invalid("source", sources, "the source is not a URL")
	}
	s := &source{git: git, url: u, sub: sub, name: path.Base(u.Path)}
	switch {
	case u.Scheme == "file" && u.Host != "":
		return nil, invalid("source", "write file:///path", "a file of another host (%q) cannot be fetched", u.Host)
	case u.Scheme != "http" && u.Scheme != "https" && u.Scheme != "file":
		return nil, invalid("source", sources, "%q sources are not fetched", u.Scheme)
	case sub != "" && !filepath.IsLocal(sub):
		return nil, invalid("source", "", "the part after // leads out of what is fetched")
	case !git && (s.name == "." || s.name == "/" || strings.HasSuffix(u.Path, "/")):
		return nil, invalid("source", "name a file; a directory is fetched as an archive or by git", "the source has no file name")
	case a.GetMode() == "file" && (git || sub != ""):
		return nil, invalid("mode", `leave it out, or write "dir"`, "a directory is fetched, not a file")
	case git && a.GetChecksum() != "":
		return nil, invalid("checksum", "write the whole commit id as options.ref", "a repository has no checksum")
	}
	options := map[string]string{}
	for k, v := range u.Query() {
		if git || k == "checksum" || k == "archive" || k == "sshkey" {
			options[k] = v[0]
		}
	}
	for k, v := range a.GetOptions() {
		options[k] = v
	}
	if err := s.take(options); err != nil {
		return nil, err
	}
	s.unpacking(a.GetMode(), options["archive"])
	if sub != "" && !git && s.archive == "" {
		return nil, invalid("source", "", "a part after // is for archives and repositories, and %q is neither", s.name)
	}
	if a.GetMode() == "dir" && !git && (s.archive == "" || s.alone) {
		return nil, invalid("mode", "options.archive says of what kind it is, if its name does not", "%q is no archive that could be unpacked into a directory", s.name)
	}
	return s, nil
}

// take checks the options, and leaves those that are git's in the URL.
func (s *source) take(options map[string]string) error {
	query := s.url.Query()
	for k, v := range options {
		ok := false
		switch {
		case k == "ref" && s.git:
			ok = refs.MatchString(v) && !strings.Contains(v, "..")
		case k == "depth" && s.git:
			n, err := strconv.ParseUint(v, 10, 31)
			ok = err == nil && n > 0
		case k == "archive" && !s.git:
			ok = v == "false" || known(v)
			query.Del(k)
		case k == "checksum":
			return problem.New(problem.Invalid, "source", "the checksum stands in the source").WithRemedy("write it as checksum")
		default:
			return problem.New(problem.Invalid, "options."+k, "there is no such option here").
				WithRemedy("git takes ref and depth, the others archive")
		}
		if !ok {
			return problem.New(problem.Invalid, "options."+k, "%q is not allowed", v)
		}
		if s.git {
			query.Set(k, v)
		}
	}
	s.url.RawQuery = query.Encode()
	return nil
}

func known(archive string) bool {
	for _, list := range [][]string{archives, alone} {
		for _, k := range list {
			if k == archive {
				return true
			}
		}
	}
	return false
}

// unpacking finds out how it is unpacked: by the option, else by its name.
func (s *source) unpacking(mode, option string) {
	if s.git || mode == "file" || option == "false" {
		return
	}
	s.archive = option
	for _, list := range [][]string{archives, alone} {
		for _, k := range list {
			if s.archive == "" && strings.HasSuffix(s.name, "."+k) {
				s.archive = k
			}
		}
	}
	for _, k := range alone {
		s.alone = s.alone || s.archive == k
	}
}

// openToAll refuses files of the host that not everybody may read: the agent is root, who
// submits a job is not.
func openToAll(file string) (string, error) {
	real, err := filepath.EvalSymlinks(file)
	if err != nil {
		return "", err
	}
	for at, need := real, os.FileMode(0o004); ; at, need = filepath.Dir(at), 0o001 {
		info, err := os.Stat(at)
		if err != nil {
			return "", err
		}
		if at == real && info.IsDir() {
			need = 0o005
		}
		if info.Mode().Perm()&need != need {
			return "", problem.New(problem.Invalid, "source", "not every user of the host may read it: see the permissions of %s", at)
		}
		if at == filepath.Dir(at) {
			return real, nil
		}
	}
}
