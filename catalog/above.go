package catalog

import (
	"context"

	"github.com/holdfast-mesh/holdfast/chunks"
	"github.com/holdfast-mesh/holdfast/chunks/gc"
	"github.com/holdfast-mesh/holdfast/chunks/pack"
)

// A Store is where the chunks of a datastore are: the packs of its directory,
// or a tier above them.
type Store interface {
	gc.Store
	chunks.Writer
	chunks.Knower

	// Locate is LocateMany for one chunk.
	Locate(d chunks.Digest) (ref pack.Ref, held bool)

	// LookupKind is Lookup that says how the chunk is encoded.
	LookupKind(d chunks.Digest) (ref pack.Ref, kind chunks.Kind, ok bool, err error)

	// Quarantine denies a chunk that was found damaged, so that whoever has it
	// stores it again; Absolve ends that. Quarantined returns those that are denied so.
	Quarantine(ref pack.Ref) error
	Absolve(ref pack.Ref) error
	Quarantined() *pack.Set

	Packs() []pack.Info
	Len() int // chunks, garbage too
	Close() error
}

// Above is a tier above the packs of a directory, where most chunks live.
type Above interface {
	// Over returns the store of chunks, of which local is a part. The Datastore
	// closes it, and then local.
	Over(ctx context.Context, local *pack.Store) (Store, error)

	// Writable says why nothing may be changed at present.
	Writable() error

	// Relieve makes room on a disk that is full, which may take long. With a method
	// Finished, a tier is asked before a snapshot that is whole is acknowledged.
	Relieve(ctx context.Context) error

	Forgets(ns Namespace, s Snapshot) error // is asked before one goes to the trash
}

// plain is the store of a datastore without a tier: Close is that of Datastore.
type plain struct{ *pack.Store }

func (plain) Close() error { return nil }

// Chunks returns the store of chunks.
func (d *Datastore) Chunks() Store { return d.chunks }

// Local returns the packs in the directory, which are all there is unless
// something lies above.
func (d *Datastore) Local() *pack.Store { return d.packs }

// Bulk returns the chunks for whoever reads them all once: what is read so does
// not push out of a cache what people use.
func (d *Datastore) Bulk() chunks.BatchSource {
	if s, ok := d.chunks.(interface{ Bypass() chunks.BatchSource }); ok {
		return s.Bypass()
	}
	return d.chunks
}
