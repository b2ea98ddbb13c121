package catalog

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"strings"

	"github.com/holdfast-mesh/holdfast/catalog/naming"
	"github.com/holdfast-mesh/holdfast/chunks"
	"github.com/holdfast-mesh/holdfast/chunks/disk"
	"github.com/holdfast-mesh/holdfast/chunks/pack/identity"
)

// check opens the datastore after a crash, without any help, and looks at
// everything; then it goes on working.
func (h *history) check(ctx context.Context) error {
	if _, err := h.mem.Stat(path.Join(storeDir, identity.File)); errors.Is(err, os.ErrNotExist) && h.acked == 0 {
		if err := h.init(ctx); err != nil { // crashed in Init, which may be repeated
			return err
		}
	}
	if err := h.open(ctx); err != nil {
		return fmt.Errorf("open: %w", err)
	}
	if err := h.verify(ctx); err != nil {
		return fmt.Errorf("after opening: %w", err)
	}
	for _, i := range h.all(inTrash, nil) {
		if h.owner(i) == bob {
			continue
		}
		if err := h.undo(ctx, i.ns, i.s); err != nil {
			return fmt.Errorf("undo: %w", err)
		}
		break
	}
	if err := h.collect(ctx); err != nil {
		return fmt.Errorf("collect: %w", err)
	}
	if err := h.backup(ctx, "", snap("host/after", 900), 1, 2, 3, 30, 31); err != nil {
		return fmt.Errorf("backup: %w", err)
	}
	if err := h.verify(ctx); err != nil {
		return fmt.Errorf("after a collection: %w", err)
	}
	if err := errors.Join(h.close(ctx), h.open(ctx), h.verify(ctx)); err != nil {
		return fmt.Errorf("after a clean stop: %w", err)
	}
	return h.close(ctx)
}

func (h *history) owner(i id) string {
	owner, _ := h.d.Owner(i.ns, i.s.Group)
	return owner
}

// verify compares what is there with what was acknowledged. What may be one
// thing or the other is from then on what it was found to be.
func (h *history) verify(ctx context.Context) error {
	found, err := h.find(ctx)
	if err != nil {
		return err
	}
	for i, r := range h.snaps {
		at := found[i]
		if at == 0 {
			at = nowhere
		}
		if r.place&at == 0 || at&(at-1) != 0 {
			return fmt.Errorf("snapshot %s is %v, want %v", name(i.ns, i.s), at, r.place)
		}
		r.place = at
		delete(found, i)
	}
	if len(found) > 0 {
		return fmt.Errorf("nobody made %v", found)
	}
	for ns, sure := range h.spaces {
		if there, err := h.d.HasNamespace(ns); sure && !there {
			return fmt.Errorf("namespace %q is gone: %w", ns, err)
		}
	}
	for g, want := range h.owners {
		if got, err := h.d.Owner(g.ns, g.g); !want.has(got) {
			return fmt.Errorf("owner of %s is %q, %w; want %q", name(g.ns, g.g), got, err, *want)
		}
	}
	for g, want := range h.notes {
		if got, err := h.d.GroupNotes(g.ns, g.g); !want.has(got) {
			return fmt.Errorf("notes of %s are %q, %w; want %q", name(g.ns, g.g), got, err, *want)
		}
	}
	return h.strays()
}

// find returns where snapshots are, after it has read them.
func (h *history) find(ctx context.Context) (map[id]place, error) {
	found := map[id]place{}
	list, err := h.d.List(ctx, ListOptions{Depth: -1})
	if err != nil {
		return nil, err
	}
	for _, info := range list {
		i := id{info.Namespace, info.Snapshot()}
		r := h.snaps[i]
		if r == nil || !info.Finished() {
			return nil, fmt.Errorf("snapshot %s is there, and finished is %v", name(i.ns, i.s), info.Finished())
		}
		if err := verify(ctx, h.d, i.ns, i.s, r.seeds); err != nil {
			return nil, fmt.Errorf("snapshot %s: %w", name(i.ns, i.s), err)
		}
		m, err := h.d.Manifest(i.ns, i.s)
		if err != nil || !r.notes.has(m.Notes()) || !r.protected.has(info.Protected) {
			return nil, fmt.Errorf("snapshot %s has notes %q and is protected: %v, %w", name(i.ns, i.s), m.Notes(), info.Protected, err)
		}
		found[i] |= live
	}
	trash, err := h.d.Trash()
	if err != nil {
		return nil, err
	}
	for _, e := range trash {
		i := id{e.Namespace, e.Snapshot}
		if h.snaps[i] == nil {
			return nil, fmt.Errorf("the trash has %s", name(i.ns, i.s))
		}
		if err := h.verifyTrashed(ctx, e); err != nil {
			return nil, fmt.Errorf("snapshot %s in the trash: %w", name(i.ns, i.s), err)
		}
		found[i] |= inTrash
	}
	return found, nil
}

// verifyTrashed reads a snapshot that lies in the trash.
func (h *history) verifyTrashed(ctx context.Context, e Trashed) error {
	dir, seeds := path.Join(storeDir, trashDir, e.id, trashed), h.snaps[id{e.Namespace, e.Snapshot}].seeds
	conf, err := disk.ReadFile(h.mem, path.Join(dir, configName), 1<<20)
	if err != nil || !bytes.Equal(conf, config(e.Snapshot, seeds)) {
		return fmt.Errorf("its blob: %w", err)
	}
	if _, err := disk.ReadFile(h.mem, path.Join(dir, manifestName), 1<<20); err != nil {
		return err
	}
	b, err := disk.ReadFile(h.mem, path.Join(dir, archiveName), 1<<20)
	if err != nil {
		return err
	}
	x, err := chunks.ParseIndex(b)
	if err != nil {
		return err
	}
	return verifyChunks(ctx, h.d, x, seeds)
}

// strays looks for files that are part of nothing.
func (h *history) strays() error {
	for _, file := range h.mem.Names() {
		rel, ok := strings.CutPrefix(file, storeDir+"/")
		top, rest, below := strings.Cut(rel, "/")
		switch {
		case !ok || !below || top == "packs" || top == "index" || top == "gc":
			continue
		case top == runningDir:
			return fmt.Errorf("there is still the note %s", file)
		case top == trashDir:
			entry, in, _ := strings.Cut(rest, "/")
			if _, err := h.d.readTrashed(entry); err != nil || in != originFile && !strings.HasPrefix(in, trashed+"/") {
				return fmt.Errorf("the trash has %s, %w", file, err)
			}
			continue
		}
		if base := path.Base(file); base == ownerName || base == notesName || isTemp(base) && h.isGroup(path.Dir(rel)) {
			continue // temporary files go with the next backup
		}
		ns, s, err := naming.ParsePath(path.Dir(rel))
		if err != nil || h.snaps[id{ns, s}] == nil || h.snaps[id{ns, s}].place != live {
			return fmt.Errorf("%s is part of nothing, %w", file, err)
		}
	}
	return nil
}

// isGroup reports whether a directory is one of snapshots.
func (h *history) isGroup(rel string) bool {
	_, _, err := naming.ParsePath(rel + "/2026-01-01T00:00:00Z")
	return err == nil
}
