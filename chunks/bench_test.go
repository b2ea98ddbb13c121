package chunks

import (
	"bytes"
	"io"
	"testing"
)

func BenchmarkSplitter(b *testing.B) {
	data := hashStream(64 << 20)
	b.Run("4MiB", func(b *testing.B) { benchSplitter(b, data, ArchiveAverage) })
	b.Run("512KiB", func(b *testing.B) { benchSplitter(b, data, CatalogAverage) })
	b.Run("Scanner", func(b *testing.B) {
		s := must(NewScanner(ArchiveAverage))
		b.SetBytes(int64(len(data)))
		for b.Loop() {
			for rest := data; len(rest) > 0; {
				cut := s.Scan(rest)
				if cut == 0 {
					break
				}
				rest = rest[cut:]
			}
		}
	})
}

func benchSplitter(b *testing.B, data []byte, avg int) {
	buf := make([]byte, 0, 4*avg)
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		s := must(NewSplitter(bytes.NewReader(data), avg))
		for {
			if _, err := s.Next(buf); err == io.EOF {
				break
			} else if err != nil {
				b.Fatal(err)
			}
		}
	}
}

func BenchmarkEncodeText(b *testing.B)   { benchEncode(b, textLike(SlotSize)) }
func BenchmarkEncodeRandom(b *testing.B) { benchEncode(b, hashStream(SlotSize)) }

func benchEncode(b *testing.B, plain []byte) {
	buf := GetBuffer(len(plain))
	for _, opt := range encodings {
		blob := must(Encode(buf.Bytes, plain, opt))
		kind := must(blob.Kind())
		b.Run(map[bool]string{false: "asis/", true: "compress/"}[opt.Compress]+kind.String(), func(b *testing.B) {
			b.SetBytes(int64(len(plain)))
			b.ReportAllocs()
			for b.Loop() {
				blob = must(Encode(buf.Bytes, plain, opt))
			}
			b.ReportMetric(float64(len(plain))/float64(len(blob)), "ratio")
		})
	}
}

func BenchmarkDecode(b *testing.B) {
	plain := textLike(SlotSize)
	buf := GetBuffer(len(plain))
	for _, opt := range encodings {
		blob := must(Encode(nil, plain, opt))
		d := blob.digestOf(plain)
		kind := must(blob.Kind()).String()
		b.Run(kind, func(b *testing.B) {
			b.SetBytes(int64(len(plain)))
			b.ReportAllocs()
			for b.Loop() {
				must(blob.Decode(buf.Bytes, opt.Key))
			}
		})
		b.Run("verify/"+kind, func(b *testing.B) {
			b.SetBytes(int64(len(plain)))
			for b.Loop() {
				if err := blob.Verify(d, opt.Key); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkZero(b *testing.B) {
	zeros := make([]byte, SlotSize)
	b.Run("IsZero", func(b *testing.B) {
		b.SetBytes(SlotSize)
		for b.Loop() {
			if !IsZero(zeros) {
				b.Fatal("zeros are not zero")
			}
		}
	})
	b.Run("FixedSplitter", func(b *testing.B) {
		// As an image pipeline does it: read, recognise, look up.
		known := NewZeroChunks(EncodeOptions{Compress: true})
		s := must(NewFixedSplitter(zeroReader{}, 1<<60, SlotSize))
		b.SetBytes(SlotSize)
		for b.Loop() {
			p, err := s.Next(zeros)
			if err != nil || !p.Zero {
				b.Fatal("no zero piece", err)
			}
			if _, _, err := known.Chunk(len(p.Data)); err != nil {
				b.Fatal(err)
			}
		}
	})
}
