// Command hello is the web service of the examples: it says which instance answers.
// It needs nothing but the port that Berth gives it.
package main

import (
	"fmt"
	"log"
	"net/http"
	"os"
	"time"
)

func main() {
	who := fmt.Sprintf("hello from %s on %s", os.Getenv("BERTH_ALLOC_NAME"), os.Getenv("BERTH_NODE_NAME"))
	mux := http.NewServeMux()
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, who) })
	mux.HandleFunc("/healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	server := &http.Server{Addr: ":" + os.Getenv("BERTH_PORT_HTTP"), Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	log.Printf("%s, listening on %s", who, server.Addr)
	log.Fatal(server.ListenAndServe())
}
