//go:build linux

package inode

import (
	"bytes"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
)

// What is written past the page cache is what was to be written, wherever the
// file ends, and where the file system (tmpfs, for one) does not take it so.
func TestWriteDirect(t *testing.T) {
	for _, size := range []int{1, 4095, 4096, 4097, 1 << 20, 1<<20 + 1, 3<<20 - 4095} {
		for _, dir := range []string{t.TempDir(), "/dev/shm"} {
			f, err := os.CreateTemp(dir, "direct-")
			if err != nil {
				t.Skip(err)
			}
			defer os.Remove(f.Name())
			defer f.Close()
			want := make([]byte, size)
			rng := rand.NewChaCha8([32]byte{byte(size)})
			rng.Read(want)
			if size > 1<<20 {
				clear(want[8192 : 1<<19]) // a hole
			}
			fd, buf, end := int(f.Fd()), AlignedBuffer(1<<20), int64(0)
			SetDirect(fd, true)
			for off := 0; off < size; off += len(buf) {
				n := copy(buf, want[off:])
				if end, err = WriteSparse(fd, buf[:n], int64(off), end, WriteDirect); err != nil {
					t.Fatalf("%d bytes in %s: %v", size, filepath.Base(dir), err)
				}
			}
			if got, err := os.ReadFile(f.Name()); err != nil || !bytes.Equal(got, want) {
				t.Errorf("%d bytes in %s are not what was written: %v", size, filepath.Base(dir), err)
			}
		}
	}
}
