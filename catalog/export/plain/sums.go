package plain

import (
	"bufio"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"path/filepath"

	"github.com/holdfast-mesh/holdfast/chunks"
)

// partPrefix begins the names of files in the making. No name in a snapshot
// begins with a dot.
const partPrefix = ".part-"

// A File is one file of an exported snapshot.
type File struct {
	Name   string        `json:"name"`
	From   string        `json:"from"` // what it was in the snapshot; "" if it was nothing
	Size   int64         `json:"size"`
	SHA256 chunks.Digest `json:"sha256"`
}

// A plainWriter writes a file front to back and sums it up. Blocks of zeros
// become holes, so that an image takes no more space than it has content.
type plainWriter struct {
	file *os.File
	name string // that it gets when it is whole
	sum  hash.Hash
	off  int64
}

func createPlain(name string) (*plainWriter, error) {
	part := filepath.Join(filepath.Dir(name), partPrefix+filepath.Base(name))
	f, err := os.OpenFile(part, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	return &plainWriter{file: f, name: name, sum: sha256.New()}, nil
}

// holeBlock is what holes are made of: smaller ones would be of no use to file
// systems, and cost a call each.
const holeBlock = 64 << 10

// Write appends p.
func (w *plainWriter) Write(p []byte) (int, error) {
	_, _ = w.sum.Write(p) // never fails
	total := len(p)
	for len(p) > 0 {
		n := w.run(p)
		if !chunks.IsZero(p[:n]) {
			if _, err := w.file.WriteAt(p[:n], w.off); err != nil {
				return total - len(p), err
			}
		}
		w.off += int64(n)
		p = p[n:]
	}
	return total, nil
}

// run returns the length of the piece at the start of p that is written with
// one call, or left out: blocks that are not zero, or one that is.
func (w *plainWriter) run(p []byte) int {
	n := 0
	for n < len(p) {
		end := min(len(p), n+holeBlock-int((w.off+int64(n))%holeBlock))
		if chunks.IsZero(p[n:end]) {
			if n == 0 {
				return end
			}
			return n
		}
		n = end
	}
	return n
}

// close makes the file durable under its name, or removes it if err says that
// it is not to be had.
func (w *plainWriter) close(err error) error {
	if err == nil {
		err = w.file.Truncate(w.off)
	}
	if err == nil {
		err = w.file.Sync()
	}
	err = errors.Join(err, w.file.Close())
	if err == nil {
		err = os.Rename(w.file.Name(), w.name)
	}
	if err != nil {
		return errors.Join(err, os.Remove(w.file.Name()))
	}
	return nil
}

func (w *plainWriter) plain(from string) File {
	return File{Name: filepath.Base(w.name), From: from, Size: w.off, SHA256: chunks.Digest(w.sum.Sum(nil))}
}

// writeSums writes a file that `sha256sum --check` reads. Names are safe ids
// (PBS protocol notes §0.5), which need no escapes.
func writeSums(w io.Writer, files []File) error {
	b := bufio.NewWriter(w)
	for _, f := range files {
		fmt.Fprintf(b, "%s  %s\n", f.SHA256, f.Name)
	}
	return b.Flush()
}
