package archive

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/holdfast-mesh/holdfast/chunks"
)

// An imageFile is a disk image that is being read. Several cutters take slots
// from it, so that they are read at the same time and yet nearly in order.
type imageFile struct {
	file *os.File
	info fs.FileInfo // as it was when opened
	size int64

	mu    sync.Mutex // guards what follows
	next  int64      // the slot to hand out, as offset
	holes holes
}

// openImage opens a regular file or a block device.
func openImage(path string) (*imageFile, error) {
	info, err := os.Stat(path) // before opening, which would wait for the writer of a pipe
	if err != nil {
		return nil, sourceError(path, err)
	}
	mode := info.Mode()
	switch {
	case mode.IsDir():
		return nil, &failure{text: fmt.Sprintf("back up image %s: it is a directory", path), cure: "back a directory up as NAME.pxar:" + path, kind: ErrSource}
	case !mode.IsRegular() && mode&(fs.ModeDevice|fs.ModeCharDevice) != fs.ModeDevice:
		return nil, &failure{text: fmt.Sprintf("back up image %s: it is neither a file nor a block device", path), cure: "write the stream to a file first", kind: ErrSource}
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, sourceError(path, err)
	}
	size, err := f.Seek(0, io.SeekEnd) // a device's info has no size
	if err == nil && size == 0 {
		err = &failure{text: fmt.Sprintf("back up image %s: it is empty", path), cure: "leave it out: the format has no empty images", kind: ErrSource}
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &imageFile{file: f, info: info, size: size, holes: holes{file: f, size: size}}, nil
}

// take returns the next slot of the image, and whether it is known to be zero.
func (m *imageFile) take() (off int64, n int, hole, ok bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.next >= m.size {
		return 0, 0, false, false
	}
	off = m.next
	n = int(min(chunks.SlotSize, m.size-off))
	m.next += int64(n)
	return off, n, m.holes.cover(off, int64(n)), true
}

// changed says how the image differs from what it was when it was opened, or
// returns "". A device that is in use cannot be caught at it.
func (m *imageFile) changed() string {
	info, err := m.file.Stat()
	switch {
	case err != nil || !info.Mode().IsRegular():
		return ""
	case info.Size() != m.info.Size():
		return fmt.Sprintf("its size changed from %d to %d bytes while it was read", m.info.Size(), info.Size())
	case !info.ModTime().Equal(m.info.ModTime()):
		return "it was written to while it was read"
	}
	return ""
}

// An imageCutter is one of several that share an image (see [chunks.Cutter]).
type imageCutter struct{ image *imageFile }

// zeroSlot is what stands for a slot that was not read.
var zeroSlot [chunks.SlotSize]byte

// Next reads the next slot.
func (c imageCutter) Next(buf []byte) (chunks.Piece, error) {
	off, n, hole, ok := c.image.take()
	switch {
	case !ok:
		return chunks.Piece{}, io.EOF
	case hole:
		return chunks.Piece{Offset: off, Data: zeroSlot[:n], Zero: true}, nil
	}
	if cap(buf) < n {
		buf = make([]byte, n)
	}
	data := buf[:n]
	switch got, err := c.image.file.ReadAt(data, off); {
	case got == n:
		return chunks.Piece{Offset: off, Data: data, Zero: chunks.IsZero(data)}, nil
	case err == io.EOF:
		return chunks.Piece{}, &failure{
			text: fmt.Sprintf("back up image %s: it ends at %d bytes, but had %d when the backup began", c.image.file.Name(), off+int64(got), c.image.size),
			cure: "stop what is writing to it, or back up a snapshot of it",
			kind: ErrSource,
		}
	default:
		return chunks.Piece{}, fmt.Errorf("read image at offset %d: %w", off+int64(got), err)
	}
}

// holes knows where a file has no data. It is asked in ascending order.
type holes struct {
	file      *os.File
	size      int64
	data, end int64 // what was found last: a hole up to data, then data up to end
	unable    bool  // the file system cannot tell; a device never can
}

// cover reports whether there is nothing but a hole in the n bytes from off.
func (h *holes) cover(off, n int64) bool {
	if h.unable {
		return false
	}
	if off >= h.end {
		h.find(off)
	}
	return !h.unable && off+n <= h.data
}

func (h *holes) find(off int64) {
	data, err := h.file.Seek(off, unix.SEEK_DATA)
	if errors.Is(err, unix.ENXIO) { // the rest is a hole
		h.data, h.end = h.size, h.size
		return
	}
	if err == nil {
		h.data = data
		h.end, err = h.file.Seek(data, unix.SEEK_HOLE)
	}
	h.unable = err != nil
}

// sourceError gives the reasons why something cannot be opened a cure.
func sourceError(path string, err error) error {
	f := &failure{text: "back up " + path, kind: ErrSource, cause: err}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		f.cure = "check the path; it is relative to the directory the command was started in"
	case errors.Is(err, fs.ErrPermission):
		f.cure = "run the backup as a user who may read it, usually root"
	}
	return f
}
