package command

import (
	"bytes"
	"context"
	"io"
	"net"
	"regexp"
	"testing"
)

// TestVNC has two viewers at the local port that leads to a display.
func TestVNC(t *testing.T) {
	address := serveFake(t, newFakeCluster())
	ctx, cancel := context.WithCancel(t.Context())
	says, said := io.Pipe()
	code := make(chan int)
	go func() {
		code <- Main(ctx, []string{"-addr", address, "alloc", "console", "-vnc", "a0000000"},
			Streams{In: bytes.NewReader(nil), Out: said, Err: said, Getenv: func(string) string { return "" }, Environ: func() []string { return nil }})
	}()
	buf := make([]byte, 200)
	n, err := says.Read(buf)
	if err != nil {
		t.Fatal(err)
	}
	port := regexp.MustCompile(`127\.0\.0\.1:\d+`).FindString(string(buf[:n]))
	for range 2 {
		viewer, err := net.Dial("tcp", port)
		if err != nil {
			t.Fatalf("%s: %v", buf[:n], err)
		}
		defer viewer.Close()
		if _, err := viewer.Write([]byte("hello")); err != nil {
			t.Fatal(err)
		}
		got := make([]byte, len("RFB 003.008\nHELLO"))
		if _, err := io.ReadFull(viewer, got); err != nil || string(got) != "RFB 003.008\nHELLO" {
			t.Fatalf("%q, %v", got, err)
		}
	}
	cancel()
	if c := <-code; c != 0 {
		t.Errorf("exit code %d", c)
	}
}
