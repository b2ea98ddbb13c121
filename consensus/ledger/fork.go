package ledger

import (
	"bytes"
	"fmt"
	"strings"
)

// Fork returns a ledger that begins with the state of now and goes its own way:
// to see what commands would do that cannot be given yet.
func (l *Ledger) Fork() *Ledger {
	f := New(nil)
	f.now.Store(&era{l.now.Load().db.Snapshot(), make(chan struct{})})
	return f
}

// ReadChange reads a command of the kind [KindChange].
func ReadChange(b []byte) (Command, Change, error) {
	p, err := prepare(b)
	if err != nil {
		return Command{}, Change{}, err
	}
	c, is := p.body.(*Change)
	if !is {
		return Command{}, Change{}, fmt.Errorf("a command of the kind %d changes no rows", p.command.Kind)
	}
	return p.command, *c, nil
}

// Subject says which rows a change is about, but for marks.
func (c Change) Subject() string {
	var rows Change
	for _, o := range c.Ops {
		if !o.Mark() {
			rows.Ops = append(rows.Ops, o)
		}
	}
	return strings.ReplaceAll(rows.subject(), "\x00", " ")
}

// Fulfilled tells whether all rows are what a change would make them, whoever did it,
// and the version of the newest of them.
func (c Change) Fulfilled(v View) (version uint64, is bool) {
	for _, o := range c.Ops {
		if o.Mark() {
			continue
		}
		r := v.row(o.Table, o.Key)
		if (r == nil) != o.Delete || r != nil && !bytes.Equal(r.row.Body, o.Body) {
			return 0, false
		}
		if is = true; r != nil {
			version = max(version, r.row.Version)
		}
	}
	return version, is
}

// Made tells whether somebody has made the row that an op is to make, just as it would
// be, and its version: the first change of accounts anywhere makes root@pam, too.
func (o Op) Made(v View) (version uint64, is bool) {
	r := v.row(o.Table, o.Key)
	if o.Expect != 0 || o.Delete || r == nil || !bytes.Equal(r.row.Body, o.Body) {
		return 0, false
	}
	return r.row.Version, true
}

// Mark tells whether an op writes the row that every change of accounts, or of
// the settings of a node, writes, and which says nothing else.
func (o Op) Mark() bool {
	if o.Table != Settings.number {
		return false
	}
	node, is := strings.CutPrefix(o.Key, "node/")
	return o.Key == generationKey || is && !strings.Contains(node, "/")
}
