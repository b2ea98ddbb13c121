package meta

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"

	"github.com/holdfast-mesh/holdfast/chunks/cloud/bucket"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/layout"
	"github.com/holdfast-mesh/holdfast/chunks/disk"
)

// looks is how many index objects and bundles a PutBack reads. They take turns.
const looks = 3

// twinTurns is how many audits there are for one that reads the copy of the format.
const twinTurns = 8

// A GoneError says that small objects cannot be read in the bucket, and that
// this disk has no copy of them that is known to be right.
type GoneError struct {
	Keys  []string
	Place string
}

func (e *GoneError) Error() string {
	return fmt.Sprintf("%d objects that a new machine needs are gone from %s or damaged, and there is no copy here: the first is %s", len(e.Keys), e.Place, e.Keys[0])
}

// Hint is printed on its own line below the error.
func (e *GoneError) Hint() string {
	return "bring them back from the provider's versions or another copy of the bucket; until then keep this disk, no other machine can read the bucket"
}

// A small object is what should be in the bucket, and how to tell.
type small struct {
	key   string
	size  int64                  // as stored; -1: not known
	good  func(body []byte) bool // whether these bytes are the object
	local func() []byte          // the bytes, if this disk has them beyond doubt
	look  bool                   // read it, whatever a listing says
	keep  bool                   // and keep it, if there is no copy here
}

// PutBack compares the format, the root h and what it names with a listing of
// the store, and writes anew, from the copies on this disk, what is gone from the
// bucket or is not what the root names. No listing is believed alone: the object
// is asked for before. Format and root are read each time, of the others a few.
// allowed is asked before the first write. What cannot be put back is returned as
// gone, with a [GoneError].
func (m *Objects) PutBack(ctx context.Context, h layout.Head, found map[string]bucket.Info, allowed func(context.Context) error) (restored, gone []string, err error) {
	var failed []error
	for _, o := range m.needed(h) {
		wrong, there, err := m.wrong(ctx, o, found)
		if err == nil && wrong {
			body := o.local()
			if body == nil {
				gone = append(gone, o.key)
				continue
			}
			if len(restored) == 0 {
				if err := allowed(ctx); err != nil {
					return restored, gone, err
				}
			}
			_, err = m.Bucket.PutBytes(ctx, o.key, body, bucket.PutOption{New: !there && m.Bucket.Can().CreateOnce, Keep: true})
			if err == nil {
				restored = append(restored, o.key)
			}
		}
		if ctx.Err() != nil {
			return restored, gone, ctx.Err()
		}
		failed = append(failed, err)
	}
	if len(gone) > 0 {
		failed = append(failed, &GoneError{gone, m.Bucket.String()})
	}
	return restored, gone, errors.Join(failed...)
}

// wrong reports whether an object is gone or not what it should be, and whether
// there is something of its name.
func (m *Objects) wrong(ctx context.Context, o small, found map[string]bucket.Info) (wrong, there bool, err error) {
	if info, ok := found[o.key]; !ok || o.size >= 0 && info.Size != o.size {
		info, err := m.Bucket.Head(ctx, o.key)
		switch {
		case errors.Is(err, bucket.ErrNotFound):
			return true, false, nil
		case err != nil:
			return false, false, err
		case o.size >= 0 && info.Size != o.size:
			return true, true, nil
		}
	}
	if !o.look {
		return false, true, nil
	}
	body, _, err := m.Bucket.Get(ctx, o.key, maxObject)
	switch {
	case errors.Is(err, bucket.ErrNotFound):
		return true, false, nil
	case errors.Is(err, bucket.ErrShort): // the store has a sum of it, which does not match
		return true, true, nil
	case err != nil:
		return false, true, err
	}
	if !o.good(body) {
		return true, true, nil
	}
	if o.keep && o.local() == nil { // for the next time
		err = disk.WriteFileAtomic(m.FS, m.path(metaName(o.key)), body, 0o640)
	}
	return false, true, err
}

// needed returns the objects that a new machine needs beside the packs.
func (m *Objects) needed(h layout.Head) []small {
	all := []small{m.formatObject()}
	if h.Seq.N > 0 {
		all = append(all, m.rootObject(h.Seq))
	}
	twin := m.formatObject() // which is read now and then only, instead of another
	from, looks, isTwin := m.turns(len(h.Index)+len(h.Bundles), true)
	twin.key, twin.look = layout.FormatCopyKey, isTwin
	all = append(all, twin)
	var named []small
	for _, o := range slices.Concat(h.Index, h.Bundles) {
		named = append(named, small{
			key: o.Key, size: o.Size,
			good: func(b []byte) bool { return layout.SumOf(b) == o.Sum },
			local: func() []byte {
				if b, err := disk.ReadFile(m.FS, m.path(metaName(o.Key)), maxObject); err == nil && layout.SumOf(b) == o.Sum {
					return b
				}
				return nil
			},
			keep: true,
		})
	}
	for i := range named {
		named[i].look = turn(i, from, len(named)) < looks
	}
	return append(all, named...)
}

// turns says of how many objects which ones are read, and whether the copy of the
// format is; on: and that it is done.
func (m *Objects) turns(named int, on bool) (from, n int, twin bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if n = looks; (m.audits+1)%twinTurns == 0 {
		n, twin = n-1, true
	}
	if m.turn == 0 { // after a start, anywhere
		m.turn = max(named, 1) + rand.IntN(max(named, 1)) // never 0 again
	}
	from = m.turn
	if on {
		m.audits, m.turn = m.audits+1, m.turn+n
	}
	return from, n, twin
}

// turn is how many come before an object when it begins somewhere.
func turn(i, from, all int) int { return (i - from%all + all) % all }

// Looks returns the objects beside format and root that the next PutBack reads.
func (m *Objects) Looks(h layout.Head) (list []layout.Object) {
	named := slices.Concat(h.Index, h.Bundles)
	from, n, twin := m.turns(len(named), false)
	for i, o := range named {
		if turn(i, from, len(named)) < n {
			list = append(list, o)
		}
	}
	if twin {
		list = append(list, layout.Object{Key: layout.FormatCopyKey})
	}
	return list
}

// copyFormat writes the second copy of the format, unless that was done from here.
func (m *Objects) copyFormat(ctx context.Context) error {
	name := m.path(layout.FormatCopyKey)
	if _, err := disk.ReadFile(m.FS, name, maxObject); err == nil {
		return nil
	}
	body := m.formatObject().local()
	if body == nil {
		return nil // the audit says so
	}
	_, err := m.Bucket.Head(ctx, layout.FormatCopyKey)
	if errors.Is(err, bucket.ErrNotFound) && !errors.Is(err, bucket.ErrNoBucket) {
		_, err = m.Bucket.PutBytes(ctx, layout.FormatCopyKey, body, bucket.PutOption{New: m.Bucket.Can().CreateOnce, Keep: true})
	}
	if err != nil && !errors.Is(err, bucket.ErrExists) {
		return err
	}
	return disk.WriteFileAtomic(m.FS, name, body, 0o640)
}

// Keys returns the objects that h needs beside the packs, and the copy of the format
// if it is known to be there.
func (m *Objects) Keys(h *layout.Head) []string {
	if _, err := disk.ReadFile(m.FS, m.path(layout.FormatCopyKey), maxObject); err != nil {
		return h.Keys()
	}
	return append(h.Keys(), layout.FormatCopyKey)
}

// formatObject is what the format says here, unless its sum shows damage, or a
// later version wrote it, which says more.
func (m *Objects) formatObject() small {
	o := small{key: layout.FormatKey, size: -1, look: true}
	body, err := layout.EncodeFormat(m.Format)
	again, derr := layout.DecodeFormat(body)
	proved := err == nil && derr == nil && again.Sum == m.Format.Sum
	if proved {
		o.size = int64(len(body))
	}
	o.good = func(b []byte) bool {
		f, err := layout.DecodeFormat(b)
		return bytes.Equal(b, body) || !proved && err == nil && f.Store == m.Format.Store
	}
	o.local = func() []byte {
		if proved || err == nil && m.Format.Sum == "" { // of before there were sums
			return body
		}
		return nil
	}
	return o
}

// rootObject is the root that was saved last, if it is that one.
func (m *Objects) rootObject(seq layout.Seq) small {
	o := small{key: layout.RootKey(seq), size: -1, look: true}
	o.good = func(b []byte) bool { _, err := m.openRoot(b, seq); return err == nil }
	var saved []byte
	if b, err := disk.ReadFile(m.FS, m.path("head"), maxRoot); err == nil {
		if at, body, ok := splitHead(b); ok && at == seq && o.good(body) {
			saved = body
		}
	}
	o.local = func() []byte { return saved }
	return o
}
