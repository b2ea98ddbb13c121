package meta

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/holdfast-mesh/holdfast/chunks/cloud/bucket"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/layout"
	"github.com/holdfast-mesh/holdfast/chunks/disk"
)

// ErrRoot says that no root can be read: all that there are are damaged.
var ErrRoot = errors.New("the root is damaged")

// Newest returns the newest root of the bucket that can be read, an empty one if
// there is none yet. If newer ones are damaged, [Objects.Behind] says so: whoever
// reads sees the state before, and nobody may write behind it unawares. It is never
// one before the root that is known on this disk. Unless we wrote that one, objects of
// later steps are looked for, of which the roots may be gone: see [Objects.Doubt].
func (m *Objects) Newest(ctx context.Context) (*layout.Head, error) {
	m.asked.Store(false)
	known := m.known()
	h, err := m.newest(ctx)
	if err != nil || known != nil && (known.Seq.N == 0 || known.Node == m.Node) {
		return h, err
	}
	step, err := m.unrooted(ctx, h.Seq)
	if err == nil && step.N > 0 { // an owner that is writing just now comes to its root
		if h, err = m.newest(ctx); err == nil {
			step, err = m.unrooted(ctx, h.Seq)
		}
	}
	if err != nil {
		return h, err
	}
	if bad := m.Behind(); step.Less(bad) {
		step = bad
	}
	m.change(func(d *Doubt) { d.Step = step })
	return h, nil
}

func (m *Objects) newest(ctx context.Context) (*layout.Head, error) {
	known := m.known()
	if known == nil {
		known = &layout.Head{Store: m.Format.Store}
	}
	newer, err := m.after(ctx, known.Seq)
	if err == nil && len(newer) == 0 && known.Seq.N == 0 {
		err = disk.WriteFileAtomic(m.FS, m.path("head"), []byte(empty), 0o640)
	}
	if err != nil {
		return known, err
	}
	m.behind.Store(nil)
	var failed []error
	for i, seq := range newer {
		h, body, err := m.root(ctx, seq)
		if err == nil {
			if i > 0 {
				m.behind.Store(&newer[0])
			}
			return h, m.SaveRoot(body, seq)
		}
		if !errors.Is(err, ErrRoot) {
			return nil, err
		}
		failed = append(failed, err)
	}
	switch {
	case len(newer) == 0:
		return known, nil
	case known.Seq.N == 0:
		return nil, errors.Join(failed...)
	}
	m.behind.Store(&newer[0])
	return known, nil
}

// Behind returns the newest root of the bucket if that is damaged and the one that
// Newest returned last came before it; else zero.
func (m *Objects) Behind() layout.Seq {
	if seq := m.behind.Load(); seq != nil {
		return *seq
	}
	return layout.Seq{}
}

// after lists the roots behind seq, the newest first.
func (m *Objects) after(ctx context.Context, seq layout.Seq) (newer []layout.Seq, err error) {
	after := ""
	if seq.N > 0 {
		after = layout.RootKey(seq)
	}
	err = m.Bucket.ListAfter(ctx, layout.RootDir, after, func(page []bucket.Info) error {
		for _, o := range page {
			if is, ok := layout.ParseSeq(strings.TrimPrefix(o.Key, layout.RootDir)); ok && seq.Less(is) {
				newer = append(newer, is)
			}
		}
		return nil
	})
	slices.SortFunc(newer, func(a, b layout.Seq) int {
		if a.Less(b) {
			return 1
		}
		return -1
	})
	return newer, err
}

// root reads a root. One that is damaged is read twice: what was flipped on its way
// is not flipped again.
func (m *Objects) root(ctx context.Context, seq layout.Seq) (h *layout.Head, body []byte, err error) {
	for range 2 {
		body, _, err = m.Bucket.Get(ctx, layout.RootKey(seq), maxRoot)
		switch {
		case errors.Is(err, bucket.ErrNoBucket):
			return nil, nil, err
		case errors.Is(err, bucket.ErrShort), errors.Is(err, bucket.ErrNotFound):
			return nil, nil, fmt.Errorf("root %s: %w: %w", seq, ErrRoot, err)
		case err != nil:
			return nil, nil, err
		}
		if h, err = m.openRoot(body, seq); err == nil {
			return h, body, nil
		}
	}
	return nil, nil, fmt.Errorf("root %s: %w: %w", seq, ErrRoot, err)
}
