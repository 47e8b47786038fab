package command

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"iter"
	"os"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/berthd/berth/problem"
	"github.com/berthd/berth/server/consensus"
	"github.com/berthd/berth/server/state"
)

// snapshotContent is what a snapshot file holds.
type snapshotContent struct {
	consensus.SnapshotInfo
	ClusterID   string `json:"cluster_id"`
	Revision    uint64 `json:"revision"`
	Namespaces  int    `json:"namespaces"`
	Jobs        int    `json:"jobs"`
	Nodes       int    `json:"nodes"`
	Evaluations int    `json:"evaluations"`
	Allocs      int    `json:"allocs"`
}

func (a *app) snapshotInspect() *cobra.Command {
	var o output
	cmd := a.leaf("inspect FILE", "Check a snapshot and show what it holds", "Reads the whole file, as a restore would, and asks no server.",
		func(_ context.Context, args []string) error {
			content, err := readSnapshotFile(args[0])
			if err != nil {
				return err
			}
			if o.forPrograms() {
				raw, err := json.Marshal(content)
				if err != nil {
					return err
				}
				return o.print(a.Out, raw)
			}
			a.printf("%s  saved %s by server %s (berth %s)\n", args[0], ago(timestamppb.New(content.Created), time.Now()), shortID(content.Server), content.Version)
			a.printf("cluster %s  revision %d  state %s  complete, its checksum is right\n", shortID(content.ClusterID), content.Revision, bytesIn(uint64(content.Size)))
			a.printf("%s, %s, %s, %s, %s\n", count(content.Namespaces, "namespace"), count(content.Jobs, "job"), count(content.Allocs, "allocation"),
				count(content.Evaluations, "evaluation"), count(content.Nodes, "node"))
			return nil
		})
	o.register(cmd)
	cmd.ValidArgsFunction = completeAnyFile
	return cmd
}

// readSnapshotFile says what a snapshot holds.
func readSnapshotFile(name string) (*snapshotContent, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, problem.New(problem.Invalid, name, "the snapshot cannot be read: %w", unpath(err))
	}
	defer f.Close()
	info, v, err := readSnapshot(f, name)
	if err != nil {
		return nil, err
	}
	return &snapshotContent{SnapshotInfo: info, ClusterID: v.ClusterID(), Revision: v.Revision(),
		Namespaces: size(v.Namespaces()), Jobs: size(v.Jobs("", "")), Nodes: size(v.Nodes("")), Evaluations: size(v.Evaluations("")), Allocs: size(v.Allocs(""))}, nil
}

// readSnapshot reads a snapshot the way a server restores it. Name is for errors.
func readSnapshot(f io.Reader, name string) (consensus.SnapshotInfo, *state.View, error) {
	type result struct {
		store *state.Store
		err   error
	}
	r, w := io.Pipe()
	read := make(chan result, 1)
	go func() {
		store, err := state.Read(bufio.NewReader(r))
		_ = r.CloseWithError(err) // what is left is not waited for
		read <- result{store, err}
	}()
	info, err := consensus.ReadSnapshot(f, w)
	_ = w.CloseWithError(err)
	got := <-read
	if got.err != nil && err == nil {
		err = got.err
	}
	if err != nil {
		p := *problem.From(err)
		p.Field = name
		return info, nil, &p
	}
	return info, got.store.View(), nil
}

func size[T any](items iter.Seq[T]) int {
	n := 0
	for range items {
		n++
	}
	return n
}
