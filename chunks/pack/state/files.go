package state

import (
	"fmt"
	"os"
	"path"

	"github.com/holdfast-mesh/holdfast/chunks/disk"
	"github.com/holdfast-mesh/holdfast/chunks/pack/format"
	"golang.org/x/sync/errgroup"
)

// A File is one that has the name of a pack.
type File struct {
	Name  string // with its directory
	Epoch uint64
	ID    format.ID
	Size  int64
}

// Header reads f's header.
func (f File) Header(fs disk.FS) (*format.Header, error) {
	file, err := fs.OpenFile(f.Name, os.O_RDONLY, 0)
	if err != nil {
		return nil, err
	}
	defer file.Close() // it was only read
	return format.ReadHeader(file, f.ID, f.Epoch)
}

// named reports whether f's header confirms its name.
func (f File) named(fs disk.FS) bool {
	h, err := f.Header(fs)
	return err == nil && h.Epoch == f.Epoch
}

// listers is how many directories are read at the same time.
const listers = 16

// List finds the pack files below dir, and what else lies there.
func List(fs disk.FS, dir string) (files []File, strangers []string, err error) {
	shards, err := fs.ReadDir(dir)
	if err != nil {
		return nil, nil, fmt.Errorf("list packs: %w", err)
	}
	// Where nothing is cached each directory is a wait for the disk.
	var g errgroup.Group
	g.SetLimit(listers)
	type found struct {
		files     []File
		strangers []string
	}
	all := make([]found, len(shards))
	for i, shard := range shards {
		name := path.Join(dir, shard.Name())
		if !shard.IsDir() {
			all[i].strangers = []string{name}
			continue
		}
		g.Go(func() (err error) {
			all[i].files, all[i].strangers, err = listShard(fs, name)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return nil, nil, fmt.Errorf("list packs: %w", err)
	}
	for _, f := range all {
		files, strangers = append(files, f.files...), append(strangers, f.strangers...)
	}
	files, twice := unique(fs, files)
	return files, append(strangers, twice...), nil
}

func listShard(fs disk.FS, dir string) (files []File, strangers []string, err error) {
	entries, err := fs.ReadDir(dir)
	if err != nil {
		return nil, nil, err
	}
	for _, e := range entries {
		name := path.Join(dir, e.Name())
		epoch, id, ok := ParseName(e.Name())
		if !ok || id.String()[:2] != path.Base(dir) || !e.Type().IsRegular() {
			strangers = append(strangers, name)
			continue
		}
		info, err := e.Info()
		if err != nil {
			return nil, nil, err
		}
		files = append(files, File{name, epoch, id, info.Size()})
	}
	return files, strangers, nil
}

// unique takes files out that have the ID of another: only one can be the
// pack, and that is the one whose header knows its name.
func unique(fs disk.FS, files []File) (kept []File, twice []string) {
	at := map[format.ID]int{}
	for _, f := range files {
		i, again := at[f.ID]
		if !again {
			at[f.ID] = len(kept)
			kept = append(kept, f)
			continue
		}
		if f.named(fs) && !kept[i].named(fs) {
			f, kept[i] = kept[i], f
		}
		twice = append(twice, f.Name)
	}
	return kept, twice
}
