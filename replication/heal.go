package replication

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/holdfast-mesh/holdfast/catalog"
	"github.com/holdfast-mesh/holdfast/catalog/roots"
	"github.com/holdfast-mesh/holdfast/catalog/verify"
	"github.com/holdfast-mesh/holdfast/chunks"
	"github.com/holdfast-mesh/holdfast/replication/swarm"
	"github.com/holdfast-mesh/holdfast/replication/vouch"
	"github.com/holdfast-mesh/holdfast/replication/wire"
)

// HealConfig says what Heal works with. The zero value of an optional field
// means its default.
type HealConfig struct {
	Local   *catalog.Datastore // required
	Sources []Source           // required: whoever may have chunks, in any datastore of any node

	// Sums has what origins signed of encrypted chunks. Without it, or for a
	// chunk of which nothing is signed, an encrypted chunk cannot be healed:
	// nobody could tell whether it is the right one.
	Sums *vouch.Keeper

	// Origin asks the origin of a snapshot of which no sums are here; default: it
	// is not asked.
	Origin Origin

	// Full looks for missing chunks in all snapshots, also in those that passed
	// their last verification. It looks up every chunk that any of them names.
	Full bool

	UPID   string                        // of the task, noted with the verification that follows
	Printf func(format string, a ...any) // lines of the task log; default: none
	Log    *slog.Logger                  // default: discard
}

// A HealReport says what was found and healed.
type HealReport struct {
	verify.Healing
	Lost    int             `json:"lost"`              // chunks that were damaged or missing
	From    map[string]int  `json:"by-source"`         // how many chunks each source gave
	AtRisk  []wire.Snapshot `json:"at-risk,omitempty"` // snapshots that still lack a chunk
	Snapped int             `json:"snapshots"`         // that lacked one before
}

// Heal fetches chunks that are quarantined or missing in a datastore from
// whoever has them, checks them, says in the log where each came from, and
// verifies the snapshots that needed them again. What nobody has, or what
// cannot be believed, is no error: the report names the snapshots at risk.
//
// It is to be run after a verification that found damage, and once a day. It
// touches nothing that is whole, so it may run beside backups and pulls.
func Heal(ctx context.Context, cfg HealConfig) (HealReport, error) {
	if cfg.Local == nil || len(cfg.Sources) == 0 || len(cfg.Sources) > swarm.MaxSources {
		return HealReport{}, fmt.Errorf("heal: a datastore and 1 to %d sources are needed", swarm.MaxSources)
	}
	if cfg.Printf == nil {
		cfg.Printf = func(string, ...any) {}
	}
	cfg.Log = cmp.Or(cfg.Log, slog.New(slog.DiscardHandler))
	h := &healer{HealConfig: cfg, report: HealReport{From: map[string]int{}}}
	if err := h.find(ctx); err != nil {
		return h.report, fmt.Errorf("find damaged and missing chunks: %w", err)
	}
	h.report.Lost, h.report.Snapped = len(h.lost), len(h.hit)
	if len(h.lost) == 0 {
		cfg.Printf("nothing to heal")
		return h.report, nil
	}
	cfg.Printf("%d chunks of %d snapshots are damaged or missing", len(h.lost), len(h.hit))
	v, err := verify.New(cfg.Local, verify.Options{Depth: -1, UPID: cfg.UPID, Log: cfg.Log})
	if err != nil {
		return h.report, err
	}
	h.report.Healing, err = v.Heal(ctx, h, h.lost)
	if err == nil {
		err = h.remaining(ctx)
	}
	h.summary()
	return h.report, err
}

// A healer is one healing. It is the place that chunks come from: all sources
// together.
type healer struct {
	HealConfig
	lost   []chunks.Digest
	hit    []hit
	book   vouch.Book
	mu     sync.Mutex // of report, while chunks arrive
	report HealReport
}

// A hit is a snapshot that lacks chunks.
type hit struct {
	wire.Snapshot
	lost []chunks.Digest
}

// find finds the chunks that snapshots name and the store denies.
func (h *healer) find(ctx context.Context) error {
	all, err := h.Local.List(ctx, catalog.ListOptions{Depth: -1})
	if err != nil {
		return err
	}
	full := h.Full || h.Local.Chunks().Quarantined().Len() > 0
	seen := map[chunks.Digest]bool{}
	for _, i := range all {
		failed := i.Verification != nil && !i.Verification.OK()
		if !i.Finished() || !full && !failed {
			continue
		}
		s := hit{Snapshot: wire.Snapshot{Namespace: i.Namespace, Snapshot: i.Snapshot()}}
		if s.lost, err = h.lacks(ctx, s.Snapshot); err != nil {
			return err
		}
		if len(s.lost) == 0 {
			continue
		}
		h.hit = append(h.hit, s)
		h.expect(ctx, s)
		for _, d := range s.lost {
			if !seen[d] {
				seen[d] = true
				h.lost = append(h.lost, d)
			}
		}
	}
	return nil
}

// lacks returns the chunks that a snapshot names and that are not whole here.
// An index that cannot be read needs a pull with resync-corrupt, and no chunks.
func (h *healer) lacks(ctx context.Context, s wire.Snapshot) (lost []chunks.Digest, err error) {
	names, err := h.Local.Files(s.Namespace, s.Snapshot)
	if err != nil {
		return nil, nil // it has just gone
	}
	for _, name := range names {
		if !roots.IsIndex(name) {
			continue
		}
		x, err := h.Local.ReadIndex(s.Namespace, s.Snapshot, name)
		if err != nil {
			h.Printf("%s of %s cannot be read: %v", name, s, err)
			continue
		}
		for part := range slices.Chunk(vouch.Distinct(x), maxBlock) {
			missing, err := h.Local.Chunks().Missing(ctx, part)
			if err != nil {
				return nil, err
			}
			lost = append(lost, missing...)
		}
	}
	return lost, nil
}

// expect notes what the origin of a snapshot signed of its chunks.
func (h *healer) expect(ctx context.Context, s hit) {
	if h.Sums == nil {
		return
	}
	sums, err := h.Sums.Sums(ctx, s.Namespace, s.Snapshot.Snapshot)
	if err != nil && h.Origin != nil {
		sums, err = h.ask(ctx, s)
	}
	if err != nil {
		h.Log.Warn("encrypted chunks of a snapshot cannot be healed", "snapshot", s.Snapshot, "err", err)
		return
	}
	h.book.Add(sums, s.lost)
}

// ask asks the origin of a snapshot.
func (h *healer) ask(ctx context.Context, s hit) (map[chunks.Digest]vouch.Sum, error) {
	m, err := h.Local.Manifest(s.Namespace, s.Snapshot.Snapshot)
	if err != nil {
		return nil, err
	}
	files, known, err := h.Origin(ctx, m)
	if err != nil || !known {
		return nil, cmp.Or(err, vouch.ErrUnsigned)
	}
	indexes := map[string]chunks.Index{}
	for _, f := range m.Files {
		if vouch.Needs(f) {
			if indexes[f.Name], err = h.Local.ReadIndex(s.Namespace, s.Snapshot.Snapshot, f.Name); err != nil {
				return nil, err
			}
		}
	}
	var blobs []chunks.Blob
	for _, f := range files {
		blobs = append(blobs, f.Blob)
	}
	parts, err := h.Sums.All(m, indexes, blobs)
	all := map[chunks.Digest]vouch.Sum{}
	for _, sums := range parts {
		maps.Copy(all, sums)
	}
	return all, err
}

// String names the place for messages.
func (h *healer) String() string {
	names := make([]string, len(h.Sources))
	for i, s := range h.Sources {
		names[i] = s.Name()
	}
	return strings.Join(names, ", ")
}

// Get returns one chunk of whoever has it.
func (h *healer) Get(ctx context.Context, d chunks.Digest, buf []byte) (out chunks.Blob, err error) {
	gerr := h.GetMany(ctx, []chunks.Digest{d}, func(_ chunks.Digest, b chunks.Blob, e error) error {
		out, err = append(buf[:0], b...), e
		return nil
	})
	return out, cmp.Or(gerr, err)
}

// GetMany fetches chunks from all sources that have them.
func (h *healer) GetMany(ctx context.Context, want []chunks.Digest, fn func(chunks.Digest, chunks.Blob, error) error) error {
	if len(want) == 0 {
		return nil
	}
	sources := make([]swarm.Source, len(h.Sources))
	for i, s := range h.Sources {
		sources[i] = s
	}
	sw, err := swarm.New(swarm.Config{
		Sources: sources, Check: h.check, Got: h.got, Log: h.Log,
		Put: func(_ context.Context, d chunks.Digest, b chunks.Blob) error { return fn(d, b, nil) },
	})
	if err != nil {
		return err
	}
	masks := holders(ctx, h.Sources, -1, want, h.Log)
	g, ctx := errgroup.WithContext(ctx)
	ctx, done := context.WithCancel(ctx)
	defer done()
	g.Go(func() error { return sw.Run(ctx) })
	g.Go(func() error {
		defer done()
		var wg sync.WaitGroup
		errs := make([]error, len(want))
		list := make([]swarm.Chunk, len(want))
		for i, d := range want {
			wg.Add(1)
			list[i] = swarm.Chunk{Digest: d, Size: typicalChunk, Holders: masks[i], Done: func(err error) { errs[i] = err; wg.Done() }}
		}
		sw.Want(list)
		wg.Wait() // all are told, also when the swarm ends
		for i, err := range errs {
			if err != nil && ctx.Err() == nil {
				if err := fn(want[i], nil, err); err != nil {
					return err
				}
			}
		}
		return nil
	})
	return g.Wait()
}

// typicalChunk is how large a chunk is taken for whose size nobody has said.
const typicalChunk = 1 << 20

// check believes a chunk by its name, or by what its origin signed.
func (h *healer) check(d chunks.Digest, b chunks.Blob) error {
	if err := b.Verify(d, nil); err != nil {
		return err
	}
	if err := h.book.Check(d, b); err != nil {
		return fmt.Errorf("%w: %w", swarm.ErrDoubt, err)
	}
	return nil
}

// got notes where a chunk came from.
func (h *healer) got(d chunks.Digest, source string) {
	h.mu.Lock()
	h.report.From[source]++
	h.mu.Unlock()
	h.Printf("chunk %s healed from %s", d, source)
	h.Log.Info("chunk healed", "chunk", d.String(), "source", source, "store", h.Local.Dir)
}

// remaining finds the snapshots that still lack something.
func (h *healer) remaining(ctx context.Context) error {
	for _, s := range h.hit {
		missing, err := h.Local.Chunks().Missing(ctx, s.lost)
		if err != nil {
			return err
		}
		if len(missing) > 0 {
			h.report.AtRisk = append(h.report.AtRisk, s.Snapshot)
		}
	}
	return nil
}

func (h *healer) summary() {
	r := &h.report
	for _, d := range r.Reasons {
		h.Printf("chunk %s is not healed: %s", d.Digest, d.Reason)
	}
	for _, s := range r.AtRisk {
		h.Printf("WARNING: snapshot %s cannot be restored as a whole", s)
	}
	h.Printf("Summary: of %d chunks %d were fetched, %d were whole after all; %d snapshots are verified again, %d stay at risk",
		r.Lost, r.Fetched, r.Whole, r.Verified.OK, len(r.AtRisk))
}
