package content

import (
	"bytes"
	"errors"
	"testing"
	"time"

	"github.com/holdfast-mesh/holdfast/chunks"
)

// putDynamic stores content as an archive with chunks of about avg bytes.
func putDynamic(t testing.TB, w chunks.Writer, content []byte, avg int, opt chunks.EncodeOptions) *chunks.Dynamic {
	t.Helper()
	split, err := chunks.NewSplitter(bytes.NewReader(content), avg)
	if err != nil {
		t.Fatal(err)
	}
	var index chunks.DynamicBuilder
	if _, err := chunks.Ingest(t.Context(), w, split, chunks.IngestOptions{Encode: opt}, func(s chunks.Stored) error {
		return index.Append(s.Offset+int64(s.Size), s.Digest)
	}); err != nil {
		t.Fatal(err)
	}
	x, err := index.Finish(chunks.NewUUID(), time.Unix(1, 0))
	if err != nil {
		t.Fatal(err)
	}
	return x
}

// wantError fails unless err is target, or nil if that is nil.
func wantError(t testing.TB, err, target error) {
	t.Helper()
	if !errors.Is(err, target) || target == nil && err != nil {
		t.Fatalf("the error is %v, want %v", err, target)
	}
}

// hint returns the hint of err, "" if it has none.
func hint(err error) string {
	var h interface{ Hint() string }
	if errors.As(err, &h) {
		return h.Hint()
	}
	return ""
}
