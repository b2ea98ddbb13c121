package wire

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"io"
	"net"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-mesh/holdfast/catalog/naming"
	"github.com/holdfast-mesh/holdfast/chunks"
	"github.com/holdfast-mesh/holdfast/replication/plan"
)

// The peer protocol is read-only by construction: each route is here with what
// it calls, and nothing that a server works on has a method that changes it.
func TestNothingWrites(t *testing.T) {
	s := &Server{}
	var got []string
	for _, r := range s.routes() {
		got = append(got, r.pattern)
	}
	want := "GET /v1/ping, GET /v1/stores, GET /v1/catalog, POST /v1/files, POST /v1/have, GET /v1/chunks"
	if strings.Join(got, ", ") != want {
		t.Errorf("routes are %q; show of a new one that it changes nothing, then add it here", got)
	}
	reads := "Namespaces List Owner Files Manifest ReadBlob ReadIndex Get GetMany Known Missing LocateMany Generation String"
	for _, typ := range []reflect.Type{reflect.TypeFor[Store](), reflect.TypeFor[Chunks]()} {
		for i := range typ.NumMethod() {
			if name := typ.Method(i).Name; !strings.Contains(" "+reads+" ", " "+name+" ") {
				t.Errorf("%s has a method %s, of which nobody has said that it only reads", typ, name)
			}
		}
	}
}

func sample() plan.Side {
	return plan.Side{Namespaces: []naming.Namespace{"", "a", "a/b"}, Groups: []plan.Group{{
		Namespace: "a", Group: naming.Group{Type: naming.VM, ID: "100"}, Owner: "root@pam",
		Snapshots: []plan.Snapshot{
			{Time: 200, Size: 1 << 40, Verified: "ok", Encrypted: true, Manifest: [16]byte{1, 2, 3}},
			{Time: 100, Size: 5, Verified: "failed", Protected: true},
		},
	}}}
}

func TestCatalogueCrossesTheWire(t *testing.T) {
	b, err := encodeSide(sample())
	if err != nil {
		t.Fatal(err)
	}
	got, err := decodeSide(b)
	if err != nil || !reflect.DeepEqual(got, sample()) {
		t.Errorf("%+v came back as %+v, %v", sample(), got, err)
	}
}

// Ten thousand snapshots are well below a mebibyte.
func TestCatalogueIsSmall(t *testing.T) {
	var side plan.Side
	for g := range 1000 {
		group := plan.Group{Group: naming.Group{Type: naming.VM, ID: string(rune('a'+g%26)) + strings.Repeat("x", g%7)}, Owner: "root@pam"}
		for s := range 10 {
			snap := plan.Snapshot{Time: int64(1_700_000_000 + 86_400*s + g*g%3600), Size: uint64(g*g*s) << 20, Verified: "ok"}
			if s == 9 {
				binary.LittleEndian.PutUint64(snap.Manifest[:], uint64(g)*0x9e3779b97f4a7c15)
				binary.LittleEndian.PutUint64(snap.Manifest[8:], uint64(g)*0xc2b2ae3d27d4eb4f)
			}
			group.Snapshots = append(group.Snapshots, snap)
		}
		side.Groups = append(side.Groups, group)
	}
	b, err := encodeSide(side)
	if err != nil || len(b) > 512<<10 {
		t.Errorf("catalogue has %d bytes, %v", len(b), err)
	}
}

func FuzzCatalogue(f *testing.F) {
	b, err := encodeSide(sample())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add([]byte("{}"))
	f.Fuzz(func(t *testing.T, b []byte) {
		side, err := decodeSide(b)
		if err != nil {
			return
		}
		for _, g := range side.Groups {
			for _, s := range g.Snapshots {
				if err := naming.CheckTime(s.Time); err != nil {
					t.Error(err)
				}
			}
		}
	})
}

func FuzzFiles(f *testing.F) {
	f.Add([]byte("\x01\x00\x00\x00\x06\x00a.blob\x03\x00\x00\x00\x00\x00\x00\x00xyz"))
	f.Add([]byte("\x00\x00\x00\x00"))
	f.Fuzz(func(t *testing.T, b []byte) {
		list, err := parseFiles(bytes.NewReader(b))
		if err != nil {
			return
		}
		n := 4
		for _, file := range list {
			if err := naming.CheckArchive(file.Name); err != nil {
				t.Error(err)
			}
			n += 10 + len(file.Name) + len(file.Data)
		}
		if n > len(b) {
			t.Errorf("%d bytes of files came out of %d", n, len(b))
		}
	})
}

func FuzzQuestion(f *testing.F) {
	f.Add(appendDigests(nil, []chunks.Digest{{1}, {2}}))
	f.Fuzz(func(t *testing.T, b []byte) {
		ds, err := readDigests(bytes.NewReader(b), maxAsk)
		if err == nil && (len(ds) > maxAsk || len(ds)*chunks.DigestSize > len(b)) {
			t.Errorf("%d digests came out of %d bytes", len(ds), len(b))
		}
	})
}

// silent is a connection that has said all it will.
type silent struct{ net.Conn }

func FuzzAnswers(f *testing.F) {
	f.Add(append(appendAnswer(nil, chunks.Digest{1}, 3, stateHeld), "abc"...))
	f.Add(appendAnswer(nil, chunks.Digest{1}, 0, stateMissing))
	f.Add(append(appendAnswer(nil, chunks.Digest{1}, 3, stateFailed), "bad"...))
	here, there := net.Pipe()
	f.Cleanup(func() { here.Close(); there.Close() })
	f.Fuzz(func(t *testing.T, b []byte) {
		s := &stream{conn: silent{here}, in: bufio.NewReader(bytes.NewReader(b)), flow: &flow{now: time.Now}}
		got := 0
		for {
			a, err := s.Next(func(n int) ([]byte, error) {
				if n > chunks.MaxBlob {
					t.Errorf("memory for %d bytes was asked for", n)
				}
				if n > len(b) {
					return nil, io.ErrShortBuffer
				}
				return make([]byte, n), nil
			})
			if err != nil {
				break
			}
			got += answerSize + len(a.Blob)
		}
		if got > len(b) {
			t.Errorf("%d bytes came out of %d", got, len(b))
		}
	})
}
