package queue

import (
	"errors"
	"io/fs"
	"testing"

	"github.com/holdfast-mesh/holdfast/chunks/cloud/layout"
	"github.com/holdfast-mesh/holdfast/chunks/disk"
)

// What a power cut has left of a pack goes, wherever it is damaged: its chunks are
// packed anew. What is whole stays.
func TestADamagedPackGoes(t *testing.T) {
	server := newSite(t)
	tests := []struct {
		name   string
		damage func(s *site, pack, rows string, size int64)
		stays  bool
	}{
		{"whole", func(*site, string, string, int64) {}, true},
		{"its first bit", func(s *site, pack, _ string, _ int64) { s.mem.FlipBit(pack, 0) }, false},
		{"a bit in its middle", func(s *site, pack, _ string, size int64) { s.mem.FlipBit(pack, size/2) }, false},
		{"its last bit", func(s *site, pack, _ string, size int64) { s.mem.FlipBit(pack, size-1) }, false},
		{"cut", func(s *site, pack, _ string, size int64) { s.mem.TruncateFile(pack, size-1) }, false},
		{"too long", func(s *site, pack, _ string, size int64) { s.mem.WriteRaw(pack, size, []byte{0}) }, false},
		{"its rows", func(s *site, _, rows string, _ int64) { s.mem.FlipBit(rows, 30) }, false},
		{"its sum", func(s *site, _, rows string, _ int64) { s.mem.FlipBit(rows, int64(len(s.mem.Bytes(rows)))-1) }, false},
		{"no sum, of an older version", func(s *site, _, rows string, _ int64) {
			s.mem.TruncateFile(rows, int64(len(s.mem.Bytes(rows))-sumSize))
		}, true},
	}
	for _, tt := range tests {
		s := server.fresh()
		p, body := s.push(tt.name)
		tt.damage(s, s.q.name(p.ID, packExt), s.q.name(p.ID, Ready), int64(len(body)))
		if err := s.q.Clean(); err != nil {
			t.Errorf("%s: %v", tt.name, err)
		}
		if !tt.stays {
			s.want()
			if left, err := s.mem.ReadDir("/upload"); err != nil || len(left) != 0 {
				t.Errorf("%s: %d files are left, %v", tt.name, len(left), err)
			}
			continue
		}
		s.want(Ready)
		if err := s.q.SendAll(t.Context()); err != nil {
			t.Errorf("%s: %v", tt.name, err)
		}
		s.stored(p, body)
	}
}

// A pack that the disk damages after it was put into the queue is refused by the
// bucket, which is told the sum that it had: it stays here, and the next start
// finds out.
func TestADiskThatLiesIsNotUploaded(t *testing.T) {
	s := newSite(t)
	p, body := s.push("one")
	if p.Sum == 0 {
		t.Fatal("the pack has no sum")
	}
	name := s.q.name(p.ID, packExt)
	s.mem.FlipBit(name, int64(len(body)/2))
	if err := s.q.Send(t.Context(), p.ID); err == nil {
		t.Error("it was sent")
	}
	s.want(Ready)
	if _, err := s.q.Bucket.Head(t.Context(), layout.PackKey(p.ID)); err == nil {
		t.Error("the bucket took it")
	}
	if err := s.q.Clean(); err != nil {
		t.Fatal(err)
	}
	s.want()
}

// A disk that cannot be read is no reason to throw packs away.
func TestAnUnreadablePackStays(t *testing.T) {
	s := newSite(t)
	p, _ := s.push("one")
	broken := errors.New("input/output error")
	s.q.FS = unreadable{s.mem, s.q.name(p.ID, packExt), broken}
	if err := s.q.Clean(); !errors.Is(err, broken) {
		t.Errorf("clean: %v", err)
	}
	s.q.FS = s.mem
	s.want(Ready)
}

type unreadable struct {
	disk.FS
	name string
	err  error
}

func (u unreadable) OpenFile(name string, flag int, perm fs.FileMode) (disk.File, error) {
	f, err := u.FS.OpenFile(name, flag, perm)
	if err == nil && name == u.name {
		return unreadableFile{f, u.err}, nil
	}
	return f, err
}

type unreadableFile struct {
	disk.File
	err error
}

func (f unreadableFile) ReadAt([]byte, int64) (int, error) { return 0, f.err }
