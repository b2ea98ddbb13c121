package tree

import (
	"cmp"
	"fmt"
	"io"
	"runtime"

	"github.com/holdfast-mesh/holdfast/catalog/pxar"
	"github.com/holdfast-mesh/holdfast/catalog/pxar/match"
)

// EntriesMax is the number of names that may be on the way from the root of a
// tree to the place where [Create] is, that is in a directory and in all above
// it: each is in memory. It is the default of the official client, too.
const EntriesMax = 1 << 20

// Sinks is where an archive goes.
type Sinks struct {
	Archive io.Writer // required

	// Catalog gets the same entries in the same order, below the directory
	// that is open in it; nil if none is wanted.
	Catalog *pxar.CatalogWriter
}

// Options says what [Create] archives. The zero value archives everything on
// the file system of the source.
type Options struct {
	// Exclude is what to leave out, with negated patterns for what to keep
	// all the same. It is stored in the archive, as the file
	// .pxarexclude-cli of the root.
	Exclude          match.List
	SkipLostAndFound bool // exclude lost+found, too

	AllFileSystems bool
	IncludeDevices []uint64 // st_dev of file systems to enter, besides that of the source; see [Device]

	EntriesMax int // default [EntriesMax]
	Workers    int // goroutines that read ahead, 1 to 64; default 2 for each CPU, at least 4

	// Progress, if not nil, is called after each entry with the number of
	// entries and of bytes of content so far.
	Progress func(entries, bytes int64)

	// AfterStat, if not nil, is called from several goroutines when the stat
	// of a file has been read, and before its content is. Tests change the
	// file then.
	AfterStat func(path string)

	// pread stands in for reading a file, in tests of a disk that fails.
	pread func(fd int, buf []byte, off int64) (int, error)
}

func (o Options) withDefaults() (Options, error) {
	o.EntriesMax = cmp.Or(o.EntriesMax, EntriesMax)
	o.Workers = cmp.Or(o.Workers, max(4, 2*runtime.GOMAXPROCS(0)))
	switch {
	case o.EntriesMax < 1:
		return o, fmt.Errorf("archive a tree: the limit of entries is %d, want at least 1", o.EntriesMax)
	case o.Workers < 1 || o.Workers > 64:
		return o, fmt.Errorf("archive a tree: workers is %d, want 1 to 64", o.Workers)
	}
	return o, nil
}

// ExtractOptions says what [Extract] restores, and how. The zero value
// restores everything into a directory that is empty or does not exist.
type ExtractOptions struct {
	// AllowExistingDirs accepts a target that is not empty, and directories
	// in it that the archive has, too. Their attributes become the archive's.
	AllowExistingDirs bool

	// Overwrite replaces files, symlinks and the like that exist already; it
	// implies AllowExistingDirs. A directory is never replaced by a file.
	Overwrite bool

	// Subpath restores one entry only: the contents of a directory go
	// straight into the target, anything else under its own name.
	Subpath string

	// Patterns restores what they match, with negated ones for exceptions,
	// and all that is below; nil restores everything. A pattern is tested
	// against paths from the root of the archive.
	Patterns match.List

	IgnoreOwnership   bool // everything belongs to the running user
	IgnorePermissions bool // modes are 0755 and 0644, reduced by the umask
	IgnoreACLs        bool
	IgnoreXattrs      bool // also no capabilities

	// Direct writes larger files past the page cache, which costs far less of
	// the processor. Whether it pays depends on the disk.
	Direct bool

	Workers int // goroutines that write files, 1 to 64; default 2 for each CPU, at least 4

	// Abort, if not nil, is asked whether a failure to read the archive will
	// hit all the rest as well and should end the work: a lost connection, as
	// opposed to one bad chunk. It is called from several goroutines.
	Abort func(error) bool

	// Progress, if not nil, is called after each entry with the number of
	// entries and of bytes of content so far, from several goroutines.
	Progress func(entries, bytes int64)
}

func (o ExtractOptions) withDefaults() (ExtractOptions, error) {
	o.AllowExistingDirs = o.AllowExistingDirs || o.Overwrite
	o.Workers = cmp.Or(o.Workers, max(4, 2*runtime.GOMAXPROCS(0)))
	if o.Workers < 1 || o.Workers > 64 {
		return o, fmt.Errorf("extract an archive: workers is %d, want 1 to 64", o.Workers)
	}
	return o, nil
}
