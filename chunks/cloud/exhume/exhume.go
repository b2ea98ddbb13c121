// Package exhume reads chunks from packs that are dead: a root has named them as no
// longer needed, and they are in the bucket still, for the grace.
package exhume

import (
	"context"

	"github.com/holdfast-mesh/holdfast/chunks"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/ahead"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/footers"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/layout"
	"github.com/holdfast-mesh/holdfast/chunks/pack/format"
)

// A Place is where to look.
type Place struct {
	ahead.Reader
	Gap   int64                  // see [ahead.Stretches]
	Dead  map[format.ID]bool     // the packs; emptied
	Known []layout.Pack          // what index objects say, of these and others
	Want  map[chunks.Digest]bool // what is looked for; what was found goes
}

// Each hands over what is wanted and can be read. A blob is valid only during the
// call, and was compared with its digest. Packs that no index object names any more are
// asked themselves.
func (p Place) Each(ctx context.Context, fn func(chunks.Digest, chunks.Blob) error) error {
	if len(p.Want) == 0 || len(p.Dead) == 0 {
		return nil
	}
	var packs []layout.Pack
	for _, k := range p.Known {
		if p.Dead[k.ID] {
			packs = append(packs, k)
			delete(p.Dead, k.ID)
		}
	}
	if len(p.Dead) > 0 {
		found, err := footers.Read(ctx, p.Bucket, p.Open, func(id format.ID) bool { return !p.Dead[id] })
		if err != nil {
			return err
		}
		packs = append(packs, found.Packs...)
	}
	for i, k := range packs {
		for _, stretch := range ahead.Stretches(p.wants(uint32(i), k), p.Gap) {
			err := p.Read(ctx, stretch, func(w ahead.Want, d chunks.Digest, b chunks.Blob, err error) error {
				if err != nil || d != w.Digest || b.Verify(d, nil) != nil {
					return nil // the next pack may have it
				}
				delete(p.Want, d)
				return fn(d, b)
			})
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// wants returns what of a pack is still wanted.
func (p Place) wants(number uint32, k layout.Pack) (wants []ahead.Want) {
	for n, row := range k.Rows {
		if p.Want[row.Digest] {
			wants = append(wants, ahead.Want{
				Digest: row.Digest, Pack: ahead.Pack{Number: number, ID: k.ID, Size: k.Size, Sealed: k.Sealed},
				Entry: uint32(n), Off: row.Off, N: layout.FrameSize(k.Sealed, row.Stored),
			})
		}
	}
	return wants
}
