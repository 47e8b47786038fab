package config

import (
	"reflect"
	"strings"
)

// field is one thing that can be set, as the tags describe it.
type field struct {
	name   string // in its block
	path   string // from the top: agent.reserved.memory
	doc    string
	check  string
	reload bool
	block  bool
	value  reflect.Value
}

// fieldsOf lists what is in a block.
func fieldsOf(block reflect.Value, path string) []field {
	var fields []field
	for i := range block.NumField() {
		f := block.Type().Field(i)
		name := f.Tag.Get("cfg")
		if name == "" {
			continue
		}
		full := name
		if path != "" {
			full = path + "." + name
		}
		fields = append(fields, field{
			name: name, path: full, doc: f.Tag.Get("doc"), check: f.Tag.Get("check"), reload: f.Tag.Get("reload") == "yes",
			block: f.Type.Kind() == reflect.Struct, value: block.Field(i),
		})
	}
	return fields
}

// walk visits every attribute of every block.
func walk(c *Config, visit func(field)) { walkBlock(reflect.ValueOf(c).Elem(), "", visit) }

func walkBlock(block reflect.Value, path string, visit func(field)) {
	for _, f := range fieldsOf(block, path) {
		if f.block {
			walkBlock(f.value, f.path, visit)
			continue
		}
		visit(f)
	}
}

// variable is the environment variable of a path: agent.min_port is BERTH_AGENT_MIN_PORT.
func variable(path string) string {
	return "BERTH_" + strings.ToUpper(strings.ReplaceAll(path, ".", "_"))
}

// Difference is a setting that two configurations have different.
type Difference struct {
	Path string
	// Reload says that SIGHUP applies it.
	Reload bool
}

// Differences lists what is different in other, in the order of the reference.
func (c *Config) Differences(other *Config) []Difference {
	var before []reflect.Value
	walk(c, func(f field) { before = append(before, f.value) })
	var list []Difference
	i := 0
	walk(other, func(f field) {
		if !reflect.DeepEqual(before[i].Interface(), f.value.Interface()) {
			list = append(list, Difference{Path: f.path, Reload: f.reload})
		}
		i++
	})
	return list
}
