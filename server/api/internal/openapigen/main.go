// Command openapigen makes server/api/openapi.json of what protoc-gen-openapiv3 writes
// for api.proto. That plugin knows the schema; this knows what the HTTP side makes of
// it: names as in the schema, Berth's error, streams of lines or bytes, headers, and the
// routes that no annotation can describe. `go generate ./server/api` runs both.
package main

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

func main() {
	root := flag.String("root", ".", "root of the repository")
	flag.Parse()
	if err := generate(*root); err != nil {
		fmt.Fprintln(os.Stderr, "openapigen:", err)
		os.Exit(1)
	}
}

// generate writes the finished document.
func generate(root string) error {
	raw, err := rawDocument(root)
	if err != nil {
		return err
	}
	finished, err := finish(raw)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(root, "server", "api", "openapi.json"), finished, 0o644)
}

// rawDocument runs the plugin in a temporary folder.
func rawDocument(root string) ([]byte, error) {
	temp, err := os.MkdirTemp("", "openapigen")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(temp)
	buf := exec.Command(filepath.Join(".build", "tools", "buf"), "generate",
		"--template", "buf.gen.openapi.yaml", "--path", "proto/berth/v1/api.proto", "-o", temp)
	buf.Dir = root
	if out, err := buf.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("running %s: %w\n%s", buf, err, out)
	}
	return os.ReadFile(filepath.Join(temp, "berth", "v1", "api.openapi.json"))
}

// finish makes the document that is served of the plugin's. The same input gives the
// same bytes: maps are written in the order of their keys.
func finish(raw []byte) ([]byte, error) {
	doc := object{}
	if err := json.Unmarshal(raw, &doc); err != nil {
		return nil, fmt.Errorf("reading the plugin's document: %w", err)
	}
	doc["info"] = info()
	finishTags(doc["tags"])
	doc["servers"] = []any{object{"url": "/", "description": "The server that this document came from."}}
	if err := finishPaths(doc.object("paths")); err != nil {
		return nil, err
	}
	finishSchemas(doc.object("components"))
	rename(doc, snakeNames())
	var out bytes.Buffer
	encoder := json.NewEncoder(&out)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", " ")
	err := encoder.Encode(doc)
	return out.Bytes(), err
}
