//go:build !386 && !arm && !mips && !mipsle

package mount

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"sync"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"

	"github.com/holdfast-mesh/holdfast/catalog/pxar"
)

// forever is how long the kernel may believe what it was told.
const forever = 365 * 24 * time.Hour

// A fileSystem answers the kernel. What it does not implement is refused.
type fileSystem struct {
	fuse.RawFileSystem
	ctx     context.Context // of the mount: requests have none
	content Content
	opt     Options
	inodes  inodes
	handles handles

	mu     sync.Mutex // guards what follows
	logged map[string]bool
}

func newFileSystem(ctx context.Context, c Content, opt Options) (*fileSystem, error) {
	f := &fileSystem{
		RawFileSystem: fuse.NewDefaultRawFileSystem(),
		ctx:           ctx, content: c, opt: opt,
		inodes: inodes{known: map[uint64]*known{}}, handles: handles{open: map[uint64]*handle{}},
		logged: map[string]bool{},
	}
	root := inode{id: rootInode, part: -1}
	if c.Flat {
		node, err := c.Parts[0].Archive.Root()
		if err != nil {
			return nil, err
		}
		root = inode{id: rootInode, node: node}
	}
	f.inodes.tell(root, false)
	return f, nil
}

// close frees what the kernel never released, because it was cut off.
func (f *fileSystem) close() { f.handles.close() }

// String names the file system in messages of package fuse.
func (f *fileSystem) String() string { return "holdfast" }

// Lookup answers which inode a name in a directory is. That there is none is
// an answer that stays true as well.
func (f *fileSystem) Lookup(_ <-chan struct{}, h *fuse.InHeader, name string, out *fuse.EntryOut) fuse.Status {
	dir, ok := f.inodes.get(h.NodeId)
	if !ok {
		return fuse.ENOENT
	}
	if f.ctx.Err() != nil {
		return fuse.EIO
	}
	n, linked, err := f.child(dir, name)
	if errors.Is(err, fs.ErrNotExist) {
		out.SetEntryTimeout(forever)
		return fuse.OK
	}
	if err != nil {
		return f.failed("look up "+name+" in", dir, err)
	}
	f.tell(n, linked, out)
	return fuse.OK
}

// tell fills in an answer that makes the kernel know n.
func (f *fileSystem) tell(n inode, linked bool, out *fuse.EntryOut) {
	f.inodes.tell(n, linked)
	out.NodeId, out.Generation = n.id, 0
	out.SetEntryTimeout(forever)
	out.SetAttrTimeout(forever)
	f.attributes(n, &out.Attr)
}

// child finds a name in a directory. linked is true if it is a hard link.
func (f *fileSystem) child(dir inode, name string) (n inode, linked bool, err error) {
	if dir.part < 0 {
		for i, p := range f.content.Parts {
			if p.Name == name {
				n, err := f.partInode(i)
				return n, false, err
			}
		}
		return inode{}, false, fs.ErrNotExist
	}
	if dir.node == nil {
		return inode{}, false, fs.ErrNotExist
	}
	node, err := dir.node.Lookup(name)
	if err != nil {
		return inode{}, false, err
	}
	linked = node.Kind == pxar.Hardlink
	if node, err = node.Resolve(); err != nil {
		return inode{}, false, err
	}
	return inode{f.number(dir.part, node.Position), dir.part, node}, linked, nil
}

// partInode returns the inode of part i.
func (f *fileSystem) partInode(i int) (inode, error) {
	n := inode{id: f.number(i, 0), part: i}
	if a := f.content.Parts[i].Archive; a != nil {
		root, err := a.Root()
		if err != nil {
			return inode{}, err
		}
		n.node = root
	}
	return n, nil
}

// Forget hears that the kernel does not know an inode any more.
func (f *fileSystem) Forget(id, lookups uint64) { f.inodes.forget(id, lookups) }

// GetAttr answers what stat shows.
func (f *fileSystem) GetAttr(_ <-chan struct{}, in *fuse.GetAttrIn, out *fuse.AttrOut) fuse.Status {
	n, ok := f.inodes.get(in.NodeId)
	if !ok {
		return fuse.ENOENT
	}
	out.SetTimeout(forever)
	f.attributes(n, &out.Attr)
	return fuse.OK
}

// Readlink answers where a symbolic link leads.
func (f *fileSystem) Readlink(_ <-chan struct{}, h *fuse.InHeader) ([]byte, fuse.Status) {
	n, ok := f.inodes.get(h.NodeId)
	if !ok || n.node == nil || n.node.Kind != pxar.Symlink {
		return nil, fuse.EINVAL
	}
	return []byte(n.node.Target), fuse.OK
}

// StatFs answers what df shows: full, for nothing can be added.
func (f *fileSystem) StatFs(_ <-chan struct{}, _ *fuse.InHeader, out *fuse.StatfsOut) fuse.Status {
	const block = 4096
	*out = fuse.StatfsOut{Bsize: block, Frsize: block, NameLen: pxar.MaxName}
	for _, p := range f.content.Parts {
		out.Blocks += uint64(p.Size+block-1) / block
	}
	return fuse.OK
}

// Open opens a file for reading. What the kernel has in memory of it stays.
func (f *fileSystem) Open(_ <-chan struct{}, in *fuse.OpenIn, out *fuse.OpenOut) fuse.Status {
	n, ok := f.inodes.get(in.NodeId)
	switch {
	case !ok:
		return fuse.ENOENT
	case in.Flags&(fuse.O_ANYWRITE) != 0:
		return fuse.EROFS
	}
	r, err := f.open(n)
	if err != nil {
		return f.failed("open", n, err)
	}
	out.Fh = f.handles.add(&handle{inode: n, file: r})
	out.OpenFlags = fuse.FOPEN_KEEP_CACHE
	return fuse.OK
}

func (f *fileSystem) open(n inode) (io.ReaderAt, error) {
	if n.node != nil {
		return n.node.Content()
	}
	p := f.content.Parts[n.part]
	return io.NewSectionReader(p.File, 0, p.Size), nil
}

// Read reads a piece of an open file. It gives all that was asked for or
// nothing: the kernel takes fewer bytes for the end of the file. It asks again
// page by page for what failed, so that only damaged pages fail in the end.
func (f *fileSystem) Read(_ <-chan struct{}, in *fuse.ReadIn, buf []byte) (fuse.ReadResult, fuse.Status) {
	h := f.handles.get(in.Fh)
	if h == nil || h.file == nil {
		return nil, fuse.EBADF
	}
	if f.ctx.Err() != nil { // whoever opened it has outlived the mount
		return nil, fuse.EIO
	}
	n, err := h.file.ReadAt(buf, int64(in.Offset))
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, f.failed("read", h.inode, err)
	}
	return fuse.ReadResultData(buf[:n]), fuse.OK
}

// Release hears that an open file was closed.
func (f *fileSystem) Release(_ <-chan struct{}, in *fuse.ReleaseIn) { f.handles.remove(in.Fh) }

// Flush hears of every close(2); nothing is to be written.
func (f *fileSystem) Flush(<-chan struct{}, *fuse.FlushIn) fuse.Status { return fuse.ENOSYS }

// maxLogged bounds how many different errors are remembered, so that each is
// logged once however often the kernel asks.
const maxLogged = 4096

// failed logs what kept a request from being answered, once, and returns what
// the program is told.
func (f *fileSystem) failed(what string, n inode, err error) fuse.Status {
	if f.ctx.Err() != nil {
		return fuse.EIO // it is being unmounted
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if key := f.path(n) + "\x00" + err.Error(); !f.logged[key] && len(f.logged) < maxLogged {
		f.logged[key] = true
		f.opt.Log.Error("cannot "+what+" file of backup", "file", f.path(n), "err", err)
	}
	return fuse.EIO
}

// path names an inode in messages.
func (f *fileSystem) path(n inode) string {
	path := ""
	if n.part >= 0 {
		path = f.content.Parts[n.part].Name
	}
	if n.node != nil {
		path += "/" + n.node.Path()
	}
	return path
}
