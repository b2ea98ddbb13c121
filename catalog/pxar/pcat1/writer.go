package pcat1

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// outputBuffer is what a writer gathers before it writes on, in bytes: half a
// chunk of a catalog.
const outputBuffer = 256 << 10

// A Writer writes a catalog in one pass. The calls come in the order of the
// archive: BeginDir opens a directory, what follows is in it until EndDir. It
// needs memory for the entries of the directories that are open. A call that
// fails because of its arguments has written nothing; after any other error
// every call fails.
type Writer struct {
	out  *bufio.Writer
	pos  int64
	open []openDir
	err  error
}

// An openDir is a table that waits for its end. Its entries are encoded
// already, but for the distances to the tables of directories, which depend on
// where this one will stand.
type openDir struct {
	name    string
	count   uint64
	entries []byte
	links   []link
}

// A link is a distance to be put in at an offset in entries.
type link struct {
	at    int
	table int64 // where the table of the directory stands
}

// NewWriter begins a catalog on w.
func NewWriter(w io.Writer) (*Writer, error) {
	c := &Writer{out: bufio.NewWriterSize(w, outputBuffer), open: make([]openDir, 1)}
	c.write([]byte(magic))
	return c, c.err
}

// BeginDir opens the directory name.
func (c *Writer) BeginDir(name string) error {
	if err := c.check(name); err != nil {
		return err
	}
	c.open = append(c.open, openDir{name: name})
	return nil
}

// EndDir closes the directory that was opened last.
func (c *Writer) EndDir() error {
	if c.err != nil {
		return c.err
	}
	if len(c.open) < 2 {
		return errors.New("end directory of catalog: none is open")
	}
	name := c.open[len(c.open)-1].name
	at := c.table()
	d := c.entry(name, Dir)
	d.links = append(d.links, link{at: len(d.entries), table: at})
	return c.err
}

// File adds a file of size bytes. mtime is in seconds since 1970, rounded
// down.
func (c *Writer) File(name string, size uint64, mtime int64) error {
	if err := c.check(name); err != nil {
		return err
	}
	d := c.entry(name, File)
	d.entries = appendSvarint(appendVarint(d.entries, size), mtime)
	return nil
}

// Add adds an entry that is neither a directory nor a file.
func (c *Writer) Add(name string, t Type) error {
	if !t.known() || t == Dir || t == File {
		return fmt.Errorf("add %q to catalog: entries of type %q have a method of their own, or are unknown", name, byte(t))
	}
	if err := c.check(name); err != nil {
		return err
	}
	c.entry(name, t)
	return nil
}

// Close writes the table of the root and what is buffered. It does not close
// the writer below.
func (c *Writer) Close() error {
	if c.err != nil {
		return c.err
	}
	if len(c.open) != 1 {
		return fmt.Errorf("end catalog: directory %q is open", c.open[len(c.open)-1].name)
	}
	at := c.table()
	c.write(binary.LittleEndian.AppendUint64(nil, uint64(at)))
	if c.err == nil {
		c.failed(c.out.Flush())
	}
	if c.err != nil {
		return c.err
	}
	c.err = errors.New("catalog has ended")
	return nil
}

func (c *Writer) write(p []byte) {
	if c.err != nil {
		return
	}
	n, err := c.out.Write(p)
	c.pos += int64(n)
	c.failed(err)
}

func (c *Writer) failed(err error) {
	if err != nil {
		c.err = fmt.Errorf("write catalog: %w", err)
	}
}

func (c *Writer) check(name string) error {
	if c.err != nil {
		return c.err
	}
	if err := checkName(name); err != nil {
		return fmt.Errorf("add to catalog: %w", err)
	}
	return nil
}

// entry appends type and name to the directory opened last.
func (c *Writer) entry(name string, t Type) *openDir {
	d := &c.open[len(c.open)-1]
	d.count++
	d.entries = appendVarint(append(d.entries, byte(t)), uint64(len(name)))
	d.entries = append(d.entries, name...)
	return d
}

// table writes the table of the directory opened last, closes it and returns
// where the table stands.
func (c *Writer) table() (at int64) {
	d := c.open[len(c.open)-1]
	c.open[len(c.open)-1] = openDir{}
	c.open = c.open[:len(c.open)-1]
	at = c.pos
	size := varintLen(d.count) + uint64(len(d.entries))
	for _, l := range d.links {
		size += varintLen(uint64(at - l.table))
	}
	var buf [2 * maxVarint]byte
	c.write(appendVarint(appendVarint(buf[:0], size), d.count))
	done := 0
	for _, l := range d.links {
		c.write(d.entries[done:l.at])
		c.write(appendVarint(buf[:0], uint64(at-l.table)))
		done = l.at
	}
	c.write(d.entries[done:])
	return at
}
