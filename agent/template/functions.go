package template

import (
	"bytes"
	"cmp"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"html"
	"net/url"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"text/template"
	"time"

	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

// stepName is called where something may go on for long; see bound.
const stepName = "_step"

// run is one rendering.
type run struct {
	in               Input
	read             map[string]*berthv1.Topic
	missing, unknown []string
	readsVariable    bool
	steps            int
	end              time.Time
}

// step counts. What it gives is written as nothing.
func (r *run) step() (string, error) {
	if r.steps++; r.steps > maxSteps {
		return "", errLimit(fmt.Sprintf("its loops have more than %d rounds", maxSteps))
	}
	if time.Now().After(r.end) {
		return "", errLimit(fmt.Sprintf("rendering takes longer than %s", maxTime))
	}
	return "", nil
}

// functions are those of berthv1.TemplateFunctions, the step, and those of text/template
// that could make very long texts of short ones.
func (r *run) functions() template.FuncMap {
	return template.FuncMap{
		stepName:     r.step,
		"service":    func(name string, tags ...string) (any, error) { return r.service(name, tags, true) },
		"tryService": func(name string, tags ...string) (any, error) { return r.service(name, tags, false) },
		"var":        func(name string) (map[string]string, error) { return r.variable(name, true) },
		"tryVar":     func(name string) (map[string]string, error) { return r.variable(name, false) },
		"env":        func(name string) string { return r.in.Env[name] },

		"join": join, "split": split, "replace": replace, "indent": indent,
		"trim": strings.TrimSpace, "lower": strings.ToLower, "upper": strings.ToUpper,
		"contains":  func(part, s string) bool { return strings.Contains(s, part) },
		"hasPrefix": func(part, s string) bool { return strings.HasPrefix(s, part) },
		"hasSuffix": func(part, s string) bool { return strings.HasSuffix(s, part) },
		"default":   orElse,
		"add":       func(a, b int) int { return a + b },
		"sub":       func(a, b int) int { return a - b },
		"mul":       func(a, b int) int { return a * b },
		"quote":     func(s string) (string, error) { return short(strconv.Quote(s)) },
		"base64Encode": func(s string) (string, error) {
			return short(base64.StdEncoding.EncodeToString([]byte(s)))
		},
		"base64Decode": func(s string) (string, error) {
			b, err := base64.StdEncoding.DecodeString(s)
			return string(b), err
		},
		"toJSON": toJSON, "parseJSON": parseJSON, "keys": keys, "sorted": sorted,
		"first": func(list any) (any, error) { return at(list, 0) },
		"last":  func(list any) (any, error) { return at(list, -1) },

		"print": func(args ...any) (string, error) { return printed(fmt.Sprint, 0, args) },
		"println": func(args ...any) (string, error) {
			return printed(fmt.Sprintln, len(args), args)
		},
		"printf":   printf,
		"html":     func(args ...any) (string, error) { return escaped(html.EscapeString, args) },
		"js":       func(args ...any) (string, error) { return escaped(template.JSEscapeString, args) },
		"urlquery": func(args ...any) (string, error) { return escaped(url.QueryEscape, args) },
	}
}

// know reads a topic.
func (r *run) know(topic *berthv1.Topic, words string) (*berthv1.Known, bool) {
	r.read[topic.Key()] = topic
	k := r.in.Know(topic)
	if k == nil {
		r.note(&r.unknown, words)
	}
	return k, k != nil
}

func (r *run) note(list *[]string, words string) {
	if !slices.Contains(*list, words) && len(*list) < 20 {
		*list = append(*list, words)
	}
}

// service gives the ready instances that have all the tags, by job, group, index and id.
func (r *run) service(name string, tags []string, must bool) ([]map[string]any, error) {
	words := fmt.Sprintf("service %q", name)
	k, ok := r.know(berthv1.ServiceTopic(r.in.Namespace, name), words)
	if !ok {
		return nil, nil
	}
	var ready []*berthv1.ServiceInstance
	for _, i := range k.GetInstances() {
		fits := i.GetReady()
		for _, tag := range tags {
			fits = fits && slices.Contains(i.GetTags(), tag)
		}
		if fits {
			ready = append(ready, i)
		}
	}
	if len(ready) == 0 && must {
		r.note(&r.missing, words+" (it has no ready instance)")
	}
	slices.SortFunc(ready, func(a, b *berthv1.ServiceInstance) int {
		return cmp.Or(strings.Compare(a.GetJob(), b.GetJob()), strings.Compare(a.GetGroup(), b.GetGroup()),
			cmp.Compare(a.GetIndex(), b.GetIndex()), strings.Compare(a.GetAllocId(), b.GetAllocId()))
	})
	list := make([]map[string]any, 0, len(ready))
	for _, i := range ready {
		list = append(list, map[string]any{
			"address": i.GetAddress(), "port": int(i.GetPort()), "tags": i.GetTags(), "meta": i.GetMeta(),
			"alloc": i.GetAllocId(), "job": i.GetJob(), "group": i.GetGroup(), "index": int(i.GetIndex()), "node": i.GetNodeName(),
		})
	}
	return list, nil
}

func (r *run) variable(name string, must bool) (map[string]string, error) {
	words := fmt.Sprintf("variable %q", name)
	r.readsVariable = true
	k, ok := r.know(berthv1.VariableTopic(r.in.Namespace, name), words)
	if ok && k.GetVariable() == nil && must {
		r.note(&r.missing, words)
	}
	items := k.GetVariable().GetItems()
	if items == nil {
		items = map[string]string{}
	}
	return items, nil
}

// short refuses texts that are too long.
func short(s string) (string, error) {
	if len(s) > maxText {
		return "", errTooLong
	}
	return s, nil
}

// texts makes a list of strings of any list.
func texts(list any) ([]string, error) {
	v := reflect.ValueOf(list)
	if !v.IsValid() {
		return nil, nil
	}
	if v.Kind() != reflect.Slice {
		return nil, fmt.Errorf("%T is no list", list)
	}
	out, size := make([]string, v.Len()), 0
	for i := range out {
		out[i] = fmt.Sprint(v.Index(i).Interface())
		if size += len(out[i]); size > maxText {
			return nil, errTooLong
		}
	}
	return out, nil
}

func join(separator string, list any) (string, error) {
	all, err := texts(list)
	if err != nil || len(all)*len(separator) > maxText {
		return "", cmpErr(err, errTooLong)
	}
	return short(strings.Join(all, separator))
}

func cmpErr(err, otherwise error) error {
	if err != nil {
		return err
	}
	return otherwise
}

func split(separator, s string) []string { return strings.SplitN(s, separator, 100_000) }

func replace(old, with, s string) (string, error) {
	if len(s)+strings.Count(s, old)*len(with) > maxText {
		return "", errTooLong
	}
	return strings.ReplaceAll(s, old, with), nil
}

func indent(n int, s string) (string, error) {
	if n < 0 || n > 1000 {
		return "", fmt.Errorf("an indent is from 0 to 1000")
	}
	pad := strings.Repeat(" ", n)
	s, err := replace("\n", "\n"+pad, s)
	return pad + s, err
}

// orElse gives value, or the default where it is empty.
func orElse(otherwise, value any) any {
	if truth, ok := template.IsTrue(value); !ok || !truth {
		return otherwise
	}
	return value
}

func toJSON(v any) (string, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return "", err
	}
	return short(string(b))
}

func parseJSON(s string) (v any, err error) {
	d := json.NewDecoder(bytes.NewReader([]byte(s)))
	return v, d.Decode(&v)
}

func keys(m any) ([]string, error) {
	v := reflect.ValueOf(m)
	if v.Kind() != reflect.Map || v.Type().Key().Kind() != reflect.String {
		return nil, fmt.Errorf("%T has no keys", m)
	}
	var all []string
	for _, k := range v.MapKeys() {
		all = append(all, k.String())
	}
	slices.Sort(all)
	return all, nil
}

func sorted(list any) ([]string, error) {
	all, err := texts(list)
	slices.Sort(all)
	return all, err
}

// at gives the first or the last of a list; nil of an empty one.
func at(list any, i int) (any, error) {
	v := reflect.ValueOf(list)
	if v.Kind() != reflect.Slice {
		return nil, fmt.Errorf("%T is no list", list)
	}
	if v.Len() == 0 {
		return nil, nil
	}
	return v.Index((i + v.Len()) % v.Len()).Interface(), nil
}

// printed prints arguments that are not too long together.
func printed(sprint func(...any) string, more int, args []any) (string, error) {
	size := more
	for _, a := range args {
		if s, ok := a.(string); ok {
			size += len(s)
		}
	}
	if size > maxText {
		return "", errTooLong
	}
	return short(sprint(args...))
}

// printf refuses formats by which a short text becomes a very long one.
func printf(format string, args ...any) (string, error) {
	longest := 100
	for _, a := range args {
		longest = max(longest, len(fmt.Sprint(a)))
	}
	digits := 0
	for _, c := range format {
		if digits++; c < '0' || c > '9' {
			digits = 0
		}
		if c == '*' || digits > 3 {
			return "", fmt.Errorf("a width is at most 999")
		}
	}
	if len(format)+strings.Count(format, "%")*(longest*4+1000) > 16*maxText {
		return "", errTooLong
	}
	return short(fmt.Sprintf(format, args...))
}

func escaped(escape func(string) string, args []any) (string, error) {
	s, err := printed(fmt.Sprint, 0, args)
	if err != nil {
		return "", err
	}
	return short(escape(s))
}
