package disk

import (
	"testing"

	"golang.org/x/sys/unix"
)

// Used space is what files take: what the file system keeps for root is neither
// used nor free, as df(1) counts it.
func TestUsedSpaceLeavesOutTheReserve(t *testing.T) {
	dir := t.TempDir()
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		t.Fatal(err)
	}
	s, err := OS{}.Space(dir)
	if err != nil {
		t.Fatal(err)
	}
	const near = 1 << 30 // others write meanwhile
	if want := int64(st.Blocks-st.Bfree) * st.Frsize; s.Used() < want-near || s.Used() > want+near {
		t.Errorf("%d bytes are used, statfs says %d", s.Used(), want)
	}
}
