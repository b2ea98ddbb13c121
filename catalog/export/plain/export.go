package plain

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/holdfast-mesh/holdfast/catalog/archive"
	"github.com/holdfast-mesh/holdfast/catalog/manifest"
)

// Files of an exported snapshot that have no counterpart in it.
const (
	sumsName     = "SHA256SUMS"
	readmeName   = "RESTORE.txt"
	jsonName     = "index.json"
	catalogIndex = "catalog.pcat1.didx"
)

// Options say how [Export] works.
type Options struct {
	KeepGoing bool                           // passed on to Tar; images need it in the archive.Options, too
	Progress  func(file string, bytes int64) // of content written; called after each chunk or MiB
}

// A Report says what was written.
type Report struct {
	Files   []File               `json:"files"`
	Trees   map[string]TarReport `json:"trees"`   // by name of the tar archive
	Damaged []string             `json:"damaged"` // files with content that could not be read, and why
}

func newReport() Report {
	return Report{Files: []File{}, Trees: map[string]TarReport{}, Damaged: []string{}}
}

// Export writes a snapshot to the directory dir in forms that need no
// Holdfast and no PBS to be read:
//
//	NAME.pxar.didx, NAME.mpxar.didx  a tar archive, NAME.tar (see Tar)
//	NAME.img.fidx                    the image itself, NAME.img, with holes for zeros
//	NAME.blob, NAME.didx             the content, NAME
//	index.json                       the manifest
//	RESTORE.txt                      the three commands that restore it
//	SHA256SUMS                       what sha256sum --check needs; written last
//
// What is encrypted is written in the clear. Catalogs are left out, for tar
// lists its archives itself. The directory is made, or must be empty; if the
// export fails, it is as it was before. With KeepGoing, here and in the
// archive.Options of snap, content that is lost is replaced by zeros, and
// Export fails with archive.ErrDamaged though the files are there.
func Export(ctx context.Context, snap *archive.Snapshot, dir string, opt Options) (Report, error) {
	p := &plainer{snap: snap, dir: dir, opt: opt, report: newReport()}
	err := p.run(ctx)
	if err != nil {
		err = errors.Join(err, p.undo())
	} else if len(p.report.Damaged) > 0 {
		err = fmt.Errorf("%d files: %w; first: %s", len(p.report.Damaged), archive.ErrDamaged, p.report.Damaged[0])
	}
	if err != nil {
		return p.report, fmt.Errorf("export %s to %s: %w", snap.Manifest().Snapshot(), dir, err)
	}
	return p.report, nil
}

// A plainer is one run of Export.
type plainer struct {
	snap   *archive.Snapshot
	dir    string
	made   bool // the directory was not there before
	opt    Options
	report Report
}

func (p *plainer) run(ctx context.Context) error {
	if err := p.snap.Check(); err != nil {
		return err
	}
	if err := p.open(); err != nil {
		return err
	}
	names := map[string]bool{sumsName: true, readmeName: true, jsonName: true}
	for _, f := range p.snap.Manifest().Files {
		if err := p.file(ctx, f, names); err != nil {
			return err
		}
	}
	if err := p.log(names); err != nil {
		return err
	}
	return p.finish(ctx)
}

// A notEmpty says what is in a directory that was to have nothing in it.
type notEmpty struct{ name string }

func (e *notEmpty) Error() string { return "the directory is not empty: it has " + e.name }
func (e *notEmpty) Hint() string {
	return "name a new directory, or remove what an export that was killed has left"
}
func (e *notEmpty) Unwrap() error { return fs.ErrExist }

// open makes the directory. What was backed up may have been secret.
func (p *plainer) open() error {
	err := os.Mkdir(p.dir, 0o700)
	if p.made = err == nil; p.made {
		return nil
	}
	if !errors.Is(err, fs.ErrExist) {
		return err
	}
	entries, err := os.ReadDir(p.dir)
	if err == nil && len(entries) > 0 {
		err = &notEmpty{entries[0].Name()}
	}
	return err
}

// undo removes what was written.
func (p *plainer) undo() error {
	var err error
	for _, f := range p.report.Files {
		err = errors.Join(err, os.Remove(filepath.Join(p.dir, f.Name)))
	}
	p.report = newReport()
	if p.made {
		err = errors.Join(err, os.Remove(p.dir))
	}
	return err
}

// plainName returns what a file of a snapshot is called outside, "" if it is
// left out.
func plainName(name string) string {
	if name == catalogIndex || isPayload(name) {
		return ""
	}
	if tree, ok := cutTree(name); ok {
		return tree + ".tar"
	}
	return strings.TrimSuffix(name, filepath.Ext(name))
}

// cutTree returns the name of an archive of a directory without its suffix.
func cutTree(name string) (string, bool) {
	if tree, ok := strings.CutSuffix(name, ".pxar.didx"); ok {
		return tree, true
	}
	return strings.CutSuffix(name, ".mpxar.didx")
}

// isPayload reports whether name is the second part of an archive, which goes
// with the first.
func isPayload(name string) bool { return strings.HasSuffix(name, ".ppxar.didx") }

func (p *plainer) file(ctx context.Context, f manifest.File, names map[string]bool) error {
	name := plainName(f.Name)
	if name == "" {
		return nil
	}
	if names[name] { // such as a.pxar and a.tar in one snapshot
		name = f.Name
	}
	if names[name] {
		return fmt.Errorf("two files would be called %s", name)
	}
	names[name] = true
	return p.write(name, f.Name, func(w io.Writer) error {
		if _, ok := cutTree(f.Name); ok {
			return p.tree(ctx, name, f.Name, w)
		}
		return p.snap.Stream(ctx, f.Name, p.counted(name, w))
	})
}

// tree writes an archive of a directory.
func (p *plainer) tree(ctx context.Context, name, from string, w io.Writer) error {
	a, err := p.snap.Archive(ctx, from, archive.ReaderOptions{})
	if err != nil {
		return err
	}
	defer a.Close()
	root, err := a.Root()
	if err != nil {
		return err
	}
	b := bufio.NewWriterSize(p.counted(name, w), tarBlock) // headers are small
	report, err := Tar(ctx, b, root, TarOptions{KeepGoing: p.opt.KeepGoing})
	p.report.Trees[name] = report
	return errors.Join(err, b.Flush())
}

// log writes the log of the client, if there is one.
func (p *plainer) log(names map[string]bool) error {
	content, err := p.snap.Blob(manifest.LogName)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	name := plainName(manifest.LogName)
	if names[name] {
		name = manifest.LogName
	}
	return p.write(name, manifest.LogName, func(w io.Writer) error { _, err := w.Write(content); return err })
}

// finish writes what describes the rest. The sums come last: without them the
// export is not whole.
func (p *plainer) finish(ctx context.Context) error {
	text, err := p.snap.Manifest().JSON()
	if err != nil {
		return err
	}
	err = p.write(jsonName, manifest.Name, func(w io.Writer) error { _, err := w.Write(text); return err })
	if err != nil {
		return err
	}
	err = p.write(readmeName, "", func(w io.Writer) error { return readme(w, p.snap.Manifest(), p.report) })
	if err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	sums := p.report.Files
	if err := p.write(sumsName, "", func(w io.Writer) error { return writeSums(w, sums) }); err != nil {
		return err
	}
	return syncDir(p.dir)
}

// write makes one file. One with damaged content is kept.
func (p *plainer) write(name, from string, fill func(io.Writer) error) error {
	w, err := createPlain(filepath.Join(p.dir, name))
	if err != nil {
		return err
	}
	failed := fill(w)
	damaged := errors.Is(failed, archive.ErrDamaged)
	if damaged {
		p.report.Damaged = append(p.report.Damaged, name+": "+failed.Error())
		failed = nil
	}
	if err := w.close(failed); err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	p.report.Files = append(p.report.Files, w.plain(from))
	return nil
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// counted tells the progress of what is written through it.
func (p *plainer) counted(name string, w io.Writer) io.Writer {
	if p.opt.Progress == nil {
		return w
	}
	return &counter{w: w, tell: func(n int64) { p.opt.Progress(name, n) }}
}

type counter struct {
	w     io.Writer
	bytes int64
	tell  func(int64)
}

func (c *counter) Write(b []byte) (int, error) {
	n, err := c.w.Write(b)
	c.bytes += int64(n)
	c.tell(c.bytes)
	return n, err
}
