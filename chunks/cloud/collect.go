package cloud

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/cespare/xxhash/v2"

	"github.com/holdfast-mesh/holdfast/chunks"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/bitmap"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/layout"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/notes"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/prices"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/refs"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/staging"
	"github.com/holdfast-mesh/holdfast/chunks/pack"
)

// Lookup returns where d lives. A chunk that is in the bucket and on the disk
// lives in the bucket: the other copy is about to go.
func (s *Store) Lookup(d chunks.Digest) (pack.Ref, bool) {
	if number, entry, ok := s.table.lookup(d); ok {
		return refs.Cloud(number, entry), true
	}
	r, ok := s.local.Lookup(d)
	return refs.Local(r), ok
}

// LocateMany is [pack.Store.LocateMany] over both places.
func (s *Store) LocateMany(ds []chunks.Digest, fn func(i int, r pack.Ref, held bool)) {
	s.local.LocateMany(ds, func(i int, r pack.Ref, held bool) {
		r, held = s.locate(ds[i], refs.Local(r), held)
		fn(i, r, held)
	})
}

// locate chooses among the places of a chunk, of which local is that on the
// disk. One that is denied counts only if there is no other: the chunk was
// stored anew because of that.
// And one that the bucket has not shown since the start is no reason to let go of
// what is here: then both stay.
func (s *Store) locate(d chunks.Digest, local pack.Ref, held bool) (pack.Ref, bool) {
	number, entry, ok := s.table.located(d)
	if !s.table.proved(d) {
		if r, here := s.local.Lookup(d); here {
			s.table.doubted(number, ok)
			return refs.Local(r), true
		}
	}
	if ok {
		return refs.Cloud(number, entry), true
	}
	return local, held
}

// Locate is LocateMany for one chunk.
func (s *Store) Locate(d chunks.Digest) (pack.Ref, bool) {
	r, held := s.local.Locate(d)
	return s.locate(d, refs.Local(r), held)
}

// LookupKind is Lookup that says how the chunk is encoded.
func (s *Store) LookupKind(d chunks.Digest) (pack.Ref, chunks.Kind, bool, error) {
	if number, entry, ok := s.table.lookup(d); ok {
		s.table.mu.RLock()
		defer s.table.mu.RUnlock()
		p := s.table.packs[number]
		if p == nil {
			return pack.Ref{}, 0, false, nil // it has gone meanwhile
		}
		return refs.Cloud(number, entry), p.kinds[entry], true, nil
	}
	r, kind, ok, err := s.local.LookupKind(d)
	return refs.Local(r), kind, ok, err
}

// Confirmed reports whether the bucket has d, and a root names it.
func (s *Store) Confirmed(d chunks.Digest) bool {
	_, _, ok := s.table.lookup(d)
	return ok
}

// Quarantine denies a chunk that was found damaged. See [pack.Store.Quarantine].
func (s *Store) Quarantine(r pack.Ref) error {
	if r.Pack%2 == 0 {
		return s.local.Quarantine(pack.Ref{Pack: r.Pack / 2, Entry: r.Entry})
	}
	return s.deny(r, func(bad []uint64) []uint64 { bitmap.Add(&bad, r.Entry); return bad })
}

// Absolve ends the quarantine of a chunk that was found whole.
func (s *Store) Absolve(r pack.Ref) error {
	if r.Pack%2 == 0 {
		return s.local.Absolve(pack.Ref{Pack: r.Pack / 2, Entry: r.Entry})
	}
	var one []uint64
	bitmap.Add(&one, r.Entry)
	return s.deny(r, func(bad []uint64) []uint64 { return bitmap.Without(bad, one) })
}

func (s *Store) deny(r pack.Ref, change func(bad []uint64) []uint64) error {
	s.table.mu.Lock()
	p := s.table.packs[r.Pack/2]
	if p == nil || int(r.Entry) >= len(p.offs) {
		s.table.mu.Unlock()
		return fmt.Errorf("quarantine: there is no entry %d of pack %d in %s", r.Entry, r.Pack/2, s)
	}
	p.bad = change(p.bad)
	s.note(notes.Note{Kind: notes.Bad, Pack: p.id, Bits: p.bad})
	s.table.mu.Unlock()
	return s.journal.Sync()
}

// Quarantined returns the entries that are denied because they are damaged, or
// their pack is lost, and that were not condemned since.
func (s *Store) Quarantined() *pack.Set {
	set := &pack.Set{}
	for number, words := range s.local.Quarantined().Rows() {
		set.OrRow(2*number, words)
	}
	s.table.mu.RLock()
	defer s.table.mu.RUnlock()
	for number, p := range s.table.packs {
		if set.OrRow(2*number+1, bitmap.Without(p.bad, p.dead)); p.lost {
			set.OrRow(2*number+1, bitmap.Others(p.dead, len(p.offs)))
		}
	}
	return set
}

// Packs returns the packs of both places.
func (s *Store) Packs() []pack.Info { return s.withRemotes(s.local.Packs()) }

// Len returns how many chunks there are, garbage too.
func (s *Store) Len() int { return s.local.Len() + s.table.idx.Len() }

// Append stores b on the disk unless d lives here or in the bucket. See
// [pack.Store.Append].
func (s *Store) Append(ctx context.Context, d chunks.Digest, b chunks.Blob, pin func(pack.Ref)) (pack.Ref, bool, error) {
	if err := b.Check(); err != nil {
		return pack.Ref{}, false, &chunks.Error{Op: "write", Digest: d, Place: s.String(), Err: err}
	}
	if number, entry, ok := s.table.lookup(d); ok {
		return refs.Cloud(number, entry), true, nil
	}
	var pinLocal func(pack.Ref)
	if pin != nil {
		pinLocal = func(r pack.Ref) { pin(refs.Local(r)) }
	}
	_, _, denied := s.table.located(d)
	r, known, err := s.local.Append(ctx, d, b, pinLocal)
	if denied && !known && err == nil { // healed: snapshots name this chunk by its old place
		s.table.moved()
	}
	return refs.Local(r), known, err
}

// CheckIndex compares the sums of both indexes.
func (s *Store) CheckIndex(ctx context.Context) error {
	return errors.Join(s.local.CheckIndex(ctx), s.table.idx.Check(ctx))
}

// Failures counts failed writes to the disk.
func (s *Store) Failures() uint64 { return s.local.Failures() }

// BeginEpoch begins a new epoch of the local store and returns every pack.
func (s *Store) BeginEpoch(ctx context.Context) (uint64, []pack.Info, error) {
	epoch, infos, err := s.local.BeginEpoch(ctx)
	return epoch, s.withRemotes(infos), err
}

// Epoch returns what BeginEpoch would, and writes nothing.
func (s *Store) Epoch(ctx context.Context) (uint64, []pack.Info, error) {
	epoch, infos, err := s.local.Epoch(ctx)
	return epoch, s.withRemotes(infos), err
}

func (s *Store) withRemotes(infos []pack.Info) []pack.Info {
	for i := range infos {
		infos[i].Number *= 2
	}
	for _, p := range s.table.all() {
		infos = append(infos, pack.Info{Number: 2*p.number + 1, ID: p.id, Entries: uint32(len(p.offs)), Sealed: true, Bytes: p.size, Created: p.created})
	}
	return infos
}

// Condemned returns the entries that are condemned and not reclaimed.
func (s *Store) Condemned() *pack.Set {
	all := &pack.Set{}
	for number, words := range s.local.Condemned().Rows() {
		all.OrRow(2*number, words)
	}
	s.table.mu.RLock()
	defer s.table.mu.RUnlock()
	for number, p := range s.table.packs {
		all.OrRow(2*number+1, p.dead)
	}
	return all
}

// Condemn denies entries from now on. It is durable after SyncState.
func (s *Store) Condemn(set *pack.Set) (condemned int) {
	local, cloud := refs.Split(set)
	if s.cfg.Stay { // nothing points to a copy on the disk, and it is no garbage for that
		staging.Spare(s.local, local, func(d chunks.Digest) bool {
			number, entry, ok := s.table.lookup(d)
			return ok && !bitmap.Has(cloud[number], entry)
		})
	}
	condemned = s.local.Condemn(local)
	doubtful := s.meta.Doubtful()
	s.table.mu.Lock()
	defer s.table.mu.Unlock()
	for number, words := range cloud {
		p := s.table.packs[number]
		if p == nil || doubtful || p.doubt && !p.lost {
			continue
		}
		if fresh := bitmap.Or(&p.dead, words); fresh > 0 {
			condemned += fresh
			s.note(notes.Note{Kind: notes.Dead, Pack: p.id, Bits: p.dead})
		}
	}
	return condemned
}

// SyncState makes every Condemn before the call durable.
func (s *Store) SyncState(ctx context.Context) error {
	return errors.Join(s.local.SyncState(ctx), s.journal.Sync())
}

// Generation changes whenever a chunk has got another place, and with every
// start.
func (s *Store) Generation() uint64 {
	s.table.mu.RLock()
	defer s.table.mu.RUnlock()
	b := binary.LittleEndian.AppendUint64(nil, s.table.gen)
	return xxhash.Sum64(binary.LittleEndian.AppendUint64(b, s.local.Generation()))
}

// Measure returns what the entries of every pack occupy.
func (s *Store) Measure(set *pack.Set) (map[uint32]pack.Usage, error) {
	local, cloud := refs.Split(set)
	sums, err := s.local.Measure(local)
	if err != nil {
		return nil, err
	}
	usage := make(map[uint32]pack.Usage, len(sums))
	for number, u := range sums {
		usage[2*number] = u
	}
	s.table.mu.RLock()
	defer s.table.mu.RUnlock()
	for number, p := range s.table.packs {
		usage[2*number+1] = staging.Usage(p.lens, p.sealed, cloud[number])
	}
	return usage, nil
}

// Abilities are those of the local disk.
func (s *Store) Abilities() pack.Abilities { return s.local.Abilities() }

// Reclaim gives back the space of condemned entries. A pack in the bucket that
// is wholly dead is buried by the next root; one that is partly dead is
// brought home when that is cheaper than paying for it, whatever the method.
func (s *Store) Reclaim(ctx context.Context, number uint32, m pack.Method, switchover func([]pack.Move, func())) (pack.Reclaimed, error) {
	if number%2 == 0 {
		return s.local.Reclaim(ctx, number/2, m, func(moves []pack.Move, apply func()) {
			for i := range moves {
				moves[i].Old, moves[i].New = refs.Local(moves[i].Old), refs.Local(moves[i].New)
			}
			undo := func() {
				for i := range moves {
					moves[i].Old.Pack /= 2
					moves[i].New.Pack /= 2
				}
				apply()
			}
			switchover(moves, undo)
		})
	}
	s.table.mu.RLock()
	p := s.table.packs[number/2]
	s.table.mu.RUnlock()
	if p == nil || m == pack.Keep || s.writable() != nil || s.meta.Doubtful() {
		return pack.Reclaimed{}, nil
	}
	return s.reclaimRemote(ctx, p, switchover)
}

func (s *Store) reclaimRemote(ctx context.Context, p *remote, switchover func([]pack.Move, func())) (pack.Reclaimed, error) {
	s.table.mu.RLock()
	dead := append([]uint64(nil), p.dead...)
	lost := p.lost
	s.table.mu.RUnlock()
	u := staging.Usage(p.lens, p.sealed, dead)
	done := pack.Reclaimed{Entries: u.Dead, FreedBytes: p.size}
	if u.Dead == u.Entries {
		return done, s.bury(ctx, p, nil)
	}
	if lost || !s.cfg.Prices.Compact(prices.Pack{Age: time.Since(p.created), Live: u.LiveBytes, Dead: u.DeadBytes}) {
		return pack.Reclaimed{}, nil
	}
	moves, err := s.bringHome(ctx, p, dead)
	if err != nil {
		return pack.Reclaimed{}, err
	}
	apply := func() {
		s.table.mu.Lock()
		delete(s.table.packs, p.number)
		s.table.gen++
		s.table.mu.Unlock()
	}
	switchover(moves, apply)
	done.CopiedBytes = u.LiveBytes
	return done, s.bury(ctx, p, moves)
}

// bury takes a pack that nothing needs out of the table; the next root names
// it as dead, but not before what was moved out of it is in the bucket again.
func (s *Store) bury(ctx context.Context, p *remote, moves []pack.Move) error {
	stone := grave{Tombstone: layout.Tombstone{Pack: p.id, Since: time.Now().UTC().Truncate(time.Second), Bytes: p.size}}
	for _, m := range moves {
		stone.home = append(stone.home, m.Digest)
	}
	s.mu.Lock()
	stone.Held = s.cfg.Prices.Held(s.b.Lock().Held(p.created, s.head.Locked), p.created)
	s.doomed = append(s.doomed, stone)
	s.mu.Unlock()
	s.note(notes.Note{Kind: notes.Doomed, Pack: p.id, Time: stone.Since})
	s.table.mu.Lock()
	delete(s.table.packs, p.number)
	s.table.mu.Unlock()
	return errors.Join(s.journal.Sync(), ctx.Err())
}

// bringHome copies what lives in a pack back to the disk, from where it will
// be uploaded with what is old by then.
func (s *Store) bringHome(ctx context.Context, p *remote, dead []uint64) ([]pack.Move, error) {
	var moves []pack.Move
	err := s.readPack(ctx, p, func(entry uint32) bool { return !bitmap.Has(dead, entry) },
		func(entry uint32, d chunks.Digest, b chunks.Blob, err error) error {
			if err != nil {
				return err
			}
			if number, at, ok := s.table.lookup(d); !ok || number != p.number || at != entry {
				return nil // it lives elsewhere
			}
			r, _, err := s.local.Append(ctx, d, b, nil)
			moves = append(moves, pack.Move{Digest: d, Old: refs.Cloud(p.number, entry), New: refs.Local(r)})
			return err
		})
	if err != nil {
		return nil, err
	}
	return moves, s.local.Commit(ctx)
}
