package guest

import (
	"path/filepath"
	"strings"
	"testing"
)

func TestSector(t *testing.T) {
	path := filepath.Join(t.TempDir(), "image")
	if err := Sector(path, "Hello from a sector.", true); err != nil {
		t.Fatal(err)
	}
	if out := boot(t, "amd64", "-drive", "if=virtio,format=raw,file="+path); !strings.Contains(out, "Hello from a sector.\r\n") {
		t.Error("it does not greet")
	}
	if err := Sector(path, strings.Repeat("x", 600), true); err == nil {
		t.Error("words that are too long fit")
	}
}
