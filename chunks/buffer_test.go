package chunks

import "testing"

func TestBuffersHaveRoom(t *testing.T) {
	for _, n := range []int{-1, 0, 1, 128 << 10, 128<<10 + 1, 4 << 20, 16 << 20, 16<<20 + 1, MaxBlob, 20 << 20} {
		for range 3 {
			b := GetBuffer(n)
			if len(b.Bytes) != 0 || cap(b.Bytes) < n+bufferSlack-EncryptedHeaderSize || cap(b.Bytes) >= 2*max(n, 128<<10)+2*bufferSlack {
				t.Errorf("asked for %d bytes: length %d, room for %d", n, len(b.Bytes), cap(b.Bytes))
			}
			b.Bytes = append(b.Bytes, 1)
			b.Free()
		}
	}
}

// What holds a blob of 4 MiB of content is not twice as large for its header.
func TestBuffersOfBlobs(t *testing.T) {
	for _, header := range []int{0, PlainHeaderSize, EncryptedHeaderSize} {
		b := GetBuffer(4<<20 + header)
		if cap(b.Bytes) > 4<<20+bufferSlack {
			t.Errorf("with a header of %d bytes there is room for %d", header, cap(b.Bytes))
		}
	}
}

func TestBuffersThatGrewOrShrank(t *testing.T) {
	for _, size := range []int{0, 100, 128 << 10, 200<<10 + bufferSlack, 33 << 20} {
		for range 100 {
			b := GetBuffer(1)
			b.Bytes = make([]byte, 0, size)
			b.Free()
		}
		for _, n := range []int{1, 128 << 10, 256 << 10, 16 << 20} {
			if b := GetBuffer(n); cap(b.Bytes) < n+bufferSlack-EncryptedHeaderSize || cap(b.Bytes) > 2*(16<<20+bufferSlack) {
				t.Errorf("asked for %d bytes after buffers of %d were returned: room for %d", n, size, cap(b.Bytes))
			}
		}
	}
}

// A buffer whose beginning was skipped goes back whole: else each use would
// leave less of it.
func TestBuffersThatWereSkippedGoBackWhole(t *testing.T) {
	b := GetBuffer(1 << 20)
	room := cap(b.Bytes)
	b.Bytes = append(b.Bytes, "head and content"...)
	b.Skip(5)
	b.Skip(4)
	if string(b.Bytes) != "content" {
		t.Errorf("left is %q", b.Bytes)
	}
	b.Free()
	if cap(b.Bytes) != room {
		t.Errorf("%d bytes went back, %d were lent", cap(b.Bytes), room)
	}
}

// TestSteadyStateAllocatesNothing allows one allocation a run, for the
// collector may empty a pool meanwhile. The race detector has pools lose things
// on purpose; with it the test only looks for races.
func TestSteadyStateAllocatesNothing(t *testing.T) {
	text, random := textLike(1<<20), hashStream(1<<20)
	for _, opt := range encodings {
		for name, plain := range map[string][]byte{"text": text, "random": random} {
			b := encoded(t, plain, opt)
			kind, _ := b.Kind()
			d := b.digestOf(plain)
			dst := GetBuffer(len(plain))
			for what, f := range map[string]func() error{
				"encode": func() error {
					buf := GetBuffer(len(plain))
					defer buf.Free()
					_, err := Encode(buf.Bytes, plain, opt)
					return err
				},
				"decode": func() error { _, err := b.Decode(dst.Bytes, opt.Key); return err },
				"verify": func() error { return b.Verify(d, opt.Key) },
				"length": func() error { b.PlainLen(); return b.Check() },
			} {
				var err error
				if n := testing.AllocsPerRun(5, func() { err = f() }); n > 1 && !raceDetector || err != nil {
					t.Errorf("%s %s as %s: %v allocations, error %v", what, name, kind, n, err)
				}
			}
		}
	}
}

func TestSplittersAllocateNothing(t *testing.T) {
	scan, err := NewScanner(64 << 10)
	if err != nil {
		t.Fatal(err)
	}
	data := hashStream(1 << 20)
	if n := testing.AllocsPerRun(10, func() { scan.Scan(data) }); n > 0 {
		t.Errorf("a scan makes %v allocations", n)
	}
	for name, s := range map[string]interface {
		Next([]byte) (Piece, error)
	}{
		"dynamic": must(NewSplitter(zeroReader{}, 64<<10)),
		"fixed":   must(NewFixedSplitter(zeroReader{}, 1<<40, 64<<10)),
	} {
		buf := make([]byte, 0, 256<<10)
		var err error
		if n := testing.AllocsPerRun(10, func() { _, err = s.Next(buf) }); n > 0 || err != nil {
			t.Errorf("a %s piece makes %v allocations, error %v", name, n, err)
		}
	}
}

// zeroReader is an endless stream of zeros.
type zeroReader struct{}

func (zeroReader) Read(p []byte) (int, error) { clear(p); return len(p), nil }

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}
