package pxar

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"math/rand/v2"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

func seeds(f *testing.F) {
	for _, pattern := range []string{"testdata/v1/*.pxar", "testdata/v2/*.mpxar"} {
		files, _ := filepath.Glob(pattern)
		for _, file := range files {
			if data := readFile(f, file); len(data) < 2<<10 {
				f.Add(data, false)
			}
		}
	}
	f.Add(unhex(f, vectorEmpty), false)
	f.Add(unhex(f, vectorOne), false)
	f.Add(archiveOf(fifo("a"), item(itemHardlink, 1, "b\x00")), false)
	// Scripts: a directory with a file, a link and a hard link; records that
	// lie; a fifo with attributes; a device and a payload elsewhere.
	f.Add([]byte("\x02\x10a\x33\x00\x00abc\x00\x26ab\x00\x18\x00\x00f\x0a\x00\x0d"), true)
	f.Add([]byte("\x02\x00\x0d\x0c\x10\x00\x20\x00\x0c\x10\x00\x20\x00\x0a"), true)
	f.Add([]byte("\x00\x04\x00\x10\x05u\x00\x15\x01\x75abc"), true)
	f.Add([]byte("\x00\x17\x00\x59\x20\x00\x0e"), true)
}

// The decoder accepts an archive or refuses it as malformed; what it accepts
// can be written again, and says the same then.
func FuzzDecoder(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, data []byte, script bool) {
		if script {
			data = compose(data)
		}
		all, err := decodeAll(NewDecoder(bytes.NewReader(data)))
		if err != nil {
			if !errors.Is(err, ErrFormat) && !errors.Is(err, errNoPayload) {
				t.Fatal(err)
			}
			return
		}
		if len(all) > 1+len(data)/headerSize {
			t.Fatalf("%d entries in %d bytes", len(all), len(data))
		}
		var out bytes.Buffer
		again(t, &out, NewDecoder(bytes.NewReader(data)))
		got, err := decodeAll(NewDecoder(&out))
		if err != nil || len(got) != len(all) {
			t.Fatalf("written again: %d entries of %d, %v", len(got), len(all), err)
		}
		for i := range all {
			a, b := public(&all[i]), public(&got[i])
			a.Position, b.Position, a.Link, b.Link = 0, 0, 0, 0
			if !reflect.DeepEqual(a, b) {
				t.Fatalf("entry %d is\n%+v, was\n%+v", i, b, a)
			}
		}
	})
}

// again writes what d yields, with hard links to wherever something is.
func again(t *testing.T, out *bytes.Buffer, d *Decoder) {
	root, err := d.Next()
	must(t, err)
	enc, err := NewEncoder(out, &root.Metadata)
	must(t, err)
	for {
		e, err := d.Next()
		if err == io.EOF {
			break
		}
		must(t, err)
		if e.Kind == Hardlink {
			e.Link = 1
		}
		if e.Kind == File {
			e.Position = Position(enc.Offset())
		}
		must(t, encodeEntry(enc, e, d))
	}
	must(t, enc.Close())
}

// Walking an archive ends, whatever its bytes are, and takes no more steps
// than it has room for entries.
func FuzzArchive(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, data []byte, script bool) {
		if script {
			data = compose(data)
		}
		a, err := OpenArchive(bytes.NewReader(data), int64(len(data)), Options{Payload: bytes.NewReader(data), PayloadSize: int64(len(data))})
		if err != nil {
			wantFormat(t, err)
			return
		}
		n, err := a.Root()
		if err != nil {
			wantFormat(t, err)
			return
		}
		steps := 0
		for todo := []*Node{n}; len(todo) > 0; {
			n := todo[len(todo)-1]
			todo = todo[:len(todo)-1]
			for c, err := range n.Entries() {
				if steps++; steps > 1+len(data)/24 {
					t.Fatalf("%d entries in %d bytes", steps, len(data))
				}
				if err != nil {
					wantFormat(t, err)
					continue
				}
				if CheckName(c.Name) != nil || c.Position <= n.Position {
					t.Fatalf("entry %q at %d of a directory at %d", c.Name, c.Position, n.Position)
				}
				checkNode(t, a, c, int64(len(data)))
				if c.Kind == Dir {
					todo = append(todo, c)
				}
			}
		}
	})
}

func wantFormat(t *testing.T, err error) {
	t.Helper()
	if !errors.Is(err, ErrFormat) {
		t.Fatal(err)
	}
}

func checkNode(t *testing.T, a *Archive, n *Node, size int64) {
	if found, err := a.Find(n.Path()); err == nil && found.Name != n.Name {
		t.Fatalf("found %q for %q", found.Name, n.Path())
	} else if err != nil && !errors.Is(err, fs.ErrNotExist) {
		wantFormat(t, err)
	}
	if n.Kind != File && n.Kind != Hardlink {
		return
	}
	content, err := n.Content()
	if err != nil {
		wantFormat(t, err)
		return
	}
	if content.Size() > size {
		t.Fatalf("content of %d bytes in an archive of %d", content.Size(), size)
	}
	if got, err := io.Copy(io.Discard, content); got != content.Size() || err != nil {
		t.Fatalf("read %d bytes of %d, %v", got, content.Size(), err)
	}
}

// In an archive that the encoder wrote, the tables lead to what the decoder
// yields. The numbers choose the tree.
func FuzzArchiveAgreesWithDecoder(f *testing.F) {
	for i := range uint64(20) {
		f.Add(i, i*7)
	}
	f.Fuzz(func(t *testing.T, a, b uint64) {
		rng := rand.New(rand.NewPCG(a, b))
		var meta, payload bytes.Buffer
		var enc *Encoder
		var err error
		split := rng.IntN(2) == 0
		if split {
			enc, err = NewSplitEncoder(&meta, &payload, dirMeta, nil)
		} else {
			enc, err = NewEncoder(&meta, dirMeta)
		}
		must(t, err)
		randomTree(t, rng, enc)
		g := golden{meta: meta.Bytes()}
		if split {
			g.payload = payload.Bytes()
		}
		compare(t, &g)
	})
}

func randomTree(t *testing.T, rng *rand.Rand, enc *Encoder) {
	count := 0
	type file struct {
		path string
		pos  Position
	}
	var files []file
	var dirs []string
	for range rng.IntN(300) {
		count++
		name := string(rune('a'+rng.IntN(26))) + string(rune('0'+count%10)) + strings.Repeat("é", count)
		switch rng.IntN(8) {
		case 0, 1:
			must(t, enc.BeginDir(name, dirMeta))
			dirs = append(dirs, name)
		case 2:
			if len(dirs) > 0 {
				must(t, enc.EndDir())
				dirs = dirs[:len(dirs)-1]
			}
		case 3:
			must(t, enc.Symlink(name, linkMeta, name))
		case 4:
			must(t, enc.Device(name, charMeta, Device{1, 2}))
		case 5:
			if len(files) > 0 {
				f := files[rng.IntN(len(files))]
				must(t, enc.Hardlink(name, f.path, f.pos))
			}
		default:
			content := strings.Repeat("x", rng.IntN(10_000))
			path := strings.Join(append(dirs[:len(dirs):len(dirs)], name), "/")
			pos := addFile(t, enc, name, content)
			if len(path) <= MaxName {
				files = append(files, file{path, pos})
			}
		}
	}
	for range dirs {
		must(t, enc.EndDir())
	}
	must(t, enc.Close())
}

func compare(t *testing.T, g *golden) {
	a := g.archive(t)
	d := g.decoder(true)
	for {
		e, err := d.Next()
		if err == io.EOF {
			return
		}
		must(t, err)
		if e.Kind == DirEnd {
			continue
		}
		n, err := a.Find(e.Path())
		must(t, err)
		if got, want := public(&n.Entry), public(e); !reflect.DeepEqual(got, want) || n.Path() != e.Path() {
			t.Fatalf("found\n%+v, want\n%+v", got, want)
		}
		if e.Kind != File {
			continue
		}
		content, err := n.Content()
		must(t, err)
		if got, want := sum(t, content), sum(t, d.Content()); got != want {
			t.Fatalf("%s: content %s, want %s", e.Path(), got, want)
		}
	}
}
