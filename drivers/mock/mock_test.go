package mock_test

import (
	"context"
	"path/filepath"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/types/known/structpb"

	"github.com/berthd/berth/drivers"
	"github.com/berthd/berth/drivers/drivertest"
	"github.com/berthd/berth/drivers/mock"
	"github.com/berthd/berth/drivers/mock/mocktest"
	"github.com/berthd/berth/problem"
)

func TestConformance(t *testing.T) { drivertest.Run(t, mocktest.Factory(mock.NewHost())) }

func task(t *testing.T, id string, config map[string]any) *drivers.Task {
	block, err := structpb.NewStruct(config)
	if err != nil {
		t.Fatal(err)
	}
	return &drivers.Task{ID: id, Name: filepath.Base(id), Config: block}
}

// A day's task in virtual time, with the agent dying in the middle.
func TestVirtualTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		host := mock.NewHost()
		ctx := t.Context()
		day := task(t, "a/day", map[string]any{"run_for": "24h", "exit_code": 4, "start_delay": "10s"})
		begun := time.Now()
		h, err := mock.New(host).Start(ctx, day)
		if err != nil || time.Since(begun) != 10*time.Second {
			t.Fatalf("Start: %v after %v", err, time.Since(begun))
		}
		time.Sleep(time.Hour)
		d := mock.New(host)
		if err := d.Recover(ctx, day, h); err != nil {
			t.Fatal(err)
		}
		exit, err := d.Wait(ctx, day.ID)
		if err != nil || exit.Code != 4 || time.Since(begun) != 24*time.Hour+10*time.Second {
			t.Errorf("Wait = %+v, %v after %v", exit, err, time.Since(begun))
		}
		if host.Starts(day.ID) != 1 {
			t.Errorf("started %d times", host.Starts(day.ID))
		}
	})
}

func TestStopDelay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := mock.New(mock.NewHost())
		slow := task(t, "a/slow", map[string]any{"stop_delay": "3s"})
		if _, err := d.Start(t.Context(), slow); err != nil {
			t.Fatal(err)
		}
		begun := time.Now()
		if err := d.Stop(t.Context(), slow.ID, "SIGINT", 10*time.Second); err != nil || time.Since(begun) != 3*time.Second {
			t.Errorf("Stop: %v after %v", err, time.Since(begun))
		}
		if exit, _ := d.Wait(t.Context(), slow.ID); exit.Signal != int(syscall.SIGINT) {
			t.Errorf("ended with %+v", exit)
		}
	})
}

func TestReboot(t *testing.T) {
	host := mock.NewHost()
	d := mock.New(host)
	one := task(t, "a/one", nil)
	h, err := d.Start(context.Background(), one)
	if err != nil {
		t.Fatal(err)
	}
	host.Reboot()
	if err := mock.New(host).Recover(context.Background(), one, h); !problem.Is(err, problem.NotFound) {
		t.Errorf("Recover after a reboot = %v, want NotFound", err)
	}
}
