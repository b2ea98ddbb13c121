package pxar

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/holdfast-mesh/holdfast/catalog/pxar/goodbye"
)

// outputBuffer is what is gathered before it is written on, in bytes: enough
// for few and large writes, little against the chunks that follow.
const outputBuffer = 1 << 20

// leastRead is the room that a read of content gets, in bytes: little for one
// call of the system, too little to empty the buffer for.
const leastRead = 64 << 10

// An output is a stream of items with a buffer before it.
type output struct {
	w   io.Writer
	buf []byte // gathered, at most outputBuffer
	pos int64  // bytes put in so far
	err error  // of w; nothing can be written after it
}

func newOutput(w io.Writer) *output {
	return &output{w: w, buf: make([]byte, 0, outputBuffer)}
}

// flush writes what was gathered.
func (o *output) flush() {
	if len(o.buf) > 0 {
		o.pass(o.buf)
		o.buf = o.buf[:0]
	}
}

func (o *output) pass(p []byte) {
	if o.err != nil {
		return
	}
	n, err := o.w.Write(p)
	if err == nil && n != len(p) {
		err = io.ErrShortWrite
	}
	if err != nil {
		o.err = fmt.Errorf("write archive: %w", err)
	}
}

// reserve makes room for n bytes in the buffer, which n must not exceed.
func (o *output) reserve(n int) {
	if len(o.buf)+n > cap(o.buf) {
		o.flush()
	}
}

// write appends p; what is as large as the buffer goes past it.
func (o *output) write(p []byte) {
	o.pos += int64(len(p))
	if len(p) >= cap(o.buf) {
		o.flush()
		o.pass(p)
		return
	}
	o.reserve(len(p))
	o.buf = append(o.buf, p...)
}

// readFrom copies n bytes from r through the buffer, without a copy of their
// own. It returns how many r gave and its error, which is not that of o.
func (o *output) readFrom(r io.Reader, n int64) (done int64, err error) {
	empty := 0
	for done < n && err == nil && o.err == nil {
		o.reserve(int(min(n-done, leastRead)))
		space := o.buf[len(o.buf):cap(o.buf)]
		space = space[:min(int64(len(space)), n-done)]
		var m int
		m, err = r.Read(space)
		if m < 0 || m > len(space) {
			panic("pxar: a reader returned an impossible count")
		}
		o.buf = o.buf[:len(o.buf)+m]
		o.pos += int64(m)
		done += int64(m)
		if empty++; m > 0 {
			empty = 0
		}
		if empty == 100 {
			err = io.ErrNoProgress
		}
	}
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return done, err
}

// header begins an item with a content of n bytes.
func (o *output) header(t itemType, n uint64) {
	o.words(uint64(t), headerSize+n)
}

// words appends little-endian words.
func (o *output) words(words ...uint64) {
	n := 8 * len(words)
	o.reserve(n)
	for _, w := range words {
		o.buf = binary.LittleEndian.AppendUint64(o.buf, w)
	}
	o.pos += int64(n)
}

// text appends s and a NUL.
func (o *output) text(s string) {
	o.reserve(len(s) + 1)
	o.buf = append(append(o.buf, s...), 0)
	o.pos += int64(len(s)) + 1
}

// metadata appends the entry item and the attributes of m, which was checked.
func (o *output) metadata(m *Metadata) {
	o.header(itemEntry, 40)
	o.words(uint64(m.Mode), m.Flags, uint64(m.UID)|uint64(m.GID)<<32, uint64(m.Mtime.Sec), uint64(m.Mtime.Nsec))
	for _, x := range m.Xattrs {
		o.header(itemXattr, uint64(len(x.Name)+1+len(x.Value)))
		o.text(x.Name)
		o.write(x.Value)
	}
	if !m.ACL.IsZero() {
		o.acl(&m.ACL)
	}
	if m.FCaps != nil {
		o.header(itemFCaps, uint64(len(m.FCaps)))
		o.write(m.FCaps)
	}
	if m.ProjectID != 0 {
		o.header(itemProjectID, 8)
		o.words(m.ProjectID)
	}
}

func (o *output) acl(a *ACL) {
	o.aclEntries(itemACLUser, a.Users)
	o.aclEntries(itemACLGroup, a.Groups)
	if a.GroupObj != nil {
		o.header(itemACLGroupObj, 8)
		o.words(*a.GroupObj)
	}
	if d := a.Default; d != nil {
		o.header(itemACLDefault, 32)
		o.words(d.UserObj, d.GroupObj, d.Other, d.Mask)
	}
	o.aclEntries(itemACLDefaultUser, a.DefaultUsers)
	o.aclEntries(itemACLDefaultGroup, a.DefaultGroups)
}

func (o *output) aclEntries(t itemType, entries []ACLEntry) {
	for _, e := range entries {
		o.header(t, 16)
		o.words(uint64(e.ID), e.Perm)
	}
}

// table appends the goodbye table of a directory that starts at start. The
// offsets of entries are still the positions of their names.
func (o *output) table(start int64, entries []goodbye.Record) {
	at := uint64(o.pos)
	for i := range entries {
		entries[i].Offset = at - entries[i].Offset
	}
	size := uint64(len(entries)+1) * goodbye.RecordSize
	o.header(itemGoodbye, size)
	for _, r := range goodbye.SearchTree(entries) {
		o.words(r.Hash, r.Offset, r.Size)
	}
	o.words(goodbye.TailMark, at-uint64(start), headerSize+size)
}
