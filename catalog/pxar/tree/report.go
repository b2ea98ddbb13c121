package tree

import (
	"errors"
	"fmt"
	"sync"
)

// MaxWarnings is how many warnings, damaged files and skipped mount points a
// [Report] names; the rest is only counted. A disk that dies fails a million
// times, and nobody reads more than a screen.
const MaxWarnings = 1000

// maxReportedPath is how many bytes of a path a report keeps, its end: a tree
// may be thousands of levels deep.
const maxReportedPath = 1024

// A Report tells what was archived or extracted, and what was not.
type Report struct {
	Files, Directories, Symlinks, Hardlinks, Devices, Fifos, Sockets int64

	Bytes    int64 // of file contents, holes included
	Excluded int64 // entries left out by a pattern; those below are not counted

	Warnings     []Warning // the first [MaxWarnings]
	WarningCount int64

	// Damaged names the first [MaxWarnings] files and directories whose
	// content is wrong (archived: zeros where the disk failed) or lost
	// (extracted: not there). Each has a warning, too.
	Damaged      []string
	DamagedCount int64

	// Mounts names the first [MaxWarnings] directories whose contents were
	// left out because another file system begins there.
	Mounts     []string
	MountCount int64
}

// A Kind says what happened to an entry.
type Kind string

// The kinds of warnings of [Create].
const (
	Vanished   Kind = "vanished"    // was listed, but is not there any more: left out
	Unreadable Kind = "unreadable"  // may not be read: left out
	Shrank     Kind = "shrank"      // became shorter while it was read: filled with zeros
	Grew       Kind = "grew"        // became longer while it was read: cut
	Changed    Kind = "changed"     // was changed while it was read: may be half old, half new
	Damaged    Kind = "damaged"     // could not be read for an error: zeros, or missing
	Unknown    Kind = "unknown"     // is of a kind that an archive cannot hold: left out
	BadPattern Kind = "bad pattern" // a line of .pxarexclude that means nothing: ignored
	Attribute  Kind = "attribute"   // an attribute could not be read or set
)

// The further kinds of [Extract].
const (
	Refused Kind = "refused" // would be unsafe to create: left out
	Failed  Kind = "failed"  // the target did not accept it: left out
	Skipped Kind = "skipped" // a device, which only root may create: left out
)

// A Warning is one thing that went wrong with one entry. The path is relative
// to the root of the tree, without a slash in front; "" is the root itself.
type Warning struct {
	Kind Kind
	Path string
	Err  error
}

func (w Warning) String() string { return fmt.Sprintf("%s: %q: %v", w.Kind, w.Path, w.Err) }

// A recorder collects a report from several goroutines.
type recorder struct {
	observe func(entries, bytes int64)

	mu sync.Mutex

	report  Report
	entries int64
}

// warn adds a warning. Damage is what makes a backup or a restore incomplete
// without anybody's doing.
func (r *recorder) warn(kind Kind, path string, err error) {
	path = shorten(path)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.report.WarningCount++
	r.report.Warnings = appendBounded(r.report.Warnings, Warning{kind, path, err})
	if kind.isDamage() {
		r.report.DamagedCount++
		r.report.Damaged = appendBounded(r.report.Damaged, path)
	}
}

func (r *recorder) mount(path string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.report.MountCount++
	r.report.Mounts = appendBounded(r.report.Mounts, shorten(path))
}

// count adds one to the counter that which selects, and bytes of content.
func (r *recorder) count(which func(*Report) *int64, bytes int64) {
	r.mu.Lock()
	*which(&r.report)++
	r.report.Bytes += bytes
	r.entries++
	entries, total := r.entries, r.report.Bytes
	r.mu.Unlock()
	if r.observe != nil {
		r.observe(entries, total)
	}
}

func (r *recorder) excluded() {
	r.mu.Lock()
	r.report.Excluded++
	r.mu.Unlock()
}

// result returns the report once nobody writes to it any more.
func (r *recorder) result() Report {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.report
}

// firstDamage returns the first warning that stands for something lost. If
// there were too many others before it, that is not known any more.
func (r *Report) firstDamage() Warning {
	for _, w := range r.Warnings {
		if w.Kind.isDamage() {
			return w
		}
	}
	return Warning{Damaged, r.Damaged[0], errors.New("see the report")}
}

// isDamage reports whether the kind leaves something out, or wrong, that was
// wanted and can be had elsewhere.
func (k Kind) isDamage() bool { return k == Damaged || k == Failed || k == Refused }

func appendBounded[T any](list []T, v T) []T {
	if len(list) >= MaxWarnings {
		return list
	}
	return append(list, v)
}

func shorten(path string) string {
	if len(path) <= maxReportedPath {
		return path
	}
	return "…" + path[len(path)-maxReportedPath:]
}
