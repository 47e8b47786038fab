package consensus

import (
	"errors"
	"reflect"
	"testing"
	"time"

	"github.com/hashicorp/raft"
)

func TestCheckedLog(t *testing.T) {
	under := raft.NewInmemStore()
	c := checkedLog{under}
	entries := []*raft.Log{
		{Index: 1, Term: 1, Type: raft.LogNoop},
		{Index: 2, Term: 1, Data: []byte("data"), Extensions: []byte("ext"), AppendedAt: time.Unix(1, 5)},
	}
	if err := c.StoreLogs(entries); err != nil {
		t.Fatal(err)
	}
	for _, want := range entries {
		var got raft.Log
		if err := c.GetLog(want.Index, &got); err != nil || !reflect.DeepEqual(&got, want) {
			t.Errorf("%+v came back as %+v, %v", want, got, err)
		}
	}
	if err := c.GetLog(3, new(raft.Log)); !errors.Is(err, raft.ErrLogNotFound) {
		t.Errorf("no entry: %v", err)
	}
	for what, spoil := range map[string]func(*raft.Log){
		"index":      func(l *raft.Log) { l.Index++ },
		"term":       func(l *raft.Log) { l.Term++ },
		"type":       func(l *raft.Log) { l.Type++ },
		"data":       func(l *raft.Log) { l.Data[0] ^= 1 },
		"less data":  func(l *raft.Log) { l.Data = l.Data[1:] },
		"extensions": func(l *raft.Log) { l.Extensions[0] ^= 1 },
		"checksum":   func(l *raft.Log) { l.Extensions[len(l.Extensions)-1] ^= 1 },
		"nothing":    func(l *raft.Log) { l.Extensions = nil },
	} {
		if err := c.StoreLogs(entries); err != nil {
			t.Fatal(err)
		}
		var l raft.Log
		_ = under.GetLog(2, &l)
		l.Data, l.Extensions = append([]byte{}, l.Data...), append([]byte{}, l.Extensions...)
		if err := under.StoreLog(&l); err != nil {
			t.Fatal(err)
		}
		spoil(&l) // the store keeps the pointer
		if err := c.GetLog(2, new(raft.Log)); !errors.Is(err, errDamaged) {
			t.Errorf("%s: %v", what, err)
		}
	}
}
