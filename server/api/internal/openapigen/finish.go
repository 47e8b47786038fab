package main

import (
	"fmt"
	"strings"

	"google.golang.org/protobuf/reflect/protoreflect"

	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

// object is a JSON object.
type object = jsonObject

type jsonObject map[string]any

// object is a member that is an object; it is made where it is missing.
func (o jsonObject) object(name string) jsonObject {
	switch m := o[name].(type) {
	case jsonObject:
		return m
	case map[string]any:
		o[name] = jsonObject(m)
		return m
	}
	m := jsonObject{}
	o[name] = m
	return m
}

const description = `Every method of Berth's gRPC services as REST/JSON.

Any server answers; what the leader must do is forwarded to it. Reads take ` + "`index`" + ` and
` + "`wait`" + ` (answer when what was asked for has changed since that revision, or the wait is
over), ` + "`stale`" + ` (the asked server answers from what it knows) and ` + "`consistent`" + ` (the
leader makes sure that it leads). Lists take ` + "`prefix`, `filter`, `page_size` and `page_token`" + `.

Fields are named as in the schema; empty ones are included; 64-bit numbers are strings;
unknown fields and parameters are errors. Every error is an Error.`

func info() object {
	return object{
		"title":       "Berth API",
		"version":     "v1",
		"description": description,
		"license":     object{"name": "Apache License 2.0", "identifier": "Apache-2.0"},
	}
}

// finishPaths sets right what the plugin cannot know of the operations.
func finishPaths(paths object) error {
	for path := range paths {
		item := paths.object(path)
		for verb := range item {
			op := item.object(verb)
			method, err := methodOf(op)
			if err != nil {
				return fmt.Errorf("%s %s: %w", verb, path, err)
			}
			finishOperation(op, method)
		}
	}
	// Two templates for one path are not allowed, and a dot in a name confuses tools.
	put := paths.object("/v1/namespaces/{namespace.name}").object("put")
	put["parameters"] = []any{object{"name": "name", "in": "path", "required": true, "schema": object{"type": "string"}}}
	paths.object("/v1/namespaces/{name}")["put"] = put
	delete(paths, "/v1/namespaces/{namespace.name}")

	for path, verbs := range handmade() {
		for verb, op := range verbs {
			op.object("responses")["default"] = errorResponse()
			paths.object(path)[verb] = op
		}
	}
	paths.object("/v1/health").object("get").object("responses")["503"] = object{
		"description": "The server cannot serve; reason says why.",
		"content":     content("application/json", ref("berth.v1.Health")),
	}
	return nil
}

// tagOf is how a service is called where it is not gRPC.
func tagOf(service string) string { return strings.TrimSuffix(service, "Service") }

func finishTags(tags any) {
	list, _ := tags.([]any)
	for _, item := range list {
		if tag, ok := item.(map[string]any); ok {
			name, _ := tag["name"].(string)
			words, _ := tag["description"].(string)
			tag["name"], tag["description"] = tagOf(name), strings.Replace(words, name, tagOf(name), 1)
		}
	}
}

// methodOf finds the method that an operation is of.
func methodOf(op object) (protoreflect.MethodDescriptor, error) {
	id, _ := op["operationId"].(string)
	service, name, _ := strings.Cut(id, "_")
	for _, file := range berthv1.PublicFiles() {
		if s := file.Services().ByName(protoreflect.Name(service)); s != nil && s.Methods().ByName(protoreflect.Name(name)) != nil {
			return s.Methods().ByName(protoreflect.Name(name)), nil
		}
	}
	return nil, fmt.Errorf("the schema has no method %q", id)
}

func finishOperation(op object, method protoreflect.MethodDescriptor) {
	op["tags"] = []any{tagOf(string(method.Parent().Name()))}
	responses := op.object("responses")
	responses["default"] = errorResponse()
	ok := responses.object("200")
	if method.IsStreamingServer() {
		ok["content"] = content("application/x-ndjson", ref(string(method.Output().FullName())))
	}
	fields := method.Input().Fields()
	if fields.ByName("index") != nil && fields.ByName("wait") != nil {
		ok["headers"] = readHeaders()
	}
	if body := op.object("requestBody"); len(body) == 0 {
		delete(op, "requestBody")
	} else {
		body["required"] = false // an empty body is an empty message
	}
}

func readHeaders() object {
	header := func(description string, schema object) object {
		return object{"description": description, "schema": schema}
	}
	return object{
		"Berth-Index": header("Revision of what was asked for. As index, it waits for what comes after it.",
			object{"type": "string", "format": "uint64"}),
		"Berth-Known-Leader":    header("Whether the server that was asked knows a leader.", object{"type": "boolean"}),
		"Berth-Last-Contact-Ms": header("How many milliseconds ago that server heard the leader.", object{"type": "integer"}),
	}
}

func finishSchemas(components object) {
	schemas := components.object("schemas")
	delete(schemas, "google.rpc.Status")
	schemas["Error"] = object{
		"type": "object", "description": "Error is what every answer with a status from 400 on carries.",
		"properties": object{"error": ref("berth.v1.Problem")}, "required": []any{"error"},
	}
}

func ref(schema string) object { return object{"$ref": "#/components/schemas/" + schema} }

func content(mediaType string, schema object) object {
	return object{mediaType: object{"schema": schema}}
}

func errorResponse() object {
	return object{"description": "What was wrong, where, and what to do about it.", "content": content("application/json", ref("Error"))}
}

// snakeNames maps the lower camel case names that the plugin writes to the schema's.
func snakeNames() map[string]string {
	names := map[string]string{}
	var add func(protoreflect.MessageDescriptors)
	add = func(messages protoreflect.MessageDescriptors) {
		for i := range messages.Len() {
			fields := messages.Get(i).Fields()
			for j := range fields.Len() {
				if f := fields.Get(j); f.JSONName() != string(f.Name()) {
					names[f.JSONName()] = string(f.Name())
				}
			}
			add(messages.Get(i).Messages())
		}
	}
	for _, file := range append(berthv1.PublicFiles(),
		berthv1.File_berth_v1_access_proto, berthv1.File_berth_v1_alloc_proto,
		berthv1.File_berth_v1_constraint_proto, berthv1.File_berth_v1_evaluation_proto, berthv1.File_berth_v1_job_proto,
		berthv1.File_berth_v1_namespace_proto, berthv1.File_berth_v1_node_proto, berthv1.File_berth_v1_problem_proto,
		berthv1.File_berth_v1_rebalance_proto, berthv1.File_berth_v1_resources_proto,
	) {
		add(file.Messages())
	}
	return names
}

// rename gives properties, required fields and parameters the schema's names.
func rename(v any, names map[string]string) {
	switch v := v.(type) {
	case object:
		renameObject(v, names)
	case map[string]any:
		renameObject(v, names)
	case []any:
		for _, item := range v {
			rename(item, names)
		}
	}
}

func renameObject(o map[string]any, names map[string]string) {
	if _, isParameter := o["in"].(string); isParameter {
		if name, ok := o["name"].(string); ok && names[name] != "" {
			o["name"] = names[name]
		}
	}
	if required, ok := o["required"].([]any); ok {
		for i, name := range required {
			if s, ok := name.(string); ok && names[s] != "" {
				required[i] = names[s]
			}
		}
	}
	if properties, ok := o["properties"].(map[string]any); ok {
		for name, schema := range properties {
			if to := names[name]; to != "" {
				delete(properties, name)
				properties[to] = schema
			}
		}
	}
	for _, member := range o {
		rename(member, names)
	}
}
