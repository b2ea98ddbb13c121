//go:build linux

package tree

import (
	"bytes"
	"context"
	"errors"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/holdfast-mesh/holdfast/catalog/pxar"
	"golang.org/x/sys/unix"
)

// flakyReader fails where bad says.
type flakyReader struct {
	data []byte
	bad  func(from, to int64) bool
}

var errBadChunk = errors.New("chunk is damaged")

func (r *flakyReader) ReadAt(p []byte, off int64) (int, error) {
	if r.bad(off, off+int64(len(p))) {
		return 0, errBadChunk
	}
	return bytes.NewReader(r.data).ReadAt(p, off)
}

func TestOneBadChunkCostsOneFile(t *testing.T) {
	big := strings.Repeat("0123456789abcdef", 200<<10)
	data, _ := archiveOf(t, plant(t, map[string]string{"a/x": "1", "a/big": big, "b": "=a/big", "c": "3"}), Options{})
	hole := int64(len(big) / 2)
	r := &flakyReader{data, func(from, to int64) bool { return from <= hole && hole < to }}
	a, err := pxar.OpenArchive(r, int64(len(data)), pxar.Options{})
	if err != nil {
		t.Fatal(err)
	}
	noLeaks(t)
	target := t.TempDir()
	report, err := Extract(t.Context(), a, target, ExtractOptions{})
	var incomplete *IncompleteError
	if !errors.As(err, &incomplete) || incomplete.Count != 2 || !errors.Is(err, errBadChunk) || hintOf(err) == "" {
		t.Errorf("error is %v", err)
	}
	slices.Sort(report.Damaged)
	if !slices.Equal(report.Damaged, []string{"a/big", "b"}) {
		t.Errorf("damaged: %v", report.Damaged)
	}
	wantTree(t, target, "a/", "a/x:1", "c:3")

	if _, err = Extract(t.Context(), a, t.TempDir(), ExtractOptions{Abort: func(err error) bool { return errors.Is(err, errBadChunk) }}); !errors.Is(err, errBadChunk) || errors.As(err, &incomplete) {
		t.Errorf("told to end at a bad chunk: %v", err)
	}
	old := plant(t, map[string]string{"a/big": "old"})
	if _, err = Extract(t.Context(), a, old, ExtractOptions{Overwrite: true}); err == nil {
		t.Error("nothing was wrong")
	}
	wantTree(t, old, "a/", "a/big:old", "a/x:1", "c:3") // rather the old file than none; and b is not made of it
}

func TestBadDirectoryCostsItsContents(t *testing.T) {
	data, _ := archiveOf(t, plant(t, map[string]string{"a/x": "1", "b/y": strings.Repeat("y", 20000), "c": strings.Repeat("c", 9000)}), Options{})
	var tail int64 // of b: in front of the name of c
	for tail = int64(len(data)); !bytes.HasPrefix(data[tail-2:], []byte("c\x00\xef\xac")); tail-- {
	}
	tail -= 30
	r := &flakyReader{data, func(from, to int64) bool { return from <= tail && tail < to && to-from < 5000 }}
	a, err := pxar.OpenArchive(r, int64(len(data)), pxar.Options{})
	if err != nil {
		t.Fatal(err)
	}
	target := t.TempDir()
	report, err := Extract(t.Context(), a, target, ExtractOptions{})
	if err == nil || !slices.Contains(report.Damaged, "b") {
		t.Errorf("damaged: %v, error %v", report.Damaged, err)
	}
	if _, err := os.Stat(target + "/a/x"); err != nil {
		t.Error(err)
	}
}

func TestFullDiskEndsTheWork(t *testing.T) {
	data, _ := archiveOf(t, plant(t, map[string]string{"a": strings.Repeat("x", 3<<20), "b": "1"}), Options{})
	target := t.TempDir()
	mountTmpfs(t, target, "1m")
	report, err := extract(t, data, target, ExtractOptions{})
	if !errors.Is(err, unix.ENOSPC) || errors.As(err, new(*IncompleteError)) {
		t.Errorf("error is %v, report %+v", err, report)
	}
	if _, err := os.Stat(target + "/a"); err == nil {
		t.Error("half a file was left")
	}
}

func TestCancelExtract(t *testing.T) {
	tree := map[string]string{"big": strings.Repeat("x", 8<<20)}
	for _, name := range strings.Split(strings.Repeat("n", 60), "") {
		tree[name+strings.Repeat("x", len(tree))+"/f"] = "1"
	}
	data, _ := archiveOf(t, plant(t, tree), Options{})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var reads atomic.Int64
	r := &flakyReader{data, func(from, to int64) bool {
		if to-from == copyBlock && reads.Add(1) == 2 {
			cancel()
		}
		return false
	}}
	a, err := pxar.OpenArchive(r, int64(len(data)), pxar.Options{})
	if err != nil {
		t.Fatal(err)
	}
	noLeaks(t)
	if _, err := Extract(ctx, a, t.TempDir(), ExtractOptions{}); !errors.Is(err, context.Canceled) {
		t.Errorf("error is %v", err)
	}
	if n := reads.Load(); n > 3 {
		t.Errorf("%d more blocks were read", n-2)
	}
}
