package vouch

import (
	"cmp"
	"context"
	"crypto"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"path"
	"strings"
	"sync"

	"github.com/holdfast-mesh/holdfast/catalog"
	"github.com/holdfast-mesh/holdfast/catalog/manifest"
	"github.com/holdfast-mesh/holdfast/catalog/naming"
	"github.com/holdfast-mesh/holdfast/catalog/roots"
	"github.com/holdfast-mesh/holdfast/chunks"
	"github.com/holdfast-mesh/holdfast/chunks/disk"
)

// Config says what a Keeper works with. The zero value of an optional field
// means its default.
type Config struct {
	Local *catalog.Datastore // required

	// Key is that of this node, Ed25519: what others find in its record, and
	// what its feed is signed with. Required.
	Key crypto.Signer

	// Believe says why the node with a key is not the one to vouch for a
	// snapshot, nil if it is: the origin, to which a client sent it. The
	// namespace differs from site to site, so it has to be told by the
	// manifest: a node is the origin if its feed says that it added this
	// manifest, and did not get it from another node. Required.
	Believe func(key [32]byte, m *manifest.Manifest) error

	Log *slog.Logger // default: discard
}

// A Keeper makes and checks the signed sums of one datastore. It starts
// nothing. Its methods may be called concurrently.
//
// Sums that this node makes lie in sums/ in the datastore's directory: they can
// be made again, but that means to read all chunks. Sums of others are files of
// the snapshots.
type Keeper struct {
	cfg Config

	mu sync.Mutex // one snapshot at a time is read
}

// New returns a keeper.
func New(cfg Config) (*Keeper, error) {
	if cfg.Local == nil || cfg.Key == nil || cfg.Believe == nil {
		return nil, errors.New("vouch: a datastore, a key and somebody to tell whose word counts are needed")
	}
	cfg.Log = cmp.Or(cfg.Log, slog.New(slog.DiscardHandler))
	return &Keeper{cfg: cfg}, nil
}

// Files returns the parts that go along with a snapshot that another node
// pulls: those that came with it, or else those that this node signs as its
// origin. These are made now if need be, which means to read the chunks that
// no earlier snapshot of the group has; whoever calls it once after each backup
// spares the first puller the wait. A snapshot that is not encrypted has none.
func (k *Keeper) Files(ctx context.Context, ns naming.Namespace, s naming.Snapshot) ([]File, error) {
	names, err := k.cfg.Local.Files(ns, s)
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		if Is(name) {
			return nil, nil // they are files of the snapshot
		}
	}
	m, err := k.cfg.Local.Manifest(ns, s)
	if err != nil {
		return nil, err
	}
	var files []File
	for _, f := range m.Files {
		if !Needs(f) {
			continue
		}
		parts, err := k.parts(ctx, ns, s, f)
		if err != nil {
			return nil, fmt.Errorf("sum up %s of %s: %w", f.Name, s, err)
		}
		for i, p := range parts {
			b, err := chunks.Encode(nil, p.Bytes(), chunks.EncodeOptions{})
			if err != nil {
				return nil, err
			}
			files = append(files, File{Name(f.Name, i), b})
		}
	}
	return files, nil
}

// Needs reports whether a file of a manifest is an index of encrypted chunks.
func Needs(f manifest.File) bool { return roots.IsIndex(f.Name) && f.CryptMode == manifest.Encrypt }

// parts returns the parts about an index that this node signs.
func (k *Keeper) parts(ctx context.Context, ns naming.Namespace, s naming.Snapshot, f manifest.File) ([]*Part, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	x, err := k.cfg.Local.ReadIndex(ns, s, f.Name)
	if err != nil {
		return nil, err
	}
	if x.Csum() != f.Csum {
		return nil, errors.New("the index is not what the manifest says")
	}
	list := Distinct(x)
	parts, err := k.load(f.Csum)
	if err != nil {
		return nil, err
	}
	again := k.cfg.Local.Collector().StoredAnew(list)
	sums := map[chunks.Digest]Sum{}
	switch whole := count(parts) == len(list); {
	case whole && len(again) == 0:
		return parts, nil
	case whole:
		spread(sums, list, parts)
	default:
		if err := k.known(ctx, ns, s, f.Name, sums); err != nil {
			return nil, err
		}
	}
	if same, err := k.renew(ctx, list, again, sums); err != nil || same && count(parts) == len(list) {
		return parts, err
	}
	parts = nil
	for first := 0; first < len(list); first += maxSums {
		p := &Part{Index: f.Csum, First: uint32(first)}
		for _, d := range list[first:min(first+maxSums, len(list))] {
			p.Sums = append(p.Sums, sums[d])
		}
		if err := p.sign(k.cfg.Key); err != nil {
			return nil, err
		}
		parts = append(parts, p)
	}
	return parts, k.save(parts)
}

func count(parts []*Part) (n int) {
	for _, p := range parts {
		n += len(p.Sums)
	}
	return n
}

// renew completes the sums of list. Those of chunks that were stored anew since
// they were signed may be others: it reports whether all are the same. One that
// cannot be read keeps the sum that it had.
func (k *Keeper) renew(ctx context.Context, list, again []chunks.Digest, sums map[chunks.Digest]Sum) (same bool, err error) {
	same = true
	for _, d := range again {
		now := map[chunks.Digest]Sum{}
		before, signed := sums[d]
		if err := k.read(ctx, []chunks.Digest{d}, now); err != nil && (!signed || ctx.Err() != nil) {
			return false, err
		}
		if sum, ok := now[d]; ok {
			same = same && sum == before
			sums[d] = sum
		}
	}
	return same, k.read(ctx, list, sums)
}

// spread notes what parts say of the chunks of list.
func spread(sums map[chunks.Digest]Sum, list []chunks.Digest, parts []*Part) {
	for i, d := range list {
		sums[d] = parts[i/maxSums].Sums[i%maxSums]
	}
}

// known adds the sums that this node made for the snapshot before.
func (k *Keeper) known(ctx context.Context, ns naming.Namespace, s naming.Snapshot, archive string, sums map[chunks.Digest]Sum) error {
	all, err := k.cfg.Local.Snapshots(ctx, ns, s.Group)
	if err != nil {
		return err
	}
	for _, before := range all { // newest first
		if before.Time >= s.Time {
			continue
		}
		x, err := k.cfg.Local.ReadIndex(ns, before, archive)
		if err != nil {
			continue
		}
		parts, err := k.load(x.Csum())
		list := Distinct(x)
		if err != nil || count(parts) != len(list) || len(list) == 0 {
			continue
		}
		spread(sums, list, parts)
		break
	}
	return nil
}

// read sums up those of list that sums lacks.
func (k *Keeper) read(ctx context.Context, list []chunks.Digest, sums map[chunks.Digest]Sum) error {
	var lack []chunks.Digest
	for _, d := range list {
		if _, ok := sums[d]; !ok {
			lack = append(lack, d)
		}
	}
	var mu sync.Mutex
	return chunks.GetMany(ctx, k.cfg.Local.Bulk(), lack, func(d chunks.Digest, b chunks.Blob, err error) error {
		if err != nil {
			return fmt.Errorf("chunk %s: %w", d.Short(), err)
		}
		sum := SumOf(b)
		mu.Lock()
		defer mu.Unlock()
		sums[d] = sum
		return nil
	})
}

func (k *Keeper) dir() string { return path.Join(k.cfg.Local.Dir, "sums") }

func (k *Keeper) file(index chunks.Digest, n int) string {
	return path.Join(k.dir(), fmt.Sprintf("%s.%d", index, n))
}

// load returns what this node signed about an index, nil if it did not, or
// with a key that it has no more, or if the file is damaged: it is made again.
func (k *Keeper) load(index chunks.Digest) (parts []*Part, err error) {
	for n := 0; ; n++ {
		b, err := disk.ReadFile(k.cfg.Local.FS, k.file(index, n), chunks.MaxBlob)
		if errors.Is(err, fs.ErrNotExist) {
			return parts, nil
		}
		if err != nil {
			return nil, err
		}
		p, err := Parse(b)
		if err != nil || p.Index != index || int(p.First) != n*maxSums || !k.mine(p) {
			k.cfg.Log.Warn("signed sums are made again", "index", index, "err", err)
			return nil, nil
		}
		parts = append(parts, p)
	}
}

func (k *Keeper) mine(p *Part) bool {
	pub, ok := k.cfg.Key.Public().(interface{ Equal(crypto.PublicKey) bool })
	return ok && pub.Equal(public(p.Key))
}

// save keeps parts, the first one last: without it there are none.
func (k *Keeper) save(parts []*Part) error {
	if err := disk.MkdirAll(k.cfg.Local.FS, k.dir(), 0o755); err != nil {
		return err
	}
	for n := len(parts) - 1; n >= 0; n-- {
		if err := disk.WriteFileAtomic(k.cfg.Local.FS, k.file(parts[n].Index, n), parts[n].Bytes(), 0o644); err != nil {
			return fmt.Errorf("keep signed sums: %w", err)
		}
	}
	return nil
}

// Sweep removes sums that this node made for indexes that no snapshot has any
// more. It is to be run at times, such as once a day.
func (k *Keeper) Sweep(ctx context.Context) (removed int, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	files, err := k.cfg.Local.FS.ReadDir(k.dir())
	if errors.Is(err, fs.ErrNotExist) || err == nil && len(files) == 0 {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	infos, err := k.cfg.Local.List(ctx, catalog.ListOptions{Depth: -1})
	if err != nil {
		return 0, err
	}
	needed := map[string]bool{}
	for _, i := range infos {
		m, err := k.cfg.Local.Manifest(i.Namespace, i.Snapshot())
		if err != nil {
			continue // it has none, or has just gone
		}
		for _, f := range m.Files {
			needed[f.Csum.String()] = true
		}
	}
	for _, f := range files {
		if index, _, _ := strings.Cut(f.Name(), "."); needed[index] {
			continue
		}
		if err := k.cfg.Local.FS.Remove(path.Join(k.dir(), f.Name())); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return removed, err
		}
		removed++
	}
	return removed, nil
}
