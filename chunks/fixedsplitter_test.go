package chunks

import (
	"bytes"
	"errors"
	"io"
	"testing"
	"testing/iotest"
)

func TestFixedSplitter(t *testing.T) {
	image := hashStream(10 * 1000)
	clear(image[4096 : 2*4096])
	for _, tt := range []struct {
		name  string
		size  int64
		sizes []int
		zero  int
	}{
		{"a whole number of chunks", 8192, []int{4096, 4096}, 1},
		{"the last chunk is shorter", 10000, []int{4096, 4096, 1808}, 1},
		{"less than one chunk", 100, []int{100}, -1},
		{"an empty image has no piece", 0, nil, -1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s, err := NewFixedSplitter(iotest.HalfReader(bytes.NewReader(image)), tt.size, 4096)
			if err != nil {
				t.Fatal(err)
			}
			offset := int64(0)
			for i, size := range tt.sizes {
				p, err := s.Next(make([]byte, 0, 4096))
				if err != nil {
					t.Fatal(err)
				}
				if p.Offset != offset || !bytes.Equal(p.Data, image[offset:][:size]) || p.Zero != (i == tt.zero) {
					t.Errorf("piece %d has %d bytes at %d, zero %v", i, len(p.Data), p.Offset, p.Zero)
				}
				offset += int64(size)
			}
			for range 2 {
				if _, err := s.Next(nil); err != io.EOF {
					t.Errorf("after the last piece: %v, want EOF", err)
				}
			}
		})
	}
}

func TestFixedSplitterFailsWithItsImage(t *testing.T) {
	broken := errors.New("disk on fire")
	for _, tt := range []struct {
		name string
		r    io.Reader
		want error
	}{
		{"the image ends early", bytes.NewReader(make([]byte, 5000)), io.ErrUnexpectedEOF},
		{"the image ends where a chunk does", bytes.NewReader(make([]byte, 4096)), io.ErrUnexpectedEOF},
		{"the disk fails", io.MultiReader(bytes.NewReader(make([]byte, 5000)), iotest.ErrReader(broken)), broken},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s, err := NewFixedSplitter(tt.r, 10000, 4096)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := s.Next(nil); err != nil {
				t.Fatal(err)
			}
			for range 2 {
				_, err = s.Next(nil)
				wantErr(t, "next", err, tt.want)
				wantText(t, err, "split image of 10000 bytes at offset ")
			}
		})
	}
}

func TestFixedSplitterRefusesSizes(t *testing.T) {
	for _, size := range []int{-1, 0, MaxPlain + 1} {
		_, err := NewFixedSplitter(nil, 1, size)
		wantText(t, err, "want 1 to 134217728")
	}
	if _, err := NewFixedSplitter(nil, -1, SlotSize); err == nil {
		t.Error("an image of -1 bytes is accepted")
	}
}

func TestIsZero(t *testing.T) {
	for _, n := range []int{0, 1, 2, 7, 63, 64, 65, 4095, 4096, 4097} {
		p := make([]byte, n)
		if !IsZero(p) {
			t.Errorf("%d zeros are not zero", n)
		}
		for i := range p {
			p[i] = 1
			if IsZero(p) {
				t.Errorf("%d bytes with a one at %d are zero", n, i)
			}
			p[i] = 0
		}
		for i := range p {
			p[i] = 0xff
		}
		if n > 0 && IsZero(p) {
			t.Errorf("%d bytes of 255 are zero", n)
		}
	}
}

func TestZeroChunks(t *testing.T) {
	// [vector] of §5.5, and what chunk uploads of golden images are named.
	var raw [32]byte
	for i := range raw {
		raw[i] = byte(i)
	}
	plainDigest, err := ParseDigest("bb9f8df61474d25e71fa00722318cd387396ca1736605e1248821cc0de3d3af8")
	if err != nil {
		t.Fatal(err)
	}
	keyDigest, err := ParseDigest("348571e12bbbedb529def1f1394316e338a01945d871df9ef792617ceb13d636")
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name string
		opt  EncodeOptions
		want Digest
	}{
		{"plain", EncodeOptions{}, plainDigest},
		{"compressed", EncodeOptions{Compress: true}, plainDigest},
		{"encrypted", EncodeOptions{Compress: true, Key: NewKey(raw)}, keyDigest},
	} {
		t.Run(tt.name, func(t *testing.T) {
			z := NewZeroChunks(tt.opt)
			d, b, err := z.Chunk(SlotSize)
			if err != nil || d != tt.want {
				t.Fatalf("4 MiB of zeros are %s, error %v, want %s", d, err, tt.want)
			}
			if err := b.Verify(d, tt.opt.Key); err != nil {
				t.Error(err)
			}
			if _, again, _ := z.Chunk(SlotSize); &again[0] != &b[0] {
				t.Error("the same size was encoded twice")
			}
			for size := 1; size <= 2*maxZeroSizes; size++ {
				if d, b, err := z.Chunk(size); err != nil || b.Verify(d, tt.opt.Key) != nil {
					t.Errorf("%d zeros: %v", size, err)
				}
			}
			if len(z.known) != maxZeroSizes {
				t.Errorf("%d sizes are remembered, want %d", len(z.known), maxZeroSizes)
			}
		})
	}
	for _, size := range []int{-1, 0, MaxPlain + 1} {
		_, _, err := NewZeroChunks(EncodeOptions{}).Chunk(size)
		wantText(t, err, "want 1 to 134217728")
	}
	_, _, err = NewZeroChunks(EncodeOptions{}).Chunk(MaxBlob)
	wantText(t, err, "at most 16777260 are allowed")
}
