package queue

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/holdfast-mesh/holdfast/chunks"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/bucket"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/cloudtest"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/layout"
	"github.com/holdfast-mesh/holdfast/chunks/disk"
	"github.com/holdfast-mesh/holdfast/chunks/disk/disktest"
	"github.com/holdfast-mesh/holdfast/chunks/pack/format"
)

// A site is a queue in memory in front of a real server.
type site struct {
	t     *testing.T
	proxy *cloudtest.Proxy
	mem   *disktest.Mem
	q     *Queue
}

func newSite(t *testing.T) *site {
	t.Helper()
	p := cloudtest.Front(t, cloudtest.Start(t))
	s := &site{t: t, proxy: p, q: &Queue{Bucket: cloudtest.Open(t, p.URL)}}
	return s.fresh()
}

// write writes a pack of one chunk, and returns its ID and its bytes.
func (s *site) write(text string) (layout.Pack, []byte) {
	s.t.Helper()
	f, err := s.q.Create()
	if err != nil {
		s.t.Fatal(err)
	}
	w, err := layout.NewPackWriter(f, format.ID{1}, 1, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	blob, err := chunks.Encode(nil, []byte(text), chunks.EncodeOptions{})
	if err == nil {
		err = w.Add(chunks.Sum([]byte(text)), blob)
	}
	if err != nil {
		s.t.Fatal(err)
	}
	p, err := w.Close()
	if err != nil {
		s.t.Fatal(err)
	}
	body := make([]byte, p.Size)
	if _, err := f.ReadAt(body, 0); err != nil {
		s.t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		s.t.Fatal(err)
	}
	return p, body
}

func (s *site) push(text string) (layout.Pack, []byte) {
	s.t.Helper()
	p, body := s.write(text)
	if err := s.q.Push(p); err != nil {
		s.t.Fatal(err)
	}
	return p, body
}

// want compares the queue with what is written: a state for each ID.
func (s *site) want(states ...string) {
	s.t.Helper()
	waiting, err := s.q.Waiting()
	if err != nil {
		s.t.Fatal(err)
	}
	var got []string
	for _, ext := range waiting {
		got = append(got, ext)
	}
	if len(got) != len(states) || strings.Join(got, "") != strings.Join(states, "") {
		s.t.Errorf("the queue has %q, want %q", got, states)
	}
}

func (s *site) stored(p layout.Pack, body []byte) {
	s.t.Helper()
	got, _, err := s.q.Bucket.Get(s.t.Context(), layout.PackKey(p.ID), 1<<20)
	if err != nil || !bytes.Equal(got, body) {
		s.t.Errorf("the bucket has %d bytes of pack %s, want %d: %v", len(got), p.ID, len(body), err)
	}
}

// A pack goes from ready to done with the confirmation, and out of the queue
// when a root names it.
func TestAPackGoesThrough(t *testing.T) {
	s := newSite(t)
	p, body := s.push("one")
	s.want(Ready)
	if rows, err := s.q.Rows(p.ID, Ready); err != nil || len(rows.Rows) != 1 || rows.Rows[0].Digest != p.Rows[0].Digest {
		t.Errorf("rows: %+v, %v", rows, err)
	}
	if err := s.q.SendAll(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.want(Done)
	s.stored(p, body)
	if err := s.q.Clean(); err != nil { // a restart keeps what no root names yet
		t.Fatal(err)
	}
	s.want(Done)
	if err := s.q.Finish(p.ID); err != nil {
		t.Fatal(err)
	}
	s.want()
	if files, err := s.mem.ReadDir("/upload"); err != nil || len(files) != 0 {
		t.Errorf("%d files are left, %v", len(files), err)
	}
}

// Whatever comes back for the upload, the pack stays in the queue until the
// bucket has it, and the next try brings it there.
func TestAFailedUploadIsKept(t *testing.T) {
	put := func(f cloudtest.Fault) func(cloudtest.Request) *cloudtest.Fault {
		return func(r cloudtest.Request) *cloudtest.Fault {
			if r.Class != "put" {
				return nil
			}
			return &f
		}
	}
	server := newSite(t)
	for name, f := range map[string]cloudtest.Fault{
		"refused": {Status: http.StatusForbidden, Code: "AccessDenied"}, "cut": {Reset: true}, "broken": {Status: http.StatusInternalServerError, Code: "InternalError"},
		"stored, and the reply lost": {After: true, Reset: true}, "stored, and an error": {After: true, Status: http.StatusInternalServerError, Code: "InternalError"},
		"full": {Status: http.StatusInsufficientStorage},
	} {
		t.Run(name, func(t *testing.T) {
			s := server.fresh()
			p, body := s.push("one")
			s.proxy.On(put(f))
			err := s.q.Send(t.Context(), p.ID)
			if !f.After && err == nil {
				t.Error("it was sent")
			}
			if err != nil {
				s.want(Ready)
			}
			s.proxy.On(nil)
			if err := errors.Join(s.q.Clean(), s.q.SendAll(t.Context())); err != nil {
				t.Fatal(err)
			}
			s.want(Done)
			s.stored(p, body)
		})
	}
}

// What lies under the name of a pack and has another length is not taken for it.
func TestSomebodyElsesObjectIsNotOurs(t *testing.T) {
	s := newSite(t)
	p, _ := s.push("one")
	if _, err := s.q.Bucket.PutBytes(t.Context(), layout.PackKey(p.ID), []byte("else"), bucket.PutOption{}); err != nil {
		t.Fatal(err)
	}
	if err := s.q.Send(t.Context(), p.ID); err == nil || !strings.Contains(err.Error(), "bytes in") {
		t.Errorf("send: %v", err)
	}
	s.want(Ready)
}

// After a power cut at any step, a pack is in the queue whole, or not at all;
// what is half written goes, and nothing that the bucket has is forgotten.
func TestAPowerCutLeavesAWholeQueue(t *testing.T) {
	server := newSite(t)
	for step := 1; ; step++ {
		s := server.fresh()
		first, body := s.push("first")
		if err := s.q.SendAll(t.Context()); err != nil {
			t.Fatal(err)
		}
		s.mem.FailAt(s.mem.Ops()+step, disktest.ErrCrashed)
		cut := s.try("second")
		for seed := range uint64(3) {
			s.q.FS = s.mem.Crash(seed)
			if err := s.q.Clean(); err != nil {
				t.Fatalf("step %d: %v", step, err)
			}
			waiting, err := s.q.Waiting()
			if err != nil || waiting[first.ID] != Done {
				t.Fatalf("step %d: the first pack is %q, %v", step, waiting[first.ID], err)
			}
			for id, ext := range waiting {
				if _, err := s.q.Rows(id, ext); err != nil {
					t.Errorf("step %d: %v", step, err)
				}
			}
			if err := s.q.SendAll(t.Context()); err != nil {
				t.Errorf("step %d: %v", step, err)
			}
		}
		s.stored(first, body)
		if cut == nil {
			if step < 8 {
				t.Errorf("a pack goes through in %d steps: the test saw too few", step)
			}
			return
		}
	}
}

// fresh is the same server with another disk.
func (s *site) fresh() *site {
	s.t.Helper()
	mem := disktest.NewMem()
	if err := disk.MkdirAll(mem, "/upload", 0o750); err != nil {
		s.t.Fatal(err)
	}
	return &site{s.t, s.proxy, mem, &Queue{Bucket: s.q.Bucket, FS: mem, Dir: "/upload", Parallel: 2}}
}

// try writes, pushes and sends a pack on a disk that may fail.
func (s *site) try(text string) (err error) {
	f, err := s.q.Create()
	if err != nil {
		return err
	}
	defer f.Close()
	w, err := layout.NewPackWriter(f, format.ID{1}, 1, nil)
	if err != nil {
		return err
	}
	blob, err := chunks.Encode(nil, []byte(text), chunks.EncodeOptions{})
	if err != nil {
		return err
	}
	if err := w.Add(chunks.Sum([]byte(text)), blob); err != nil {
		return err
	}
	p, err := w.Close()
	if err != nil {
		return err
	}
	if err := s.q.Push(p); err != nil {
		return err
	}
	if err := s.q.Send(s.t.Context(), p.ID); err != nil {
		return fmt.Errorf("send: %w", err)
	}
	return nil
}

// Rows whose pack is gone do not stop the queue for ever.
func TestRowsWithoutAPackGo(t *testing.T) {
	s := newSite(t)
	p, _ := s.push("one")
	if err := s.mem.Remove(s.q.name(p.ID, packExt)); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(s.q.Clean(), s.q.SendAll(t.Context())); err != nil {
		t.Error(err)
	}
	s.want()
}
