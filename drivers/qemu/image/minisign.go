package image

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/berthd/berth/problem"
)

// publicKey is one of minisign's.
type publicKey struct {
	id  [8]byte
	key ed25519.PublicKey
}

// parseKey reads the line of a minisign.pub that begins with "RW".
func parseKey(text string) (publicKey, error) {
	var k publicKey
	lines := strings.Split(strings.TrimSpace(text), "\n")
	b, err := base64.StdEncoding.DecodeString(strings.TrimSpace(lines[len(lines)-1]))
	if err != nil || len(b) != 2+8+ed25519.PublicKeySize || string(b[:2]) != "Ed" {
		return k, fmt.Errorf("is no public key of minisign (\"RW...\")")
	}
	copy(k.id[:], b[2:])
	k.key = b[10:]
	return k, nil
}

// signed says whether what o holds must be signed. What the cluster keeps was let in there.
func (s *Store) signed(o origin) bool {
	_, cluster := o.(*clusterOrigin)
	return len(s.keys) > 0 && !cluster
}

const maxSignature = 4 << 10

// checkSignature wants a signature where the agent trusts keys, and checks each that is given.
func (s *Store) checkSignature(ctx context.Context, w *wanted, d *download, dir string) error {
	switch {
	case w.Signature == "" && !s.signed(w.origin):
		return nil
	case w.Signature == "":
		return problem.New(problem.Denied, "signature", "this host takes signed images only").
			WithRemedy("name the signature that minisign made of it, or take an image of the cluster's store")
	case len(s.keys) == 0:
		return problem.New(problem.Denied, "signature", "this host trusts no keys").
			WithRemedy("add minisign's public key to agent.qemu.image_keys in its configuration")
	}
	text := w.Signature
	if !strings.Contains(text, "\n") {
		var err error
		if text, err = s.fetchSignature(ctx, w, filepath.Join(dir, "signature")); err != nil {
			return fmt.Errorf("signature: %w", err)
		}
	}
	return verify(s.keys, text, d.blake.Sum(nil))
}

// fetchSignature gives the text that w.Signature names.
func (s *Store) fetchSignature(ctx context.Context, w *wanted, path string) (string, error) {
	o, err := s.origin(Source{Ref: w.Signature, Dir: w.Dir})
	if err != nil {
		return "", err
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return "", err
	}
	defer f.Close()
	if err := o.fetch(ctx, newDownload(f, maxSignature, s.room, func(string) {})); err != nil {
		return "", fmt.Errorf("%s: %w", o, err)
	}
	b, err := os.ReadFile(path)
	return string(b), err
}

// verify checks minisign's signature of what has that BLAKE2b-512 sum.
func verify(keys []publicKey, signature string, sum []byte) error {
	bad := func(format string, args ...any) *problem.Error {
		return problem.New(problem.Denied, "signature", format, args...)
	}
	lines := strings.Split(strings.ReplaceAll(strings.TrimSpace(signature), "\r", ""), "\n")
	if len(lines) != 4 || !strings.HasPrefix(lines[2], "trusted comment: ") {
		return bad("is not of minisign")
	}
	sig, err := base64.StdEncoding.DecodeString(lines[1])
	global, gerr := base64.StdEncoding.DecodeString(lines[3])
	if err != nil || gerr != nil || len(sig) != 2+8+ed25519.SignatureSize || len(global) != ed25519.SignatureSize {
		return bad("is not of minisign")
	}
	if string(sig[:2]) != "ED" {
		return bad("is of a kind that needs the whole image in memory").WithRemedy("sign it with minisign 0.10 or newer, or with -H")
	}
	for _, k := range keys {
		if !bytes.Equal(k.id[:], sig[2:10]) {
			continue
		}
		comment := append(bytes.Clone(sig[10:]), strings.TrimPrefix(lines[2], "trusted comment: ")...)
		if !ed25519.Verify(k.key, sum, sig[10:]) || !ed25519.Verify(k.key, comment, global) {
			return bad("does not match the image")
		}
		return nil
	}
	return bad("is of a key that this host does not trust (%X)", sig[2:10])
}
