package pxar

import (
	"bytes"
	"cmp"
	"errors"
	"io"
	"reflect"
	"strings"
	"testing"
)

func TestDecoderYieldsWhatTheGoldenArchivesHold(t *testing.T) {
	for _, g := range goldens(t) {
		t.Run(g.name, func(t *testing.T) {
			d := g.decoder(true)
			for i := range g.tree {
				e, err := d.Next()
				if err != nil {
					t.Fatalf("entry %d: %v", i, err)
				}
				want := g.tree[i].entry(t)
				if got := public(e); !reflect.DeepEqual(got, want) {
					t.Fatalf("entry %d is\n%+v, want\n%+v", i, got, want)
				}
				if want, got := latin1(strings.TrimPrefix(g.tree[i].Path, "/")), e.Path(); got != want {
					t.Fatalf("path %q, want %q", got, want)
				}
				if e.Kind == File {
					if got := sum(t, d.Content()); got != g.tree[i].SHA256 {
						t.Errorf("%s: content %s, want %s", e.Path(), got, g.tree[i].SHA256)
					}
				}
			}
			if e, err := d.Next(); err != io.EOF {
				t.Fatalf("behind the end: %v, %v", e, err)
			}
			if string(d.Prelude()) != g.prelude || (d.Prelude() == nil) != (g.prelude == "") {
				t.Errorf("prelude %q, want %q", d.Prelude(), g.prelude)
			}
			if d.Offset() != int64(len(g.meta)) {
				t.Errorf("ended at %d of %d", d.Offset(), len(g.meta))
			}
		})
	}
}

func TestSkippingContentsChangesNothing(t *testing.T) {
	for _, g := range goldens(t) {
		for _, seek := range []bool{false, true} {
			d := g.decoder(seek)
			for i := range g.tree {
				e, err := d.Next()
				if err != nil {
					t.Fatalf("%s: %v", g.name, err)
				}
				if i%3 == 1 && e.Size > 0 { // some are read in part
					if _, err := io.ReadFull(d.Content(), make([]byte, 1)); err != nil {
						t.Fatalf("%s: %v", g.name, err)
					}
				}
				if want := g.tree[i].entry(t); !reflect.DeepEqual(public(e), want) {
					t.Fatalf("%s: entry %d is %+v, want %+v", g.name, i, e, want)
				}
			}
			if _, err := d.Next(); err != io.EOF {
				t.Fatalf("%s: %v", g.name, err)
			}
		}
	}
}

// encode writes the entries of d again.
func encode(t *testing.T, d *Decoder, begin func(root *Metadata) (*Encoder, error)) {
	t.Helper()
	root, err := d.Next()
	if err != nil {
		t.Fatal(err)
	}
	enc, err := begin(&root.Metadata)
	if err != nil {
		t.Fatal(err)
	}
	for {
		e, err := d.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if err := encodeEntry(enc, e, d); err != nil {
			t.Fatalf("%s: %v", e.Path(), err)
		}
	}
	if err := enc.Close(); err != nil {
		t.Fatal(err)
	}
}

func encodeEntry(enc *Encoder, e *Entry, d *Decoder) error {
	switch e.Kind {
	case Dir:
		return enc.BeginDir(e.Name, &e.Metadata)
	case DirEnd:
		if e.Depth == 0 {
			return nil
		}
		return enc.EndDir()
	case File:
		w, pos, err := enc.File(e.Name, &e.Metadata, e.Size)
		if err != nil {
			return err
		}
		if pos != e.Position {
			return errors.New("another position")
		}
		_, err = io.Copy(w, d.Content())
		return errors.Join(err, w.Close())
	case Symlink:
		return enc.Symlink(e.Name, &e.Metadata, e.Target)
	case Hardlink:
		return enc.Hardlink(e.Name, e.Target, e.Link)
	case BlockDevice, CharDevice:
		return enc.Device(e.Name, &e.Metadata, e.Device)
	}
	return enc.Node(e.Name, &e.Metadata)
}

func TestEncoderWritesTheBytesOfTheOfficialOne(t *testing.T) {
	for _, g := range goldens(t) {
		t.Run(g.name, func(t *testing.T) {
			var meta, payload bytes.Buffer
			encode(t, g.decoder(true), func(root *Metadata) (*Encoder, error) {
				if g.payload == nil {
					return NewEncoder(&meta, root)
				}
				var prelude []byte
				if g.prelude != "" {
					prelude = []byte(g.prelude)
				}
				return NewSplitEncoder(&meta, &payload, root, prelude)
			})
			if strings.HasSuffix(g.name, "/pad") { // made of parts of other payloads, which we do not write
				if got, want := payload.Len(), len(g.payload); got >= want {
					t.Errorf("payload without padding has %d bytes, with it %d", got, want)
				}
				return
			}
			if !bytes.Equal(meta.Bytes(), g.meta) {
				t.Errorf("archive differs at byte %d", differs(meta.Bytes(), g.meta))
			}
			if !bytes.Equal(payload.Bytes(), g.payload) {
				t.Errorf("payload differs at byte %d", differs(payload.Bytes(), g.payload))
			}
		})
	}
}

func differs(a, b []byte) int {
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			return i
		}
	}
	return min(len(a), len(b))
}

func TestEveryNameIsFoundInTheTables(t *testing.T) {
	for _, g := range goldens(t) {
		t.Run(g.name, func(t *testing.T) {
			a := g.archive(t)
			sums := map[Position]string{}
			for i := range g.tree {
				want := g.tree[i].entry(t)
				if want.Kind == DirEnd {
					continue
				}
				path := latin1(g.tree[i].Path)
				n, err := a.Find(path)
				if err != nil {
					t.Fatal(err)
				}
				if got := public(&n.Entry); !reflect.DeepEqual(got, want) {
					t.Fatalf("found\n%+v, want\n%+v", got, want)
				}
				if "/"+n.Path() != path && path != "" {
					t.Errorf("path %q, want %q", n.Path(), path)
				}
				switch n.Kind {
				case File:
					sums[n.Position] = g.tree[i].SHA256
				case Hardlink:
				default:
					continue
				}
				content, err := n.Content()
				if err != nil {
					t.Fatal(err)
				}
				if got, want := sum(t, content), sums[cmp.Or(n.Link, n.Position)]; got != want {
					t.Errorf("%s: content %s, want %s", path, got, want)
				}
			}
			if prelude, err := a.Prelude(); err != nil || string(prelude) != g.prelude {
				t.Errorf("prelude %q, %v, want %q", prelude, err, g.prelude)
			}
		})
	}
}
