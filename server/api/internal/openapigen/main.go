// Command openapigen makes server/api/openapi.json of what protoc-gen-openapiv3 writes
// for the files with services. That plugin knows the schema; this knows what the HTTP
// side makes of it: names as in the schema, Berth's error, streams of lines or bytes,
// headers, and the routes that no annotation can describe. `go generate ./server/api` runs both.
package main

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	berthv1 "github.com/berthd/berth/proto/berth/v1"
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

// rawDocument runs the plugin in a temporary folder and makes one document of those that
// it writes, one for each file with services.
func rawDocument(root string) (object, error) {
	temp, err := os.MkdirTemp("", "openapigen")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(temp)
	args := []string{"generate", "--template", "buf.gen.openapi.yaml", "-o", temp}
	for _, file := range berthv1.PublicFiles() {
		args = append(args, "--path", "proto/"+file.Path())
	}
	buf := exec.Command(filepath.Join(".build", "tools", "buf"), args...)
	buf.Dir = root
	if out, err := buf.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("running %s: %w\n%s", buf, err, out)
	}
	whole := object{}
	for _, file := range berthv1.PublicFiles() {
		data, err := os.ReadFile(filepath.Join(temp, strings.TrimSuffix(file.Path(), ".proto")+".openapi.json"))
		if err != nil {
			return nil, err
		}
		part := map[string]any{}
		if err := json.Unmarshal(data, &part); err != nil {
			return nil, fmt.Errorf("reading the plugin's document of %s: %w", file.Path(), err)
		}
		merge(whole, part)
	}
	return whole, nil
}

// merge takes another document in: lists of tags are joined, and where both have a member
// (a message that two files use) it is the same in both.
func merge(into, other map[string]any) {
	for name, theirs := range other {
		switch mine := into[name].(type) {
		case map[string]any:
			if m, ok := theirs.(map[string]any); ok {
				merge(mine, m)
			}
		case []any:
			if list, ok := theirs.([]any); ok && name == "tags" {
				into[name] = append(mine, list...)
			}
		default:
			into[name] = theirs
		}
	}
}

// finish makes the document that is served of the plugin's. The same input gives the
// same bytes: maps are written in the order of their keys.
func finish(doc object) ([]byte, error) {
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
