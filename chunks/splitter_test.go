package chunks

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/bits"
	"math/rand/v2"
	"testing"
	"testing/iotest"
)

// cutSlowly says where §5.9 cuts data, one byte after the other.
func cutSlowly(data []byte, avg int) (ends []int) {
	var window [64]byte
	var h uint32
	filled, length := 0, 0
	mask := uint32(2*avg - 1)
	for i, b := range data {
		if filled < 64 {
			window[filled] = b
			h = bits.RotateLeft32(h, 1) ^ buzhash[b]
			filled++
			length++
			continue
		}
		leave := window[length%64]
		h = bits.RotateLeft32(h, 1) ^ buzhash[leave] ^ buzhash[b]
		window[length%64] = b
		length++
		if length >= 4*avg || length >= avg/4 && h&mask >= mask-2 {
			ends = append(ends, i+1)
			h, filled, length = 0, 0, 0
		}
	}
	if length > 0 {
		ends = append(ends, len(data))
	}
	return ends
}

// scanPieces says where a Scanner cuts data that it is fed in pieces.
func scanPieces(t testing.TB, data []byte, avg int, pieceLen func() int) (ends []int) {
	t.Helper()
	s, err := NewScanner(avg)
	if err != nil {
		t.Fatal(err)
	}
	for pos := 0; pos < len(data); {
		piece := data[pos:min(len(data), pos+pieceLen())]
		for len(piece) > 0 {
			cut := s.Scan(piece)
			if cut == 0 {
				pos += len(piece)
				break
			}
			pos += cut
			ends = append(ends, pos)
			piece = piece[cut:]
		}
	}
	if n := len(ends); len(data) > 0 && (n == 0 || ends[n-1] != len(data)) {
		ends = append(ends, len(data))
	}
	return ends
}

func lengths(pieces []Piece) (n []int) {
	for _, p := range pieces {
		n = append(n, len(p.Data))
	}
	return n
}

func TestBuzhashTable(t *testing.T) {
	var all uint32
	for _, word := range buzhash {
		all ^= word
	}
	if all != 0 {
		t.Errorf("the exclusive or of the table is %08x, want 0", all)
	}
}

func TestSplitterVectors(t *testing.T) {
	counters := make([]byte, 0, 1<<20)
	for i := range uint32(1 << 18) {
		counters = binary.LittleEndian.AppendUint32(counters, i)
	}
	hashes := hashStream(64 << 20)
	for _, tt := range []struct {
		name string
		data []byte
		avg  int
		want []int
	}{
		{"1 MiB of counters at 64 KiB", counters, 64 << 10, []int{143377, 262144, 262144, 262144, 118767}},
		{"64 MiB of hashes at 4 MiB", hashes, 4 << 20, []int{1073993, 2680757, 1087418, 1184477, 7129457, 2835505, 2151313, 4280454, 5632142, 2398160, 1716966, 5819154, 9765345, 2596480, 2888735, 2393851, 2925303, 1632647, 1887799, 3763951, 1264957}},
		{"40 MiB of zeros at 4 MiB", make([]byte, 40<<20), 4 << 20, []int{16777216, 16777216, 8388608}},
		{"an empty stream has no piece", nil, 4 << 20, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			wantEqual(t, lengths(splitAll(t, bytes.NewReader(tt.data), tt.avg)), tt.want)
		})
	}
	t.Run("4 MiB of hashes at 64 KiB", func(t *testing.T) {
		got := lengths(splitAll(t, bytes.NewReader(hashes[:4<<20]), 64<<10))
		if len(got) != 62 || got[61] != 113610 {
			t.Errorf("%d chunks, want 62, the last of 113610 bytes", len(got))
		}
		wantEqual(t, got[:10], []int{66406, 60738, 125437, 51526, 16793, 17483, 54238, 43931, 37148, 36544})
	})
}

func TestCutsDoNotDependOnPieces(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	data := hashStream(96 << 10)
	clear(data[20<<10 : 40<<10]) // longer than the maximum at 1 and 4 KiB
	for _, avg := range []int{1 << 10, 4 << 10, 16 << 10} {
		want := cutSlowly(data, avg)
		if len(want) < 3 {
			t.Fatalf("only %d chunks to compare at %d", len(want), avg)
		}
		for _, limit := range []int{1, 2, 63, 64, 65, 130, 1000, 9000, len(data)} {
			t.Run(fmt.Sprintf("average %d, pieces up to %d", avg, limit), func(t *testing.T) {
				wantEqual(t, scanPieces(t, data, avg, func() int { return 1 + rng.IntN(limit) }), want)
				wantEqual(t, scanPieces(t, data, avg, func() int { return limit }), want)
			})
		}
	}
}

// TestCutAtTheMinimum has a stream whose first window already asks for a cut,
// which is one in 700.
func TestCutAtTheMinimum(t *testing.T) {
	const avg = 1 << 10
	data := hashStream(1 << 20)
	first := 0
	for start := 0; first == 0 && start < len(data)-4*avg; start += window {
		if cutSlowly(data[start:][:4*avg], avg)[0] == avg/4 {
			first = start
		}
	}
	data = data[first:][:64*avg]
	want := cutSlowly(data, avg)
	if want[0] != avg/4 {
		t.Fatalf("the first cut is at %d, want %d", want[0], avg/4)
	}
	for _, n := range []int{1, avg/4 - 1, avg / 4, avg/4 + 1, len(data)} {
		wantEqual(t, scanPieces(t, data, avg, func() int { return n }), want)
	}
}

func TestPiecesMakeUpTheStream(t *testing.T) {
	data := hashStream(1 << 20)
	clear(data[100<<10 : 500<<10])
	for name, r := range map[string]io.Reader{
		"whole reads":           bytes.NewReader(data),
		"half reads":            iotest.HalfReader(bytes.NewReader(data)),
		"the end with the data": iotest.DataErrReader(bytes.NewReader(data)),
	} {
		t.Run(name, func(t *testing.T) {
			var joined []byte
			zeros := 0
			for _, p := range splitAll(t, r, 16<<10) {
				if p.Offset != int64(len(joined)) {
					t.Fatalf("a piece at %d, want %d", p.Offset, len(joined))
				}
				if p.Zero != (bytes.Count(p.Data, []byte{0}) == len(p.Data)) {
					t.Errorf("the piece at %d says Zero is %v", p.Offset, p.Zero)
				}
				if p.Zero {
					zeros++
				}
				joined = append(joined, p.Data...)
			}
			if !bytes.Equal(joined, data) || zeros < 2 {
				t.Errorf("the pieces make up %d bytes of %d, %d of them zero pieces", len(joined), len(data), zeros)
			}
		})
	}
}

func TestPiecesLieInTheCallersMemory(t *testing.T) {
	data := hashStream(200 << 10)
	s, err := NewSplitter(bytes.NewReader(data), 16<<10)
	if err != nil {
		t.Fatal(err)
	}
	first, second := make([]byte, 0, s.Max()), make([]byte, 0, s.Max())
	p, err := s.Next(first)
	if err != nil || &p.Data[0] != &first[:1][0] {
		t.Fatalf("the first piece lies elsewhere, error %v", err)
	}
	q, err := s.Next(second)
	if err != nil || &q.Data[0] != &second[:1][0] {
		t.Fatalf("the second piece lies elsewhere, error %v", err)
	}
	if !bytes.Equal(p.Data, data[:len(p.Data)]) || !bytes.Equal(q.Data, data[q.Offset:][:len(q.Data)]) {
		t.Error("the second piece has damaged the first")
	}
}

func TestSplitterFailsWithItsStream(t *testing.T) {
	broken := errors.New("disk on fire")
	for _, cause := range []error{broken, io.ErrUnexpectedEOF} {
		s, err := NewSplitter(io.MultiReader(bytes.NewReader(hashStream(3000)), iotest.ErrReader(cause)), 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		for range 2 {
			_, err = s.Next(nil)
			wantErr(t, "next", err, cause)
			wantText(t, err, "split stream at offset 3000")
		}
	}
}

func TestSplittersFailForGood(t *testing.T) {
	data := hashStream(10 << 10)
	for name, s := range map[string]interface {
		Next([]byte) (Piece, error)
	}{
		"dynamic": must(NewSplitter(iotest.TimeoutReader(iotest.OneByteReader(bytes.NewReader(data))), 1<<10)),
		"fixed":   must(NewFixedSplitter(iotest.TimeoutReader(iotest.OneByteReader(bytes.NewReader(data))), 10<<10, 1<<10)),
	} {
		for range 2 {
			_, err := s.Next(nil)
			wantErr(t, name+" splitter whose reader would go on after an error", err, iotest.ErrTimeout)
		}
	}
}

func TestSplitterRefusesAverages(t *testing.T) {
	for _, avg := range []int{-1, 0, 512, 3 << 20, 8 << 20} {
		_, err := NewSplitter(nil, avg)
		wantText(t, err, "want a power of two from 1024 to 4194304")
	}
}

func FuzzSplitter(f *testing.F) {
	f.Add([]byte("seed"), uint16(300), uint8(0), uint8(1))
	f.Add(hashStream(100), uint16(9000), uint8(2), uint8(100))
	f.Add([]byte{0}, uint16(20000), uint8(1), uint8(64))
	f.Fuzz(func(t *testing.T, seed []byte, n uint16, avgBits, piece uint8) {
		avg := 1 << (10 + avgBits%3)
		data := bytes.Repeat(append(seed, hashStream(int(n)%2000)...), 1+int(n)/(len(seed)+1000))
		data = data[:min(len(data), 1<<16)]
		want := cutSlowly(data, avg)
		wantEqual(t, scanPieces(t, data, avg, func() int { return 1 + int(piece) }), want)
		wantEqual(t, scanPieces(t, data, avg, func() int { return len(data) }), want)
	})
}
