package meta

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/holdfast-mesh/holdfast/chunks/cloud/bucket"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/layout"
	"github.com/holdfast-mesh/holdfast/chunks/disk"
)

// ErrUnread says that an object that a root names is gone or damaged, and that
// there is no copy of it here.
var ErrUnread = errors.New("the object is gone or damaged")

// doubtFile keeps a doubt on the disk, until it is settled.
const doubtFile = "doubt"

// A Doubt is what the bucket has, or should have, and cannot be seen. While there
// is one, nothing may be deleted in the bucket: what cannot be seen may need it.
type Doubt struct {
	// Step is the newest one that objects in the bucket are of though no root of it,
	// or of a later one, can be read. Zero: there is none.
	Step layout.Seq `json:"step,omitzero"`
	// Unread are the objects that the root names and that cannot be read.
	Unread map[string]int `json:"unread,omitempty"` // how many packs or files are in each
	// Footers are what packs themselves said instead of index objects that cannot be read.
	Footers Footers `json:"footers,omitzero"`
}

// Footers say how much was read of packs in the place of index objects.
type Footers struct {
	Keys     []string `json:"keys"`     // of the index objects, sorted
	Packs    int      `json:"packs"`    // that no index object names which can be read
	Unread   int      `json:"unread"`   // of which the footer cannot be read either
	Requests int      `json:"requests"` // that it took
}

// Instead reports whether packs have said all that the index objects did which cannot
// be read, and nothing else is in doubt.
func (d Doubt) Instead() bool {
	return len(d.Unread) > 0 && d.Step.N == 0 && slices.Equal(d.Footers.Keys, slices.Sorted(maps.Keys(d.Unread))) && d.whole()
}

// whole reports whether as many packs were found as the index objects named, and each
// could be read.
func (d Doubt) whole() bool {
	named := 0
	for _, key := range d.Footers.Keys {
		named += d.Unread[key]
	}
	return d.Footers.Unread == 0 && d.Footers.Packs >= named
}

func (d Doubt) zero() bool { return d.Step.N == 0 && len(d.Unread) == 0 }

// String says what is missing, what may be lost, and what to do.
func (d Doubt) String() string {
	if d.zero() {
		return ""
	}
	var said []string
	if d.Step.N > 0 {
		said = append(said, fmt.Sprintf("objects of step %s are in the bucket, and no root of it that can be read: snapshots may be missing, or the owner stopped while it wrote", d.Step))
	}
	for _, key := range slices.Sorted(maps.Keys(d.Unread)) {
		what := "the places of the chunks of %d packs are unknown, and snapshots that need them cannot be restored"
		if slices.Contains(d.Footers.Keys, key) {
			what = "it named %d packs"
		}
		if strings.HasPrefix(key, layout.BundleDir) {
			what = "up to %d files of snapshots are missing, and these snapshots with them"
		}
		said = append(said, fmt.Sprintf("%s is gone or damaged: "+what, key, d.Unread[key]))
	}
	if f := d.Footers; f.Keys != nil {
		said = append(said, fmt.Sprintf("what %d packs say of themselves was read instead, with %d requests", f.Packs, f.Requests))
	}
	if d.Instead() {
		return strings.Join(said, "; ") + ". All snapshots can be restored. Nothing is deleted in the bucket meanwhile. An audit by the owner writes anew what is gone: holdfast datastore audit NAME"
	}
	return strings.Join(said, "; ") + ". Nothing is deleted in the bucket meanwhile. Let the node that wrote it audit it, or bring the objects and roots back from " +
		"the provider's versions or another copy of the bucket, then: holdfast datastore refresh NAME; to go on without them: holdfast datastore take-over NAME --force"
}

// Doubt returns what cannot be seen.
func (m *Objects) Doubt() Doubt {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.doubted()
}

// Doubtful reports whether there is a doubt.
func (m *Objects) Doubtful() bool { return !m.Doubt().zero() }

// doubted returns the doubt, read from the disk the first time. The caller holds mu.
func (m *Objects) doubted() Doubt {
	if !m.loaded {
		m.loaded = true
		if b, err := disk.ReadFile(m.FS, m.path(doubtFile), maxObject); err == nil && json.Unmarshal(b, &m.doubt) != nil {
			m.doubt = Doubt{}
		}
	}
	return Doubt{m.doubt.Step, maps.Clone(m.doubt.Unread), m.doubt.Footers}
}

// change changes the doubt. What is new is logged, once.
func (m *Objects) change(fn func(*Doubt)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	was, is := m.doubted(), m.doubted()
	fn(&is)
	if is.String() == was.String() {
		return
	}
	m.doubt = is
	var err error
	if is.zero() {
		err = Remove(m.FS, m.path(doubtFile))
	} else {
		var b []byte
		if b, err = json.Marshal(is); err == nil {
			err = disk.WriteFileAtomic(m.FS, m.path(doubtFile), b, 0o640)
		}
		m.log().Warn(is.String(), "bucket", m.Bucket.String())
	}
	if err != nil {
		m.log().Error("what is missing in the bucket could not be noted", "err", err)
	}
}

// read notes whether an object could be read, and returns an error that is another
// one than that it could not.
func (m *Objects) read(o layout.Object, err error) (ok bool, other error) {
	if err != nil && !errors.Is(err, ErrUnread) {
		return false, err
	}
	m.change(func(d *Doubt) {
		if err == nil {
			delete(d.Unread, o.Key)
			d.Footers.Keys = slices.DeleteFunc(slices.Clone(d.Footers.Keys), func(key string) bool { return key == o.Key })
			if len(d.Footers.Keys) == 0 {
				d.Footers = Footers{}
			}
		} else if d.Unread == nil {
			d.Unread = map[string]int{o.Key: o.Items}
		} else {
			d.Unread[o.Key] = o.Items
		}
	})
	return err == nil, nil
}

// forget drops objects that a root does not name any more from the doubt.
func (m *Objects) forget(h *layout.Head) {
	m.change(func(d *Doubt) {
		maps.DeleteFunc(d.Unread, func(key string, _ int) bool {
			return !slices.ContainsFunc(slices.Concat(h.Index, h.Bundles), func(o layout.Object) bool { return o.Key == key })
		})
		if len(d.Unread) == 0 {
			d.Footers = Footers{}
		}
	})
}

// Without returns what remains of objects if those that cannot be read are left out.
func (m *Objects) Without(objects []layout.Object) []layout.Object {
	d := m.Doubt()
	return slices.DeleteFunc(slices.Clone(objects), func(o layout.Object) bool { _, bad := d.Unread[o.Key]; return bad })
}

// Settle ends the doubt: somebody has said to go on without.
func (m *Objects) Settle() { m.change(func(d *Doubt) { *d = Doubt{} }) }

// unrooted returns the newest step behind seq that index objects or bundles are of.
func (m *Objects) unrooted(ctx context.Context, seq layout.Seq) (newest layout.Seq, err error) {
	for _, dir := range []string{layout.IndexDir, layout.BundleDir} {
		after := ""
		if seq.N > 0 {
			after = dir + seq.String() + "." // behind all of this step: the next sign of those is "-"
		}
		err := m.Bucket.ListAfter(ctx, dir, after, func(page []bucket.Info) error {
			for _, o := range page {
				name := strings.TrimPrefix(o.Key, dir)
				if is, ok := layout.ParseSeq(name[:min(len(name), seqLen)]); ok && seq.Less(is) && newest.Less(is) {
					newest = is
				}
			}
			return nil
		})
		if err != nil {
			return newest, err
		}
	}
	return newest, nil
}
