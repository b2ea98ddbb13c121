package catalog

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-mesh/holdfast/catalog/listing"
	"github.com/holdfast-mesh/holdfast/chunks"
	"github.com/holdfast-mesh/holdfast/chunks/chunktest"
	"github.com/holdfast-mesh/holdfast/chunks/disk"
	"github.com/holdfast-mesh/holdfast/chunks/disk/disktest"
	"github.com/holdfast-mesh/holdfast/chunks/pack/identity"
)

// uncached hides the cache of listings, and lets nobody write one.
type uncached struct{ disk.FS }

func (u uncached) OpenFile(name string, flag int, perm fs.FileMode) (disk.File, error) {
	if strings.HasPrefix(path.Base(name), listingFile) {
		return nil, fs.ErrNotExist
	}
	return u.FS.OpenFile(name, flag, perm)
}

// sameLists compares what a tree lists with what it lists without its cache.
func sameLists(t *testing.T, tree Tree) []Info {
	t.Helper()
	all := ListOptions{Depth: -1}
	got, err := tree.List(t.Context(), all)
	must(t, err)
	want, err := Tree{FS: uncached{tree.FS}, Dir: tree.Dir}.List(t.Context(), all)
	must(t, err)
	if !reflect.DeepEqual(got, want) {
		t.Fatalf("the cache says\n%s\nbut there is\n%s", printed(got), printed(want))
	}
	return got
}

func printed(list []Info) string {
	var b []byte
	for i := range list {
		b = append(list[i].AppendJSON(b), '\n')
	}
	return string(b)
}

// What a list says is what is there, whatever was done to the datastore, by
// whom, and how soon after the last list.
func TestListEqualsOneWithoutCache(t *testing.T) {
	hits := 0
	for seed := range uint64(6) {
		synctest.Test(t, func(t *testing.T) {
			mem := newMem()
			_, err := identity.Init(mem, storeDir, 0)
			must(t, err)
			d := openStore(t, mem, storeDir, newClock())
			defer d.Close()
			rng := rand.New(rand.NewPCG(seed, 1))
			must(t, d.CreateNamespace("a"))
			for day := range 60 {
				changeAtRandom(t, d, rng, day)
				time.Sleep(time.Duration(rng.IntN(2)*rng.IntN(8)) * time.Second)
				list := sameLists(t, d.Tree)
				if rng.IntN(4) == 0 { // a list of less leaves the rest of the cache as it was
					_, err := d.List(t.Context(), ListOptions{Namespace: "a"})
					must(t, err)
				}
				hits += cacheHits(t, d.Tree, len(list))
			}
		})
	}
	if hits == 0 {
		t.Error("nothing was ever taken from the cache: the test tests nothing")
	}
}

// cacheHits counts the manifests that a list does not read.
func cacheHits(t *testing.T, tree Tree, snapshots int) int {
	t.Helper()
	faulty := disktest.NewFaulty(tree.FS)
	opened := 0
	faulty.SetHook(func(op disktest.Op) error {
		if op.Kind == disktest.Open && path.Base(op.Name) == manifestName {
			opened++ // the groups of such small trees are read one after the other
		}
		return nil
	})
	groups, err := Tree{FS: faulty, Dir: tree.Dir}.groups(t.Context(), ListOptions{Depth: -1})
	must(t, err)
	cache := listing.Load(tree.FS, path.Join(tree.Dir, listingFile))
	for _, g := range groups {
		must(t, Tree{FS: faulty, Dir: tree.Dir}.fill(t.Context(), g, cache))
	}
	return max(0, snapshots-opened)
}

// changeAtRandom does something that a list shows.
func changeAtRandom(t *testing.T, d *Datastore, rng *rand.Rand, day int) {
	t.Helper()
	ctx, ns := t.Context(), []Namespace{"", "a"}[rng.IntN(2)]
	g := group([]string{"vm/1", "ct/2"}[rng.IntN(2)])
	snaps, err := d.Snapshots(ctx, ns, g)
	must(t, err)
	if len(snaps) == 0 || rng.IntN(4) == 0 {
		mustBackUp(t, d, ns, snap(g.String(), day))
		return
	}
	s := snaps[rng.IntN(len(snaps))]
	switch rng.IntN(9) {
	case 0:
		err = d.SetNotes(ns, s, fmt.Sprint("note ", day))
	case 1:
		err = d.SetProtected(ns, s, rng.IntN(2) == 0)
	case 2:
		err = d.SetOwner(ns, g, []string{alice, bob}[rng.IntN(2)])
		err = errors.Join(err, d.SetOwner(ns, g, alice))
	case 3:
		err = disk.WriteFileAtomic(d.FS, path.Join(d.groupDir(ns, g), ownerName), []byte(alice+"\n"), 0o600)
	case 4:
		err = d.Forget(ctx, ns, s)
		if errors.Is(err, ErrProtected) {
			err = nil
		}
	case 5:
		if list, _ := d.Trash(); len(list) > 0 {
			err = d.Undo(ctx, list[0].Namespace, list[0].Snapshot)
		}
	case 6:
		_, err = d.ForgetGroup(ctx, ns, g)
		if errors.Is(err, ErrProtected) {
			err = nil
		}
	case 7:
		log := chunktest.Encode([]byte("log"), chunks.EncodeOptions{}).Blob
		if err = d.AddLog(ns, s, log); errors.Is(err, fs.ErrExist) {
			err = nil
		}
	case 8:
		err = beginAndList(t, d, ns, Snapshot{Group: g, Time: day0.AddDate(0, 0, day).Unix()})
	}
	must(t, err)
}

// beginAndList looks at a snapshot while it grows.
func beginAndList(t *testing.T, d *Datastore, ns Namespace, s Snapshot) error {
	w, err := d.Begin(t.Context(), ns, s, alice)
	if err != nil {
		return err
	}
	time.Sleep(time.Minute)
	sameLists(t, d.Tree)
	if _, err := fill(t.Context(), w, s, 1, 2); err != nil {
		return err
	}
	time.Sleep(time.Minute)
	if list := sameLists(t, d.Tree); !slices.ContainsFunc(list, func(i Info) bool { return !i.Finished() && len(i.Files) == 2 }) {
		t.Errorf("a snapshot in the making is not listed:\n%s", printed(list))
	}
	return w.Abort()
}

// realTree makes a small tree of files of the machine, in a bubble in which
// all of them are old.
func realTree(t *testing.T, test func(t *testing.T, tree Tree)) {
	dir := t.TempDir()
	growTree(t, dir, 3, 3)
	tick(t, dir)
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(100 * 365 * 24 * time.Hour)
		test(t, Tree{FS: disk.OS{}, Dir: dir})
	})
}

// tick waits until the clock of the file system has moved on, some milliseconds.
func tick(t *testing.T, dir string) {
	t.Helper()
	first := time.Time{}
	for {
		name := write(t, dir, ".tick", nil)
		info, err := os.Stat(name)
		must(t, err)
		if first.IsZero() {
			first = info.ModTime()
		}
		if info.ModTime().After(first) {
			must(t, os.Remove(name))
			return
		}
	}
}

// Times of directories that were set by a tool that copies or restores them do
// not hide what changed.
func TestListIsNotFooledByTimes(t *testing.T) {
	realTree(t, func(t *testing.T, tree Tree) {
		if n := len(sameLists(t, tree)); n != 9 {
			t.Fatalf("%d snapshots, want 9", n)
		}
		if hits := cacheHits(t, tree, 9); hits != 9 {
			t.Fatalf("%d of 9 snapshots are cached", hits)
		}
		dir := filepath.Join(tree.Dir, "vm", "100")
		was, err := os.Stat(dir)
		must(t, err)
		for _, change := range []func() error{
			func() error { return os.RemoveAll(filepath.Join(tree.Dir, snap("vm/100", 1).Path())) },
			func() error { return growSnapshot(tree.Dir, snap("vm/100", 7)) },
			func() error { return os.WriteFile(filepath.Join(dir, ownerName), []byte(bob+"\n"), 0o600) },
			func() error { return os.Remove(filepath.Join(dir, ownerName)) },
			func() error {
				return errors.Join(os.Rename(dir, dir+"-old"), os.Rename(filepath.Join(tree.Dir, "vm", "101"), dir))
			},
		} {
			must(t, change())
			must(t, os.Chtimes(dir, was.ModTime(), was.ModTime()))
			sameLists(t, tree)
			tick(t, tree.Dir)
		}
	})
}

func TestListNeedsNoCache(t *testing.T) {
	realTree(t, func(t *testing.T, tree Tree) {
		want := sameLists(t, tree)
		for what, content := range map[string]string{"nothing": "", "text": "a listing", "a head only": "HFLIST02\x00\x00\x00\x00\x00\x00\x00\x00"} {
			write(t, tree.Dir, listingFile, []byte(content))
			if got := sameLists(t, tree); !reflect.DeepEqual(got, want) {
				t.Errorf("with %s in the cache there are %d snapshots", what, len(got))
			}
		}
	})
}

func TestListOfDirectoryThatCannotBeWritten(t *testing.T) {
	realTree(t, func(t *testing.T, tree Tree) {
		faulty := disktest.NewFaulty(disk.OS{})
		refused := 0
		faulty.SetHook(func(op disktest.Op) error {
			if op.Kind.Changes() {
				refused++
				return fs.ErrPermission
			}
			return nil
		})
		list, err := Tree{FS: faulty, Dir: tree.Dir}.List(t.Context(), ListOptions{Depth: -1})
		if err != nil || len(list) != 9 || refused == 0 {
			t.Errorf("%d snapshots, %v; %d writes refused", len(list), err, refused)
		}
		sameNames(t, tree.Dir, "vm")
	})
}

func sameNames(t *testing.T, dir string, want ...string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	must(t, err)
	var got []string
	for _, e := range entries {
		got = append(got, e.Name())
	}
	if !slices.Equal(got, want) {
		t.Errorf("%s has %q, want %q", dir, got, want)
	}
}

func TestListStopsWhenCancelled(t *testing.T) {
	dir := t.TempDir()
	growTree(t, dir, 2, 2)
	ctx, cancel := context.WithCancel(t.Context())
	faulty := disktest.NewFaulty(disk.OS{})
	faulty.SetHook(func(op disktest.Op) error {
		if path.Base(op.Name) == manifestName {
			cancel()
		}
		return nil
	})
	list, err := Tree{FS: faulty, Dir: dir}.List(ctx, ListOptions{Depth: -1})
	if !errors.Is(err, context.Canceled) || list != nil {
		t.Errorf("List = %d snapshots, %v", len(list), err)
	}
}
