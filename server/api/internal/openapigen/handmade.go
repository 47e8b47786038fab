package main

// handmade is the routes that the schema cannot describe, or describes otherwise than
// they are over HTTP. A test of package api compares them with what is served.
func handmade() map[string]map[string]object {
	return map[string]map[string]object{
		"/v1/allocs/{alloc_id}/exec":   {"get": execRoute()},
		"/v1/allocs/{alloc_id}/attach": {"get": attachRoute()},
		"/v1/allocs/{alloc_id}/logs":   {"get": logsRoute()},
		"/v1/allocs/{alloc_id}/read":   {"get": readRoute()},
		"/v1/operator/snapshot":        {"get": saveRoute(), "put": restoreRoute()},
		"/v1/metrics":                  {"get": metricsRoute()},
		"/v1/openapi.json":             {"get": openAPIRoute()},
	}
}

func operation(id, tag, summary string, parameters []any, ok object) object {
	op := object{"operationId": id, "tags": []any{tag}, "summary": summary, "responses": object{"200": ok}}
	if len(parameters) > 0 {
		op["parameters"] = parameters
	}
	return op
}

func parameter(in, name, description, kind string) object {
	p := object{"name": name, "in": in, "description": description, "schema": object{"type": kind}}
	if in == "path" {
		p["required"] = true
	}
	return p
}

func allocID() object {
	return parameter("path", "alloc_id", "Id of an allocation, or a unique prefix of one.", "string")
}

func execRoute() object {
	op := operation("AllocService_Exec", "Alloc", "Exec runs a command in a task, over a WebSocket.", []any{allocID()}, object{})
	op["description"] = "Every message is an ExecFrame as JSON text. The first one, from the client, is " +
		"{\"start\": {\"task\": ..., \"command\": [...], \"tty\": true, \"size\": {\"columns\": 80, \"rows\": 24}, \"env\": {...}}}. " +
		"Then the client sends {\"stdin\": <base64>}, {\"stdin_close\": true} and {\"resize\": {...}}, the server {\"stdout\": <base64>}, " +
		"{\"stderr\": <base64>} and last {\"exit\": {\"code\": 0, \"signal\": 0}}. A session that fails ends with an Error and a close."
	op["responses"] = object{"101": object{"description": "The session begins."}}
	return op
}

func attachRoute() object {
	op := operation("AllocService_Attach", "Alloc", "Attach joins a task's console or display, over a WebSocket.", []any{allocID()}, object{})
	op["description"] = "Every message is an AttachFrame as JSON text. The first one, from the client, is " +
		"{\"start\": {\"task\": ..., \"channel\": \"console\"}} (or \"vnc\"). Then both sides send {\"data\": <base64>}, " +
		"and the server last {\"done\": true}. A session that fails ends with an Error and a close."
	op["responses"] = object{"101": object{"description": "The session begins."}}
	return op
}

func logsRoute() object {
	return operation("AllocService_Logs", "Alloc", "Logs streams a task's output as it is, or, where the client accepts application/x-ndjson, as frames.", []any{
		allocID(),
		parameter("query", "task", "May be empty where the group has one task.", "string"),
		parameter("query", "stream", "stdout (default) or stderr.", "string"),
		parameter("query", "follow", "Go on as more is written.", "boolean"),
		parameter("query", "tail_bytes", "Start so many bytes before the end; without it, and without from_start: 10 KiB.", "integer"),
		parameter("query", "tail_lines", "Start that many lines before the end; over tail_bytes.", "integer"),
		parameter("query", "from_start", "Start at the beginning of what is kept.", "boolean"),
	}, bytesOrFrames("text/plain", "berth.v1.LogFrame"))
}

func readRoute() object {
	return operation("AllocService_ReadFile", "Alloc", "ReadFile streams a file as it is, or, where the client accepts application/x-ndjson, as chunks.", []any{
		allocID(),
		parameter("query", "path", "Path inside the allocation's directory.", "string"),
		parameter("query", "offset", "Start at this byte.", "integer"),
		parameter("query", "limit", "So many bytes at most; 0: to the end.", "integer"),
		parameter("query", "follow", "Go on as more is written.", "boolean"),
	}, bytesOrFrames("application/octet-stream", "berth.v1.FileChunk"))
}

func bytesOrFrames(mediaType, frame string) object {
	types := content(mediaType, object{"type": "string", "format": "binary"})
	types["application/x-ndjson"] = object{"schema": ref(frame)}
	return object{"description": "The bytes. The connection is cut where they end too early.", "content": types}
}

func saveRoute() object {
	return operation("OperatorService_SaveSnapshot", "Operator", "SaveSnapshot gives a snapshot of the whole state as a file.",
		[]any{parameter("query", "stale", "The asked server gives its own state.", "boolean")},
		object{"description": "The snapshot.", "content": content("application/octet-stream", object{"type": "string", "format": "binary"})})
}

func restoreRoute() object {
	op := operation("OperatorService_RestoreSnapshot", "Operator", "RestoreSnapshot replaces the whole state by a snapshot.", nil, object{
		"description": "What was restored.",
		"content": content("application/json", object{"type": "object", "properties": map[string]any{
			"revision":   object{"type": "string", "format": "uint64"},
			"cluster_id": object{"type": "string"},
		}}),
	})
	op["requestBody"] = object{
		"required": true, "content": content("application/octet-stream", object{"type": "string", "format": "binary"}),
	}
	return op
}

func metricsRoute() object {
	return operation("Metrics", "Status", "Metrics of the asked server for Prometheus.", nil,
		object{"description": "The metrics.", "content": content("text/plain", object{"type": "string"})})
}

func openAPIRoute() object {
	return operation("OpenAPI", "Status", "This document.", nil,
		object{"description": "The document.", "content": content("application/json", object{"type": "object"})})
}
