// Command hello is the web service of the examples: it says which instance answers.
// It needs nothing but the port that Berth gives it. VERSION is what it calls itself, and
// with BROKEN=true it says of itself that it is not well. Told to end, it answers what it
// was asked already.
package main

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"
)

// ending is how long answers may take that have begun when it is told to end.
const ending = 3 * time.Second

func main() {
	who := fmt.Sprintf("hello from %s on %s", os.Getenv("BERTH_ALLOC_NAME"), os.Getenv("BERTH_NODE_NAME"))
	if version := os.Getenv("VERSION"); version != "" {
		who += ", " + version
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, who) })
	mux.HandleFunc("/healthz", func(w http.ResponseWriter, _ *http.Request) {
		if os.Getenv("BROKEN") == "true" {
			http.Error(w, "broken", http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "ok")
	})
	server := &http.Server{Addr: ":" + os.Getenv("BERTH_PORT_HTTP"), Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	told, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	ended := make(chan error, 1)
	go func() { ended <- server.ListenAndServe() }()
	log.Printf("%s, listening on %s", who, server.Addr)
	select {
	case err := <-ended:
		log.Fatal(err)
	case <-told.Done():
	}
	within, cancel := context.WithTimeout(context.Background(), ending)
	defer cancel()
	if err := server.Shutdown(within); err != nil && !errors.Is(err, context.DeadlineExceeded) {
		log.Print(err)
	}
}
