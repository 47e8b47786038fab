package exec

import (
	"encoding/binary"

	"golang.org/x/net/bpf"
)

// encodeBPF lays instructions out as struct sock_filter.
func encodeBPF(raw []bpf.RawInstruction) []byte {
	b := make([]byte, 0, 8*len(raw))
	for _, i := range raw {
		b = binary.NativeEndian.AppendUint16(b, i.Op)
		b = append(b, i.Jt, i.Jf)
		b = binary.NativeEndian.AppendUint32(b, i.K)
	}
	return b
}
