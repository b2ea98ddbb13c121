package gc

import (
	"context"

	"github.com/holdfast-mesh/holdfast/chunks"
	"github.com/holdfast-mesh/holdfast/chunks/pack"
)

// Store is what a [Collector] needs of a store of packs; *pack.Store is one.
// The collector is the only one that condemns and reclaims.
type Store interface {
	chunks.BatchSource

	// Lookup finds the entry of d if it lives: not condemned, not quarantined,
	// not reclaimed. A crash may leave a chunk with a second live entry; only
	// the one that Lookup knows counts, the other is garbage.
	Lookup(d chunks.Digest) (ref pack.Ref, ok bool)

	// LocateMany is Lookup for marking: it calls fn for each of ds, in order,
	// and finds quarantined entries as well. A chunk that could not be read
	// once is not garbage while a snapshot names it.
	LocateMany(ds []chunks.Digest, fn func(i int, ref pack.Ref, held bool))

	// CheckIndex fails if what LocateMany relies on is damaged: then a chunk
	// that is needed may have looked unknown, and nothing may be condemned.
	CheckIndex(ctx context.Context) error

	// Append checks b's frame and stores it under d. It calls pin with the
	// entry's place before the entry can be seen by Lookup or counted by
	// BeginEpoch; pin may take locks of its own, never the store's. If d has a
	// live entry already, known is true, nothing is stored and pin is not
	// called: the caller has to look again under its gate.
	Append(ctx context.Context, d chunks.Digest, b chunks.Blob, pin func(pack.Ref)) (ref pack.Ref, known bool, err error)

	// Commit returns when everything appended before is durable.
	Commit(ctx context.Context) error

	// Failures counts failed writes. After one, entries appended since the
	// last successful Commit may be gone; the count has changed before any
	// later Commit succeeds.
	Failures() uint64

	// BeginEpoch durably begins a new epoch and returns every pack there is.
	// Info.Entries counts only entries that are durable: an entry that a
	// crash could take away must not be condemned, because its place may be
	// given to another chunk afterwards.
	BeginEpoch(ctx context.Context) (epoch uint64, packs []pack.Info, err error)

	// Epoch returns the current epoch and what BeginEpoch would, and changes
	// nothing: for a dry run.
	Epoch(ctx context.Context) (epoch uint64, packs []pack.Info, err error)

	// Condemned returns a copy of the entries condemned and not reclaimed.
	Condemned() *pack.Set

	// Condemn hides entries from Lookup at once, in memory; reading by digest
	// still works where no newer entry exists. It does not retain s, and
	// returns how many it did not hide before.
	Condemn(s *pack.Set) (condemned int)

	// SyncState returns when every Condemn so far is durable.
	SyncState(ctx context.Context) error

	// Generation is a number that changes whenever LocateMany begins to give
	// another place for a chunk that a snapshot may name: moved, healed, index
	// made anew. It never takes an earlier value again, not even after a crash.
	Generation() uint64

	// Measure tells for each pack what its entries occupy, and how much of
	// that the entries in s do.
	Measure(s *pack.Set) (map[uint32]pack.Usage, error)

	// Abilities tells how the file system can give space back.
	Abilities() pack.Abilities

	// Reclaim gives back the space of pack n's condemned entries. It may be
	// repeated, and goes on where an interrupted one stopped; it may do
	// less than asked. A pack that is being written takes nothing more.
	// Where live chunks move, their copies are durable before it calls
	// switchover, without holding a lock that Lookup or Append take;
	// switchover calls apply once, and the old pack stays until it returns.
	Reclaim(ctx context.Context, n uint32, m pack.Method, switchover func(moves []pack.Move, apply func())) (pack.Reclaimed, error)
}
