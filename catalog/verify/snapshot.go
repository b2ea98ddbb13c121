package verify

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"

	"github.com/holdfast-mesh/holdfast/catalog"
	"github.com/holdfast-mesh/holdfast/catalog/manifest"
)

// Snapshots are settled in rounds: their chunks are read together, in the order
// of the packs, and then their states are stored. A long round reads in better
// order, a short one loses less when it is cut off.
const (
	roundChunks    = 8192     // some 16 GB to read
	roundSnapshots = 256      // that are held meanwhile
	roundIndexes   = 64 << 20 // bytes of their indexes that are kept
)

// A pending snapshot has been opened, its files are checked, and it waits for
// chunks to be read.
type pending struct {
	target
	reader *catalog.Reader
	result Result
	parts  []part
	bytes  int64 // of the indexes
}

// begin opens a snapshot and checks its files. If all its chunks are known
// already it is finished, else it becomes pending. Only what keeps the whole
// run from going on is an error.
func (v *Verifier) begin(ctx context.Context, t target) error {
	r, err := v.d.OpenSnapshot(ctx, t.ns, t.snap)
	if err != nil {
		return v.unopened(ctx, t, err)
	}
	if !v.again && v.opt.isRecent(r.Manifest()) {
		r.Close()
		v.add(Result{Namespace: t.ns, Snapshot: t.snap, State: Skipped})
		return nil
	}
	p := &pending{target: t, reader: r, result: Result{Namespace: t.ns, Snapshot: t.snap}}
	v.pending = append(v.pending, p) // from now on closed with the run
	for _, f := range r.Manifest().Files {
		if err := ctx.Err(); err != nil {
			return err
		}
		v.checkFile(p, f)
	}
	v.held += p.bytes
	return v.scanNew(ctx, p)
}

// unopened decides what a snapshot means that cannot be opened.
func (v *Verifier) unopened(ctx context.Context, t target, err error) error {
	result := Result{Namespace: t.ns, Snapshot: t.snap, State: Failed}
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.Is(err, catalog.ErrMaintenance):
		return err
	case errors.Is(err, catalog.ErrBusy):
		result.State = Busy
		v.opt.Log.Info("snapshot is busy and is not verified", "snapshot", t.String())
	case v.isGone(t):
		if v.opt.Snapshot != nil {
			return err
		}
		return nil // removed since it was listed
	default:
		result.problem("%v", err)
		result.Unstored = "there is no manifest to write it into"
	}
	v.add(result)
	return nil
}

func (v *Verifier) isGone(t target) bool {
	_, err := v.d.Files(t.ns, t.snap)
	return errors.Is(err, fs.ErrNotExist)
}

// scanNew looks which chunks of p are to be read. If none are, p is finished.
func (v *Verifier) scanNew(ctx context.Context, p *pending) error {
	unread, err := v.scan(ctx, p)
	if err != nil {
		return err
	}
	if unread == 0 {
		v.pending = v.pending[:len(v.pending)-1]
		v.held -= p.bytes
		v.finish(p)
	}
	return nil
}

// maxScans bounds how often a snapshot is looked at whose chunks move to
// another place while they are read, as those of a collection do.
const maxScans = 8

// settle reads what is queued and finishes what is pending.
func (v *Verifier) settle(ctx context.Context) error {
	for range maxScans {
		if len(v.pending) == 0 {
			return nil
		}
		if err := v.read(ctx); err != nil {
			return err
		}
		if err := v.finishRead(ctx); err != nil {
			return err
		}
	}
	if len(v.pending) == 0 {
		return nil
	}
	return fmt.Errorf("verify %s: its chunks go on moving while they are read", v.pending[0])
}

// finishRead finishes those pending snapshots of which every chunk is known.
func (v *Verifier) finishRead(ctx context.Context) error {
	var rest []*pending
	for i, p := range v.pending {
		unread, err := v.scan(ctx, p)
		if err != nil {
			v.pending = append(rest, v.pending[i:]...)
			return err
		}
		if unread > 0 {
			rest = append(rest, p)
			continue
		}
		v.held -= p.bytes
		v.finish(p)
	}
	v.pending = rest
	return nil
}

// finish stores the state of a snapshot and lets go of it.
func (v *Verifier) finish(p *pending) {
	defer p.reader.Close()
	p.result.State = OK
	if p.result.ErrorCount > 0 {
		p.result.State = Failed
	}
	state := manifest.VerifyState{State: string(p.result.State), UPID: v.opt.UPID}
	err := v.d.UpdateManifest(p.ns, p.snap, func(m *catalog.Manifest) error { return m.SetVerifyState(state) })
	if err != nil {
		p.result.Unstored = err.Error()
		level := slog.LevelWarn
		if v.unstored { // of a bucket that is only read, it is so of each
			level = slog.LevelDebug
		}
		v.unstored = true
		v.opt.Log.Log(context.Background(), level, "state of verification could not be stored; of others it is said at level debug", "snapshot", p.String(), "err", err)
	}
	v.add(p.result)
}
