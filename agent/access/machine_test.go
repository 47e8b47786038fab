package access

import (
	"bytes"
	"context"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/berthd/berth/drivers"
	"github.com/berthd/berth/drivers/mock"
	"github.com/berthd/berth/problem"
	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

// box is a driver with the powers of machines. Its console echoes in capitals, after some
// scrollback, until it reads "bye".
type box struct {
	drivers.Driver
	capabilities []drivers.Capability
	did          []string
	kept         []*drivers.Snapshot
	png          []byte
}

func (b *box) Info() drivers.Info { return drivers.Info{Name: "box", Capabilities: b.capabilities} }

func (b *box) Control(_ context.Context, id string, action drivers.Action) error {
	b.did = append(b.did, string(action)+" "+id)
	return nil
}

func (b *box) Screenshot(context.Context, string) ([]byte, error) { return b.png, nil }

func (b *box) Snapshot(_ context.Context, _ string, req *drivers.SnapshotRequest) (*drivers.Snapshot, error) {
	s := &drivers.Snapshot{Name: req.Name, Description: req.Description, At: time.Unix(1, 0), Memory: req.Memory, Consistent: req.Consistent, Bytes: 5}
	b.kept = append(b.kept, s)
	return s, nil
}

func (b *box) Snapshots(context.Context, string) ([]*drivers.Snapshot, error) { return b.kept, nil }

func (b *box) Revert(_ context.Context, _ string, name string) error {
	if name != "s1" {
		return problem.New(problem.NotFound, "name", "there is no snapshot %q", name)
	}
	b.did = append(b.did, "revert "+name)
	return nil
}

func (b *box) DeleteSnapshot(_ context.Context, _ string, name string) error {
	b.did = append(b.did, "delete "+name)
	return nil
}

func (b *box) Attach(ctx context.Context, _ string, channel drivers.Capability, rw io.ReadWriter) error {
	stop := context.AfterFunc(ctx, func() { b.did = append(b.did, "left") })
	defer stop()
	if _, err := io.WriteString(rw, string(channel)+" scrollback\n"); err != nil {
		return err
	}
	buf := make([]byte, 100)
	for {
		n, err := rw.Read(buf)
		if err != nil {
			return ctx.Err()
		}
		if string(buf[:n]) == "bye" {
			return nil
		}
		if _, err := rw.Write(bytes.ToUpper(buf[:n])); err != nil {
			return err
		}
	}
}

func newBox(t *testing.T, capabilities ...drivers.Capability) (*Server, *box) {
	s, o := newServer(t)
	b := &box{Driver: mock.New(mock.NewHost()), capabilities: capabilities, png: []byte("a picture")}
	o.driver = b
	return s, b
}

func TestMachine(t *testing.T) {
	s, b := newBox(t, drivers.CapPause, drivers.CapScreenshot, drivers.CapSnapshot)
	control := func(action string) *berthv1.StreamOrder {
		return &berthv1.StreamOrder{Order: &berthv1.StreamOrder_Control{Control: &berthv1.ControlAllocRequest{AllocId: "a1", Task: "web", Action: action}}}
	}
	for _, action := range []string{"pause", "resume"} {
		if frames, last := serve(t, s, control(action)); len(frames) > 0 || !last.GetDone() {
			t.Errorf("%s: %v %v", action, frames, last)
		}
	}
	for _, action := range []string{"suspend", "jump", ""} {
		if _, last := serve(t, s, control(action)); last.GetProblem().GetKind() != "unsupported" {
			t.Errorf("%q: %v", action, last)
		}
	}
	shoot := &berthv1.StreamOrder{Order: &berthv1.StreamOrder_Screenshot{Screenshot: &berthv1.ScreenshotAllocRequest{AllocId: "a1"}}}
	if frames, _ := serve(t, s, shoot); len(frames) != 1 || string(frames[0].GetScreenshot().GetPng()) != "a picture" {
		t.Errorf("screenshot: %v", frames)
	}
	b.png = make([]byte, maxScreenshot+1)
	if _, last := serve(t, s, shoot); last.GetProblem() == nil {
		t.Errorf("a picture too large: %v", last)
	}

	make1 := &berthv1.SnapshotAllocRequest{AllocId: "a1", Name: "s1", Memory: true}
	if frames, _ := serve(t, s, &berthv1.StreamOrder{Order: &berthv1.StreamOrder_Snapshot{Snapshot: make1}}); len(frames) != 1 || frames[0].GetSnapshot().GetBytes() != 5 {
		t.Errorf("snapshot: %v", frames)
	}
	list := &berthv1.StreamOrder{Order: &berthv1.StreamOrder_ListSnapshots{ListSnapshots: &berthv1.ListAllocSnapshotsRequest{AllocId: "a1"}}}
	if frames, _ := serve(t, s, list); len(frames) != 1 || len(frames[0].GetSnapshots().GetSnapshots()) != 1 || !frames[0].GetSnapshots().GetSnapshots()[0].GetMemory() {
		t.Errorf("snapshots: %v", frames)
	}
	for name, kind := range map[string]string{"s1": "", "s2": "not_found"} {
		if _, last := serve(t, s, &berthv1.StreamOrder{Order: &berthv1.StreamOrder_Revert{Revert: &berthv1.RevertAllocRequest{AllocId: "a1", Name: name}}}); last.GetProblem().GetKind() != kind {
			t.Errorf("revert %s: %v", name, last)
		}
	}
	serve(t, s, &berthv1.StreamOrder{Order: &berthv1.StreamOrder_DeleteSnapshot{DeleteSnapshot: &berthv1.DeleteAllocSnapshotRequest{AllocId: "a1", Name: "s1"}}})
	if got := strings.Join(b.did, ", "); got != "pause a1/web, resume a1/web, revert s1, delete s1" {
		t.Errorf("the driver did %q", got)
	}
}

func attachOrder(channel string) *berthv1.StreamOrder {
	return &berthv1.StreamOrder{Order: &berthv1.StreamOrder_Attach{Attach: &berthv1.AttachStart{AllocId: "a1", Channel: channel}}}
}

func typed(text string) *berthv1.StreamFrame {
	return attachFrame(&berthv1.AttachFrame{Body: &berthv1.AttachFrame_Data{Data: []byte(text)}})
}

func TestAttach(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, b := newBox(t, drivers.CapConsole)
		ctx, cancel := context.WithCancel(t.Context())
		p := newPipe(ctx)
		go s.Serve(ctx, attachOrder("console"), p)
		var shown strings.Builder
		for _, text := range []string{"ls", "bye", "too late"} {
			p.down <- typed(text)
			synctest.Wait()
		}
		done := false
		for f := range p.up {
			shown.Write(f.GetAttach().GetData())
			done = done || f.GetAttach().GetDone()
		}
		cancel()
		if shown.String() != "console scrollback\nLS" || !done || len(b.did) > 0 {
			t.Errorf("shown %q, done %v, %v", shown.String(), done, b.did)
		}

		p = newPipe(t.Context()) // somebody who goes away
		served := make(chan struct{})
		go func() { defer close(served); s.Serve(t.Context(), attachOrder("console"), p) }()
		synctest.Wait()
		close(p.down)
		<-served
		synctest.Wait()
		if strings.Join(b.did, "") != "left" {
			t.Errorf("the driver still serves one who left: %v", b.did)
		}

		p = newPipe(t.Context())
		close(p.down)
		s.Serve(t.Context(), attachOrder("vnc"), p)
		if last := <-p.up; last.GetProblem().GetKind() != "unsupported" {
			t.Errorf("a channel that the driver does not have: %v", last)
		}
	})
}
