package chunks

import (
	"encoding/binary"
	"errors"
	"io"
	"reflect"
	"slices"
	"strings"
	"testing"
)

func wantErr(t testing.TB, what string, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("%s: error %v, want %v", what, err, want)
	}
}

// wantText checks that err tells a person what happened.
func wantText(t testing.TB, err error, text string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), text) {
		t.Errorf("error %v, want one with %q", err, text)
	}
}

func wantEqual[T any](t testing.TB, got, want T) {
	t.Helper()
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

// splitAll returns the pieces of r, each in memory of its own.
func splitAll(t testing.TB, r io.Reader, avg int) []Piece {
	t.Helper()
	s, err := NewSplitter(r, avg)
	if err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 0, s.Max())
	var pieces []Piece
	for {
		p, err := s.Next(buf)
		if err == io.EOF {
			return pieces
		}
		if err != nil {
			t.Fatal(err)
		}
		p.Data = slices.Clone(p.Data)
		pieces = append(pieces, p)
	}
}

// hashStream is the stream of the vectors of §5.9: SHA-256 of 0, 1, 2, … as
// little-endian 64-bit numbers.
func hashStream(n int) []byte {
	stream := make([]byte, 0, n+DigestSize)
	for i := uint64(0); len(stream) < n; i++ {
		d := Sum(binary.LittleEndian.AppendUint64(nil, i))
		stream = append(stream, d[:]...)
	}
	return stream[:n]
}

// textLike returns n bytes that zstd makes about three times smaller: lines of
// a log, from a fixed sequence.
func textLike(n int) []byte {
	words := strings.Fields("the backup of host store finished with chunk reused uploaded error at in seconds bytes verified snapshot index garbage collection")
	text := make([]byte, 0, n+64)
	for state := uint64(1); len(text) < n; {
		state = state*6364136223846793005 + 1442695040888963407
		text = append(text, words[state>>33%uint64(len(words))]...)
		text = append(text, ' ')
		if state>>60 == 0 {
			text = append(binary.LittleEndian.AppendUint32(text, uint32(state>>20)), '\n')
		}
	}
	return text[:n]
}
