package logstore

import (
	"bytes"
	"testing"

	"github.com/hashicorp/raft"
)

func FuzzDecode(f *testing.F) {
	for _, l := range []*raft.Log{entry(1, 1), entry(2, 1<<40), {Index: 3}} {
		b, err := encode(l)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(l.Index, b)
	}
	f.Fuzz(func(t *testing.T, index uint64, b []byte) {
		var l raft.Log
		if decode(index, b, &l) != nil {
			return
		}
		again, err := encode(&l)
		if err != nil || !bytes.Equal(again, b) {
			t.Errorf("%x decodes to %+v, which is written %x, %v", b, l, again, err)
		}
		if decode(index+1, b, &l) == nil {
			t.Error("it also decodes as the next entry")
		}
	})
}

func TestDecodeRefusesOtherVersions(t *testing.T) {
	b, _ := encode(entry(1, 1))
	b = b[:len(b)-4]
	b[0] = 2
	b = append(b, 0, 0, 0, 0)
	s := sum(1, b[:len(b)-4])
	b[len(b)-4], b[len(b)-3], b[len(b)-2], b[len(b)-1] = byte(s>>24), byte(s>>16), byte(s>>8), byte(s)
	if err := decode(1, b, &raft.Log{}); err == nil {
		t.Error("a record of version 2 was read")
	}
}
