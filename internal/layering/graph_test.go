package layering

import (
	"fmt"
	"slices"
	"strings"
)

// pkg is a package of this module, as far as the rules look at it.
type pkg struct {
	path    string // inside the module; "" is its root
	name    string
	doc     string   // synopsis of the package comment
	imports []string // as patterns are written: "server/api", "std:os", "lib:..."
}

// notation writes an import path as the rules do.
func notation(module, path string) string {
	if rest, ok := strings.CutPrefix(path, module+"/"); ok {
		return rest
	}
	if first, _, _ := strings.Cut(path, "/"); strings.Contains(first, ".") {
		return "lib:" + path
	}
	return "std:" + path
}

// covers says whether path is pattern or lies below it.
func covers(pattern, path string) bool {
	switch pattern {
	case "module":
		return !strings.HasPrefix(path, "lib:") && !strings.HasPrefix(path, "std:")
	case "lib:":
		return strings.HasPrefix(path, "lib:")
	}
	rest, ok := strings.CutPrefix(path, pattern)
	return ok && (rest == "" || rest[0] == '/')
}

func anyCovers(patterns []string, path string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool { return covers(p, path) })
}

// applies says whether the rule is about imports by path.
func (r rule) applies(path string) bool {
	if r.but != nil {
		return !anyCovers(r.but, path)
	}
	return anyCovers(r.from, path)
}

// forbids says whether the rule, which applies to from, forbids it to import path.
func (r rule) forbids(from, path string) bool {
	itself := slices.ContainsFunc(r.from, func(f string) bool { return covers(f, from) && covers(f, path) })
	return anyCovers(r.forbid, path) && !anyCovers(r.except, path) && !itself
}

// violations checks imports against the rules. A chain of imports that several rules forbid
// is told once, with the reason of the first.
func violations(pkgs []pkg, rules []rule) []string {
	byPath := map[string]pkg{}
	for _, p := range pkgs {
		byPath[p.path] = p
	}
	var found []string
	told := map[string]bool{}
	for _, r := range rules {
		for _, p := range pkgs {
			if !r.applies(p.path) {
				continue
			}
			for _, chain := range forbidden(byPath, r, []string{p.path}, map[string]bool{}) {
				way := strings.Join(chain, " -> ")
				if !told[way] {
					told[way] = true
					found = append(found, way+": "+r.why)
				}
			}
		}
	}
	slices.Sort(found)
	return found
}

// forbidden walks on from the end of chain, and gives the chains that end in what r forbids
// to their start.
func forbidden(byPath map[string]pkg, r rule, chain []string, seen map[string]bool) [][]string {
	var found [][]string
	for _, next := range byPath[chain[len(chain)-1]].imports {
		longer := append(slices.Clone(chain), next)
		_, inside := byPath[next]
		switch {
		case seen[next]:
		case !inside && len(chain) > 1: // not direct
		case r.forbids(chain[0], next):
			seen[next] = true
			found = append(found, longer)
		case inside && !r.applies(next) && !anyCovers(r.except, next):
			// What the rule applies to is looked at by itself; what it excepts has rules of its own.
			seen[next] = true
			found = append(found, forbidden(byPath, r, longer, seen)...)
		}
	}
	return found
}

// untidy checks names and comments.
func untidy(pkgs []pkg) []string {
	var found []string
	for _, p := range pkgs {
		if p.path == "" {
			found = append(found, "there are Go files in the repository's root: it is for people, code has rooms")
			continue
		}
		if p.doc == "" {
			found = append(found, p.path+": no package comment: say what it owns, what it promises, who calls it")
		}
		for _, name := range append(strings.Split(p.path, "/"), p.name) {
			if slices.Contains(vagueNames, name) {
				found = append(found, fmt.Sprintf("%s: the name %q says nothing: name it by what it is for", p.path, name))
				break
			}
		}
	}
	return found
}
