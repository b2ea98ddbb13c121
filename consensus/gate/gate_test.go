package gate

import (
	"bytes"
	"testing"

	"github.com/holdfast-mesh/holdfast/consensus/wire"
)

// What a gate reads is of somebody whom it does not know yet. The rest of it is tested
// where Raft stands behind it, in package consensus.
func FuzzFrames(f *testing.F) {
	f.Add([]byte{0, 0, 0, 1, 0xa0})
	f.Add([]byte{0xff, 0xff, 0xff, 0xff})
	f.Add([]byte{0, 0, 0, 0, 0, 0, 0, 2, 0x81, 0x40})
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, m := range []any{new(hello), new([][]byte), new(verdict)} {
			if err := wire.Read(bytes.NewReader(b), m, maxFrame); err == nil && len(b) < 5 {
				t.Errorf("%x is a %T", b, m)
			}
		}
	})
}
