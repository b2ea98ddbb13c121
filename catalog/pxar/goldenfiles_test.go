package pxar

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// A goldenEntry is a line of the dump of an archive that an independent reader
// made. Its strings hold one code point per byte.
type goldenEntry struct {
	Item    string
	Path    string
	Kind    string
	At      int64
	EntryAt int64 `json:"entry_at"`
	Entries int   // of a goodbye table

	Mode, Flags     string
	UID, GID        uint32
	Mtime           [2]int64
	Size            int64
	SHA256          string
	Target, Text    string
	TargetAt        int64 `json:"target_at"`
	Device          [2]uint64
	Xattr           []struct{ Name, Value string }
	ACLUser         []ACLEntry               `json:"acl_user"`
	ACLGroup        []ACLEntry               `json:"acl_group"`
	ACLGroupObj     []struct{ Perm uint64 }  `json:"acl_group_obj"`
	ACLDefault      []map[string]any         `json:"acl_default"`
	ACLDefaultUser  []ACLEntry               `json:"acl_default_user"`
	ACLDefaultGroup []ACLEntry               `json:"acl_default_group"`
	FCaps           []struct{ Hex string }   `json:"fcaps"`
	QuotaProjID     []struct{ Value uint64 } `json:"quota_projid"`
}

// latin1 turns the code points of s back into bytes.
func latin1(s string) string {
	var b []byte
	for _, r := range s {
		b = append(b, byte(r))
	}
	return string(b)
}

var goldenKinds = map[string]Kind{"dir": Dir, "file": File, "symlink": Symlink, "hardlink": Hardlink,
	"block": BlockDevice, "char": CharDevice, "fifo": Fifo, "socket": Socket}

// entry turns a line of the dump into what a decoder should return.
func (g *goldenEntry) entry(t *testing.T) Entry {
	t.Helper()
	path := latin1(strings.TrimPrefix(g.Path, "/"))
	e := Entry{Name: path[strings.LastIndexByte(path, '/')+1:], Position: Position(g.At)}
	if path != "" {
		e.Depth = strings.Count(path, "/") + 1
	} else {
		e.Position = 0
	}
	if g.Item == "GOODBYE" {
		e.Kind = DirEnd
		return e
	}
	e.Kind, e.Target = goldenKinds[g.Kind], latin1(g.Target)
	if e.Kind == Hardlink {
		e.Link = Position(g.TargetAt)
		return e
	}
	e.Size, e.Device = g.Size, Device{g.Device[0], g.Device[1]}
	e.Metadata = g.metadata(t)
	return e
}

func (g *goldenEntry) metadata(t *testing.T) Metadata {
	t.Helper()
	mode, err := strconv.ParseUint(g.Mode, 8, 32)
	flags, err2 := strconv.ParseUint(g.Flags, 0, 64)
	if err := errors.Join(err, err2); err != nil {
		t.Fatal(err)
	}
	m := Metadata{Mode: uint32(mode), Flags: flags, UID: g.UID, GID: g.GID, Mtime: Timespec{g.Mtime[0], uint32(g.Mtime[1])}}
	for _, x := range g.Xattr {
		m.Xattrs = append(m.Xattrs, Xattr{Name: latin1(x.Name), Value: []byte(latin1(x.Value))})
	}
	for _, c := range g.FCaps {
		m.FCaps, _ = hex.DecodeString(c.Hex)
	}
	for _, p := range g.QuotaProjID {
		m.ProjectID = p.Value
	}
	m.ACL = ACL{Users: g.ACLUser, Groups: g.ACLGroup, DefaultUsers: g.ACLDefaultUser, DefaultGroups: g.ACLDefaultGroup}
	for _, o := range g.ACLGroupObj {
		m.ACL.GroupObj = &o.Perm
	}
	for _, d := range g.ACLDefault {
		perm := func(key string) uint64 {
			if v, ok := d[key].(float64); ok {
				return uint64(v)
			}
			return NoPerm
		}
		m.ACL.Default = &ACLDefault{perm("user_obj"), perm("group_obj"), perm("other"), perm("mask")}
	}
	return m
}

// goldenTree reads a dump. The version item and the prelude come separately.
func goldenTree(t *testing.T, file string) (all []goldenEntry, prelude string) {
	t.Helper()
	data := readFile(t, file)
	dirs := map[string]int64{}
	for line := range bytes.Lines(data) {
		var g goldenEntry
		if err := json.Unmarshal(line, &g); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		switch g.Item {
		case "GOODBYE": // the dump says where the table is, a decoder whose it is
			g.At = dirs[g.Path]
			all = append(all, g)
		case "PRELUDE":
			prelude = latin1(g.Text)
		case "FORMAT_VERSION":
		default:
			dirs[g.Path] = g.At
			all = append(all, g)
		}
	}
	return all, prelude
}

func readFile(t testing.TB, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// A golden is an archive of the official encoder.
type golden struct {
	name    string
	meta    []byte
	payload []byte // of split archives
	tree    []goldenEntry
	prelude string
}

func goldens(t *testing.T) (all []golden) {
	t.Helper()
	for _, pattern := range []string{"testdata/v1/*.pxar", "testdata/v2/*.mpxar"} {
		files, err := filepath.Glob(pattern)
		if err != nil || len(files) == 0 {
			t.Fatalf("no golden files %s: %v", pattern, err)
		}
		for _, file := range files {
			base := strings.TrimSuffix(file, filepath.Ext(file))
			g := golden{name: base, meta: readFile(t, file)}
			g.tree, g.prelude = goldenTree(t, base+".tree.jsonl")
			if filepath.Ext(file) == ".mpxar" {
				g.payload = readFile(t, base+".ppxar")
			}
			all = append(all, g)
		}
	}
	return all
}

// decoder returns a decoder that can seek, or one that must read everything.
func (g *golden) decoder(seek bool) *Decoder {
	var meta, payload io.Reader = bytes.NewReader(g.meta), nil
	if g.payload != nil {
		payload = bytes.NewReader(g.payload)
	}
	if !seek {
		meta = bufio.NewReader(meta)
		if payload != nil {
			payload = bufio.NewReader(payload)
		}
	}
	if payload == nil {
		return NewDecoder(meta)
	}
	return NewSplitDecoder(meta, payload)
}

func (g *golden) archive(t *testing.T) *Archive {
	t.Helper()
	var opts Options
	if g.payload != nil {
		opts = Options{Payload: bytes.NewReader(g.payload), PayloadSize: int64(len(g.payload))}
	}
	a, err := OpenArchive(bytes.NewReader(g.meta), int64(len(g.meta)), opts)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// public returns e without what only this package sees.
func public(e *Entry) Entry {
	c := *e
	c.parent, c.content = nil, content{}
	return c
}

func sum(t *testing.T, r io.Reader) string {
	t.Helper()
	h := sha256.New()
	if _, err := io.Copy(h, r); err != nil {
		t.Fatal(err)
	}
	return hex.EncodeToString(h.Sum(nil))
}
