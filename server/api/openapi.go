package api

import (
	_ "embed"
	"net/http"
)

//go:generate go run ./internal/openapigen -root ../..

// openAPI is the OpenAPI 3 document of the HTTP side, generated from the schema.
//
//go:embed openapi.json
var openAPI []byte

func serveOpenAPI(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(openAPI) // the client is gone if it fails
}
