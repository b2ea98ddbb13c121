package pxar

import (
	"errors"
	"fmt"
	"io"

	"github.com/holdfast-mesh/holdfast/catalog/pxar/goodbye"
)

// An Encoder writes an archive in one pass. Entries come depth first: BeginDir
// opens a directory, what follows is in it until EndDir. Clients sort the
// names of a directory by their bytes; the format asks for no order. The
// memory that an Encoder needs is a buffer of 1 MiB and 24 bytes for each entry
// of the directories that are open.
//
// A call that fails because of its arguments (a name that cannot be, metadata
// of another kind) has written nothing, and the archive can go on without the
// entry. After any other error it is broken, and every call returns that error.
type Encoder struct {
	out     *output
	payload *output // of a split archive, otherwise nil
	open    []openDir
	file    *fileWriter // being written, or nil
	err     error
}

// An openDir is a directory whose entries are being written.
type openDir struct {
	name    string
	at      int64            // of the name; 0 for the root
	start   int64            // from which the tail of the table counts
	entries []goodbye.Record // Offset is the position of the name, until the end is known
}

// NewEncoder begins an archive of version 1 on w, with the metadata of its
// root directory.
func NewEncoder(w io.Writer, root *Metadata) (*Encoder, error) {
	return (&Encoder{out: newOutput(w)}).begin(root)
}

// NewSplitEncoder begins a split archive of version 2: the metadata go to w,
// the contents of files to payload. The prelude is for the reader, opaque
// here, at most 4 MiB, and left out if it is nil.
func NewSplitEncoder(w, payload io.Writer, root *Metadata, prelude []byte) (*Encoder, error) {
	if len(prelude) > maxPrelude {
		return nil, fmt.Errorf("begin archive: prelude has %d bytes, at most %d are possible", len(prelude), maxPrelude)
	}
	e := &Encoder{out: newOutput(w), payload: newOutput(payload)}
	e.out.header(itemVersion, 8)
	e.out.words(2)
	if prelude != nil {
		e.out.header(itemPrelude, uint64(len(prelude)))
		e.out.write(prelude)
	}
	e.payload.header(itemPayloadStart, 0)
	return e.begin(root)
}

func (e *Encoder) begin(root *Metadata) (*Encoder, error) {
	if err := checkEntry("", root, root.IsDir()); err != nil {
		return nil, err
	}
	e.out.metadata(root)
	e.open = append(e.open, openDir{})
	return e, e.failed()
}

// Offset returns the length of the archive so far, in bytes; of a split
// archive, that of the metadata.
func (e *Encoder) Offset() int64 { return e.out.pos }

// BeginDir opens the directory name.
func (e *Encoder) BeginDir(name string, m *Metadata) error {
	at, err := e.entry(name, m, m.IsDir())
	if err != nil {
		return err
	}
	e.open = append(e.open, openDir{name: name, at: at, start: at + headerSize + int64(len(name)) + 1})
	return e.failed()
}

// EndDir closes the directory that was opened last. The root is closed by
// Close.
func (e *Encoder) EndDir() error {
	if err := e.ready(); err != nil {
		return err
	}
	if len(e.open) < 2 {
		return errors.New("end directory: none is open below the root")
	}
	d := e.endDir()
	e.add(d.name, d.at, 0)
	return e.failed()
}

func (e *Encoder) endDir() openDir {
	d := e.open[len(e.open)-1]
	e.out.table(d.start, d.entries)
	e.open[len(e.open)-1] = openDir{}
	e.open = e.open[:len(e.open)-1]
	return d
}

// File begins a regular file of size bytes. The result takes the content, no
// more and no less, and must be closed before the next call: Close fails, and
// the archive is broken, if bytes are missing. It is an io.ReaderFrom that
// reads no further than size, straight into the buffer of e, and whose errors
// are those of the source unless e is broken too (see Err). The position is for
// Hardlink.
func (e *Encoder) File(name string, m *Metadata, size int64) (io.WriteCloser, Position, error) {
	if size < 0 {
		return nil, 0, fmt.Errorf("archive %q: size is %d", name, size)
	}
	at, err := e.entry(name, m, m.IsRegular())
	if err != nil {
		return nil, 0, err
	}
	f := &fileWriter{e: e, out: e.out, name: name, at: at, left: size}
	if e.payload != nil {
		f.out, f.extra = e.payload, size
		e.out.header(itemPayloadRef, 16)
		e.out.words(uint64(e.payload.pos), uint64(size))
	}
	f.out.header(itemPayload, uint64(size))
	e.file = f
	return f, Position(at), e.failed()
}

// Symlink adds a symbolic link to target, which is kept as it is.
func (e *Encoder) Symlink(name string, m *Metadata, target string) error {
	if err := checkSymlink(target); err != nil {
		return fmt.Errorf("archive %q: %w", name, err)
	}
	at, err := e.entry(name, m, m.IsSymlink())
	if err != nil {
		return err
	}
	e.out.header(itemSymlink, uint64(len(target))+1)
	e.out.text(target)
	return e.leaf(name, at)
}

// Device adds a block or character device.
func (e *Encoder) Device(name string, m *Metadata, d Device) error {
	at, err := e.entry(name, m, m.IsDevice())
	if err != nil {
		return err
	}
	e.out.header(itemDevice, 16)
	e.out.words(d.Major, d.Minor)
	return e.leaf(name, at)
}

// Node adds a fifo or a socket.
func (e *Encoder) Node(name string, m *Metadata) error {
	at, err := e.entry(name, m, m.IsFifo() || m.IsSocket())
	if err != nil {
		return err
	}
	return e.leaf(name, at)
}

// Hardlink adds another name of the file at position of, which File returned.
// target is the path under which that file was added, from the root without
// leading slash.
func (e *Encoder) Hardlink(name, target string, of Position) error {
	if err := checkTarget(target); err != nil {
		return fmt.Errorf("archive %q: %w", name, err)
	}
	if of <= 0 || int64(of) >= e.out.pos {
		return fmt.Errorf("archive %q: no entry can be at position %d", name, of)
	}
	at, err := e.name(name)
	if err != nil {
		return err
	}
	e.out.header(itemHardlink, 8+uint64(len(target))+1)
	e.out.words(uint64(at - int64(of)))
	e.out.text(target)
	return e.leaf(name, at)
}

// Close ends the root directory and writes out what is buffered. It does not
// close the writers below. Without it there is no archive; an Encoder that is
// given up needs no Close.
func (e *Encoder) Close() error {
	if err := e.ready(); err != nil {
		return err
	}
	if len(e.open) > 1 {
		return fmt.Errorf("end archive: directory %q is open", e.open[len(e.open)-1].name)
	}
	e.endDir()
	e.out.flush()
	if e.payload != nil {
		e.payload.header(itemPayloadTail, 0)
		e.payload.flush()
	}
	if err := e.failed(); err != nil {
		return err
	}
	e.err = errors.New("archive has ended")
	return nil
}

// Err returns why the archive is broken, or nil.
func (e *Encoder) Err() error { return e.failed() }

// failed returns the error that broke the archive, and keeps it.
func (e *Encoder) failed() error {
	if e.err == nil {
		e.err = e.out.err
	}
	if e.err == nil && e.payload != nil {
		e.err = e.payload.err
	}
	return e.err
}

// ready tells why nothing can be added now.
func (e *Encoder) ready() error {
	if err := e.failed(); err != nil {
		return err
	}
	if e.file != nil {
		return fmt.Errorf("file %q is not closed", e.file.name)
	}
	return nil
}

// entry writes name and metadata of an entry and returns its position. fits
// says whether the metadata are those of what is being added.
func (e *Encoder) entry(name string, m *Metadata, fits bool) (at int64, err error) {
	if err := checkEntry(name, m, fits); err != nil {
		return 0, err
	}
	if at, err = e.name(name); err != nil {
		return 0, err
	}
	e.out.metadata(m)
	return at, nil
}

func checkEntry(name string, m *Metadata, fits bool) error {
	if !fits {
		return fmt.Errorf("archive %q: mode %#o is of another kind of entry", name, m.Mode)
	}
	if err := m.check(); err != nil {
		return fmt.Errorf("archive %q: %w", name, err)
	}
	return nil
}

func (e *Encoder) name(name string) (at int64, err error) {
	if err := e.ready(); err != nil {
		return 0, err
	}
	if err := CheckName(name); err != nil {
		return 0, fmt.Errorf("archive an entry: %w", err)
	}
	if len(e.open[len(e.open)-1].entries) >= goodbye.MaxEntries {
		return 0, fmt.Errorf("archive %q: its directory has %d entries, no more are possible", name, goodbye.MaxEntries)
	}
	at = e.out.pos
	e.out.header(itemFilename, uint64(len(name))+1)
	e.out.text(name)
	return at, nil
}

// leaf completes an entry that is not a directory.
func (e *Encoder) leaf(name string, at int64) error {
	e.add(name, at, 0)
	return e.failed()
}

// add notes an entry that began at at and ends here for the table of its
// directory.
func (e *Encoder) add(name string, at, extra int64) {
	d := &e.open[len(e.open)-1]
	d.entries = append(d.entries, goodbye.Record{Hash: goodbye.Hash(name), Offset: uint64(at), Size: uint64(e.out.pos - at + extra)})
}

// A fileWriter takes the content of a file.
type fileWriter struct {
	e     *Encoder
	out   *output
	name  string
	at    int64
	left  int64 // bytes that are still to come
	extra int64 // what the size in the table has besides the item's: the content of split archives (§4)
}

// Write appends p to the file. More than the file's size is refused, whole.
func (f *fileWriter) Write(p []byte) (int, error) {
	if err := f.usable(); err != nil {
		return 0, err
	}
	if int64(len(p)) > f.left {
		return 0, fmt.Errorf("archive %q: %d bytes more than its size", f.name, int64(len(p))-f.left)
	}
	f.out.write(p)
	f.left -= int64(len(p))
	if err := f.e.failed(); err != nil {
		return 0, err
	}
	return len(p), nil
}

// ReadFrom appends what r gives, at most what is missing.
func (f *fileWriter) ReadFrom(r io.Reader) (int64, error) {
	if err := f.usable(); err != nil {
		return 0, err
	}
	n, err := f.out.readFrom(r, f.left)
	f.left -= n
	if broken := f.e.failed(); broken != nil {
		return n, broken
	}
	return n, err
}

// Close ends the file.
func (f *fileWriter) Close() error {
	if err := f.usable(); err != nil {
		return err
	}
	f.e.file = nil
	if f.left > 0 {
		f.e.err = fmt.Errorf("archive %q: %d bytes are missing", f.name, f.left)
		return f.e.err
	}
	f.e.add(f.name, f.at, f.extra)
	return f.e.failed()
}

func (f *fileWriter) usable() error {
	if err := f.e.failed(); err != nil {
		return err
	}
	if f.e.file != f {
		return fmt.Errorf("archive %q: the file is closed", f.name)
	}
	return nil
}
