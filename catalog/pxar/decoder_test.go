package pxar

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/holdfast-mesh/holdfast/catalog/pxar/goodbye"
)

// item returns an item whose content is made of words, strings and bytes.
func item(typ itemType, parts ...any) []byte {
	var content []byte
	for _, p := range parts {
		switch p := p.(type) {
		case int:
			content = binary.LittleEndian.AppendUint64(content, uint64(p))
		case uint64:
			content = binary.LittleEndian.AppendUint64(content, p)
		case string:
			content = append(content, p...)
		case []byte:
			content = append(content, p...)
		}
	}
	b := binary.LittleEndian.AppendUint64(nil, uint64(typ))
	b = binary.LittleEndian.AppendUint64(b, uint64(headerSize+len(content)))
	return append(b, content...)
}

func stat(mode int) []byte { return item(itemEntry, mode, 0, 0, 1700000000, 0) }

func name(s string) []byte { return item(itemFilename, s+"\x00") }

// archiveOf returns an archive whose root holds what items say, with a table
// that does not list it.
func archiveOf(items ...[]byte) []byte {
	all := slices.Concat(append([][]byte{stat(modeDir | 0o755)}, items...)...)
	return append(all, item(itemGoodbye, uint64(goodbye.TailMark), len(all), 40)...)
}

// decodeAll reads all entries and contents.
func decodeAll(d *Decoder) (all []Entry, err error) {
	for {
		e, err := d.Next()
		if err == io.EOF {
			return all, nil
		}
		if err != nil {
			return all, err
		}
		if _, err := io.Copy(io.Discard, d.Content()); err != nil {
			return all, err
		}
		all = append(all, *e)
	}
}

func TestMalformedArchivesAreRefused(t *testing.T) {
	file := stat(modeRegular | 0o644)
	huge := item(itemFilename, "a\x00")
	binary.LittleEndian.PutUint64(huge[8:], math.MaxUint64)
	endless := item(itemPayload)
	binary.LittleEndian.PutUint64(endless[8:], math.MaxUint64)
	long := item(itemPayload)
	binary.LittleEndian.PutUint64(long[8:], math.MaxInt64/2)
	for _, test := range []struct {
		name string
		data []byte
		says string
	}{
		{"nothing", nil, "ends early"},
		{"something else", []byte("#!/bin/sh\nrm -rf /tmp/x"), "unknown item"},
		{"a root that is a file", slices.Concat(file, item(itemPayload)), "the root is a file"},
		{"a root with a name", name("root"), "name where an entry begins"},
		{"another version", slices.Concat(item(itemVersion, 3), archiveOf()), "version is 3"},
		{"a prelude without version", slices.Concat(item(itemPrelude, "x"), archiveOf()), "prelude where"},
		{"an item smaller than its header", archiveOf(name("a"))[:57], "ends early"},
		{"a header with a size of 15", archiveOf([]byte("\xb3\x17\x39\x06\x21\x11\x70\x16\x0f\x00\x00\x00\x00\x00\x00\x00")), "size of 15"},
		{"a name without end", archiveOf(item(itemFilename, "ab"), file), "only NUL"},
		{"a name with two ends", archiveOf(name("a\x00b"), file), "only NUL"},
		{"a name of only its end", archiveOf(item(itemFilename, "\x00"), file), "size of 17"},
		{"a name that leads up", archiveOf(name(".."), file), `".."`},
		{"a name that is a path", archiveOf(name("a/b"), file), "slash"},
		{"a name that is too long", archiveOf(name(strings.Repeat("n", 4097)), file), "size of 4114"},
		{"a name of 16 EiB", archiveOf(huge), "size of 18446744073709551615"},
		{"two names", archiveOf(name("a"), name("b")), "name where an entry begins"},
		{"no name", archiveOf(file, item(itemPayload)), "instead of a name"},
		{"a mode of no kind", archiveOf(name("a"), stat(0o644)), "no kind"},
		{"a mode of 33 bits", archiveOf(name("a"), stat(1<<32|modeRegular)), "mode is"},
		{"two seconds of nanoseconds", archiveOf(name("a"), item(itemEntry, modeFifo, 0, 0, 0, 2000000000)), "nanoseconds"},
		{"a file without content", archiveOf(name("a"), file, name("b")), "instead of a payload"},
		{"a fifo with content", archiveOf(name("a"), stat(modeFifo), item(itemPayload, "x")), "payload instead of a name"},
		{"a link without target", archiveOf(name("a"), stat(modeSymlink), name("b")), "instead of symbolic link"},
		{"a target with NUL", archiveOf(name("a"), stat(modeSymlink), item(itemSymlink, "a\x00b\x00")), "only NUL"},
		{"a device without numbers", archiveOf(name("a"), stat(modeChar)), "instead of device"},
		{"a device with half its numbers", archiveOf(name("a"), stat(modeChar), item(itemDevice, 1)), "size of 24"},
		{"a hard link to itself", archiveOf(name("a"), item(itemHardlink, 0, "b\x00")), "0 bytes back"},
		{"a hard link to the root", archiveOf(name("a"), item(itemHardlink, 56, "b\x00")), "56 bytes back"},
		{"a hard link ahead", archiveOf(name("a"), item(itemHardlink, uint64(math.MaxUint64), "b\x00")), "bytes back"},
		{"a hard link upwards", archiveOf(name("a"), item(itemHardlink, 1, "b/../../c\x00")), `".."`},
		{"an absolute hard link", archiveOf(name("a"), item(itemHardlink, 1, "/etc/passwd\x00")), "empty"},
		{"a hard link with metadata", archiveOf(name("a"), file, item(itemHardlink, 1, "b\x00")), "instead of a payload"},
		{"an attribute without NUL", archiveOf(name("a"), file, item(itemXattr, "user.a")), "without NUL"},
		{"an attribute without name", archiveOf(name("a"), file, item(itemXattr, "\x00value")), "0 bytes, want 1"},
		{"an attribute with a long name", archiveOf(name("a"), file, item(itemXattr, strings.Repeat("n", 256)+"\x00")), "256 bytes"},
		{"capabilities twice", archiveOf(name("a"), file, item(itemFCaps), item(itemFCaps)), "twice"},
		{"a group object twice", archiveOf(name("a"), file, item(itemACLGroupObj, 1), item(itemACLGroupObj, 1)), "twice"},
		{"a default ACL twice", archiveOf(name("a"), file, item(itemACLDefault, 1, 1, 1, 1), item(itemACLDefault, 1, 1, 1, 1)), "twice"},
		{"a project twice", archiveOf(name("a"), file, item(itemProjectID, 1), item(itemProjectID, 1)), "twice"},
		{"a user of 33 bits", archiveOf(name("a"), file, item(itemACLUser, 1<<32, 7)), "ID 4294967296"},
		{"a table of half a record", archiveOf(item(itemGoodbye, "123456789012345678901234567890123456")), "goodbye table of 36 bytes"},
		{"a table without tail", archiveOf(item(itemGoodbye, 1, 56, 40)), "does not fit"},
		{"a table of another directory", archiveOf(item(itemGoodbye, uint64(goodbye.TailMark), 55, 40)), "does not fit"},
		{"a payload out of range", archiveOf(name("a"), file, item(itemPayloadRef, uint64(math.MaxUint64), 1)), "at offset"},
		{"a payload of 16 EiB", archiveOf(name("a"), file, endless), "size of 18446744073709551615"},
		{"a payload that is not there", archiveOf(name("a"), file, long), "ends early"},
		{"an item that belongs elsewhere", archiveOf(item(itemPayloadTail)), "payload tail instead"},
	} {
		_, err := decodeAll(NewDecoder(bytes.NewReader(test.data)))
		if !errors.Is(err, ErrFormat) || !strings.Contains(fmt.Sprint(err), test.says) {
			t.Errorf("%s: %v, want %q", test.name, err, test.says)
		}
	}
}

func TestEveryCutOfAnArchiveIsNoticed(t *testing.T) {
	data := readFile(t, "testdata/v1/acl.pxar")
	for n := range data {
		var r io.Reader = bytes.NewReader(data[:n])
		if n%2 == 0 {
			r = bufioOnly{r}
		}
		if _, err := decodeAll(NewDecoder(r)); !errors.Is(err, ErrFormat) || !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Fatalf("the first %d bytes of %d: %v", n, len(data), err)
		}
	}
}

func TestAnErrorStays(t *testing.T) {
	d := NewDecoder(io.MultiReader(bytes.NewReader(archiveOf(name("a"))[:80]), iotest.ErrReader(iotest.ErrTimeout)))
	if _, err := d.Next(); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if _, err := d.Next(); !errors.Is(err, iotest.ErrTimeout) || errors.Is(err, ErrFormat) {
			t.Fatalf("error %v, want the reader's own", err)
		}
	}
}

func TestOldEntriesAndOtherOrdersAreRead(t *testing.T) {
	old := item(itemEntryV1, modeRegular|0o600, 0, 1|2<<32, 1700000000123456789)
	data := archiveOf(name("a"), old, item(itemProjectID, 7), item(itemFCaps, "x"), item(itemACLDefaultGroup, 3, 1),
		item(itemACLGroup, 2, 5), item(itemXattr, "user.a\x00\x00"), item(itemPayload, "hello"))
	all, err := decodeAll(NewDecoder(bytes.NewReader(data)))
	if err != nil || len(all) != 3 {
		t.Fatal(all, err)
	}
	e := all[1]
	if e.Mtime != testMtime || e.UID != 1 || e.GID != 2 || e.ProjectID != 7 || string(e.FCaps) != "x" ||
		!slices.Equal(e.ACL.Groups, []ACLEntry{{2, 5}}) || !slices.Equal(e.ACL.DefaultGroups, []ACLEntry{{3, 1}}) ||
		len(e.Xattrs) != 1 || string(e.Xattrs[0].Value) != "\x00" {
		t.Errorf("entry is %+v", e)
	}
}

func TestAttributesOfAnEntryAreBounded(t *testing.T) {
	items := [][]byte{name("a"), stat(modeRegular)}
	one := item(itemXattr, "user.a\x00", make([]byte, 60_000))
	for range maxAttributes/len(one) + 1 {
		items = append(items, one)
	}
	_, err := decodeAll(NewDecoder(bytes.NewReader(archiveOf(items...))))
	if !errors.Is(err, ErrFormat) || !strings.Contains(err.Error(), "attributes of an entry") {
		t.Errorf("error %v", err)
	}
}

func TestDepthIsBoundedAndCheap(t *testing.T) {
	const deep = 20_000
	var out bytes.Buffer
	e := begin(t, &out)
	for range deep {
		must(t, e.BeginDir("d", dirMeta))
	}
	for range deep {
		must(t, e.EndDir())
	}
	must(t, e.Close())
	d := NewDecoder(&out)
	var deepest *Entry
	for {
		e, err := d.Next()
		if err == io.EOF {
			break
		}
		must(t, err)
		if e.Depth == deep && deepest == nil {
			deepest = e
		}
	}
	if path := deepest.Path(); len(path) != 2*deep-1 {
		t.Errorf("path of the deepest directory has %d bytes", len(path))
	}
	level := slices.Concat(name("d"), stat(modeDir))
	d = NewDecoder(bytes.NewReader(append(stat(modeDir), bytes.Repeat(level, 10)...)))
	_, err := d.Next()
	must(t, err)
	d.dirs = append(d.dirs, make([]decoderDir, maxDepth-3)...) // a way down of a minute
	for range 2 {
		if _, err := d.Next(); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := d.Next(); !errors.Is(err, ErrFormat) || !strings.Contains(err.Error(), "deep") {
		t.Errorf("error %v", err)
	}
}

func TestContentIsReadInPartsAndNotTooLate(t *testing.T) {
	var out bytes.Buffer
	e := begin(t, &out)
	big := strings.Repeat("0123456789", sourceBuffer/3)
	addFile(t, e, "a", big)
	must(t, e.Symlink("b", linkMeta, "a"), e.Close())
	d := NewDecoder(bytes.NewReader(out.Bytes()))
	for range 2 {
		if _, err := d.Next(); err != nil {
			t.Fatal(err)
		}
	}
	content := d.Content()
	got, err := io.ReadAll(io.LimitReader(iotest.OneByteReader(content), 1000))
	if err != nil {
		t.Fatal(err)
	}
	var rest strings.Builder
	if n, err := io.Copy(&rest, content); err != nil || string(got)+rest.String() != big {
		t.Errorf("content of %d bytes: %v", int64(len(got))+n, err)
	}
	if n, err := content.Read(make([]byte, 1)); n != 0 || err != io.EOF {
		t.Errorf("behind the content: %d, %v", n, err)
	}
	link, err := d.Next()
	if err != nil || link.Target != "a" {
		t.Fatal(link, err)
	}
	if n, err := content.Read(make([]byte, 1)); n != 0 || !errors.Is(err, errStale) {
		t.Errorf("content of an earlier file: %d, %v", n, err)
	}
	if n, err := d.Content().Read(make([]byte, 1)); n != 0 || err != io.EOF {
		t.Errorf("content of a link: %d, %v", n, err)
	}
}

// A meter counts what is read of a stream that can seek, or discard.
type meter struct {
	r    *bytes.Reader
	read int
}

func (m *meter) Read(p []byte) (int, error) {
	n, err := m.r.Read(p)
	m.read += n
	return n, err
}

type seeker struct{ meter }

func (s *seeker) Seek(off int64, whence int) (int64, error) { return s.r.Seek(off, whence) }

type discards struct{ meter }

func (d *discards) Discard(n int64) (int64, error) { return n, seekErr(d.r.Seek(n, io.SeekCurrent)) }

func seekErr(_ int64, err error) error { return err }

type pipe struct{ meter }

func (*pipe) Seek(int64, int) (int64, error) { return 0, errors.New("illegal seek") }

func TestUnwantedContentsAreNotReadWhereThatIsPossible(t *testing.T) {
	var out bytes.Buffer
	e := begin(t, &out)
	addFile(t, e, "a", strings.Repeat("x", 20<<20))
	addFile(t, e, "b", "x")
	must(t, e.Close())
	r := func() meter { return meter{r: bytes.NewReader(out.Bytes())} }
	s, d, p := seeker{r()}, discards{r()}, pipe{r()}
	for _, test := range []struct {
		name string
		r    io.Reader
		m    *meter
		most int
	}{
		{"seeking", &s, &s.meter, 2 * sourceBuffer}, {"discarding", &d, &d.meter, 2 * sourceBuffer},
		{"a pipe", &p, &p.meter, out.Len()},
	} {
		if got := names(t, NewDecoder(test.r)); !slices.Equal(got, []string{"a", "b"}) {
			t.Errorf("%s: archive holds %q", test.name, got)
		}
		if test.m.read > test.most || test.m.read == 0 {
			t.Errorf("%s: read %d bytes, want at most %d", test.name, test.m.read, test.most)
		}
	}
}

func TestPayloadsOfSplitArchivesAreChecked(t *testing.T) {
	ref := func(name string, at, size int) []byte {
		return slices.Concat(item(itemFilename, name+"\x00"), stat(modeRegular), item(itemPayloadRef, at, size))
	}
	payload := slices.Concat(item(itemPayloadStart), item(itemPayload, "hello"), item(itemPayload, "world"), item(itemPayloadTail))
	for _, test := range []struct {
		name string
		refs []byte
		says string
	}{
		{"backwards", slices.Concat(ref("a", 37, 5), ref("b", 16, 5)), "back"},
		{"a smaller payload", ref("a", 16, 6), "instead of a payload of 6"},
		{"no payload", ref("a", 0, 0), "payload start of 0 bytes"},
		{"beyond the end", ref("a", 500, 5), "ends early"},
		{"between items", ref("a", 17, 5), "unknown"},
	} {
		d := NewSplitDecoder(bytes.NewReader(archiveOf(test.refs)), bytes.NewReader(payload))
		if _, err := decodeAll(d); !errors.Is(err, ErrFormat) || !strings.Contains(err.Error(), test.says) {
			t.Errorf("%s: %v, want %q", test.name, err, test.says)
		}
	}
	d := NewDecoder(bytes.NewReader(archiveOf(ref("a", 16, 5))))
	if got := names(t, d); !slices.Equal(got, []string{"a"}) {
		t.Errorf("without payload the archive holds %q", got)
	}
	d = NewDecoder(bytes.NewReader(archiveOf(ref("a", 16, 5))))
	if _, err := decodeAll(d); !errors.Is(err, errNoPayload) {
		t.Errorf("content without payload: %v", err)
	}
}
