package wire

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"slices"

	"github.com/klauspost/compress/zstd"

	"github.com/holdfast-mesh/holdfast/catalog"
	"github.com/holdfast-mesh/holdfast/catalog/manifest"
	"github.com/holdfast-mesh/holdfast/catalog/naming"
	"github.com/holdfast-mesh/holdfast/replication/plan"
	"github.com/holdfast-mesh/holdfast/replication/vouch"
)

// listing is a catalogue on the wire: JSON, zstd. Ten thousand snapshots are
// some hundred kilobytes.
type listing struct {
	Namespaces []naming.Namespace `json:"ns"`
	Groups     []listedGroup      `json:"groups"`
}

type listedGroup struct {
	Namespace naming.Namespace `json:"n,omitempty"`
	Group     naming.Group     `json:"g"`
	Owner     string           `json:"o,omitempty"`
	Snapshots []listed         `json:"s"`
	Newest    string           `json:"m,omitempty"` // Sum of the newest one's manifest, in hex
}

// listed is a snapshot: time, size, flags.
type listed [3]uint64

// Flags of a listed snapshot.
const (
	flagVerified = 1 << iota
	flagFailed
	flagEncrypted
	flagProtected
)

// Side lists what a store holds below a namespace, as a plan wants it. may
// says which namespaces count.
func Side(ctx context.Context, s Store, under naming.Namespace, depth int, may func(naming.Namespace) bool) (plan.Side, error) {
	var side plan.Side
	all, err := s.Namespaces(ctx, under, depth)
	if err != nil {
		return side, err
	}
	for _, ns := range all {
		if may(ns) {
			side.Namespaces = append(side.Namespaces, ns)
		}
	}
	infos, err := s.List(ctx, catalog.ListOptions{Namespace: under, Depth: depth})
	if err != nil {
		return side, err
	}
	var last *plan.Group
	for _, i := range infos { // by namespace, group and time
		g := i.Snapshot().Group
		if !may(i.Namespace) {
			continue
		}
		if last == nil || last.Namespace != i.Namespace || last.Group != g {
			side.Groups = append(side.Groups, plan.Group{Namespace: i.Namespace, Group: g, Owner: i.Owner})
			last = &side.Groups[len(side.Groups)-1]
		}
		if i.Finished() {
			last.Snapshots = append(last.Snapshots, described(i))
		}
	}
	for i := range side.Groups {
		sumNewest(s, &side.Groups[i])
	}
	return side, ctx.Err()
}

func described(i catalog.Info) plan.Snapshot {
	s := plan.Snapshot{Time: i.Time, Size: *i.Size, Protected: i.Protected, Encrypted: encrypted(i.Files)}
	if i.Verification != nil {
		s.Verified = i.Verification.State
	}
	return s
}

// encrypted reports whether all files are encrypted, but the manifest, which
// never is.
func encrypted(files []catalog.File) bool {
	some := false
	for _, f := range files {
		if f.Name == manifest.Name || f.Name == manifest.LogName || vouch.Is(f.Name) {
			continue
		}
		if f.CryptMode != manifest.Encrypt {
			return false
		}
		some = true
	}
	return some
}

// sumNewest notes the sum of the newest manifest of a group. One that cannot be
// read has none, and will be fetched.
func sumNewest(s Store, g *plan.Group) {
	if len(g.Snapshots) == 0 {
		return
	}
	newest := &g.Snapshots[0]
	for i := range g.Snapshots {
		if g.Snapshots[i].Time > newest.Time {
			newest = &g.Snapshots[i]
		}
	}
	if m, err := s.Manifest(g.Namespace, naming.Snapshot{Group: g.Group, Time: newest.Time}); err == nil {
		newest.Manifest = Sum(m)
	}
}

// encodeSide returns a catalogue as it crosses the wire.
func encodeSide(side plan.Side) ([]byte, error) {
	l := listing{Namespaces: side.Namespaces, Groups: make([]listedGroup, 0, len(side.Groups))}
	for _, g := range side.Groups {
		out := listedGroup{Namespace: g.Namespace, Group: g.Group, Owner: g.Owner, Snapshots: make([]listed, 0, len(g.Snapshots))}
		for _, s := range g.Snapshots {
			out.Snapshots = append(out.Snapshots, listed{uint64(s.Time), s.Size, flags(s)})
			if s.Manifest != [16]byte{} {
				out.Newest = hex.EncodeToString(s.Manifest[:])
			}
		}
		l.Groups = append(l.Groups, out)
	}
	text, err := json.Marshal(l)
	if err != nil {
		return nil, err
	}
	enc, err := zstd.NewWriter(nil)
	if err != nil {
		return nil, err
	}
	defer enc.Close()
	return enc.EncodeAll(text, nil), nil
}

func flags(s plan.Snapshot) (f uint64) {
	for _, x := range []struct {
		on   bool
		flag uint64
	}{{s.Verified == "ok", flagVerified}, {s.Verified == "failed", flagFailed}, {s.Encrypted, flagEncrypted}, {s.Protected, flagProtected}} {
		if x.on {
			f |= x.flag
		}
	}
	return f
}

// decodeSide reads a catalogue of a peer.
func decodeSide(b []byte) (side plan.Side, err error) {
	dec, err := zstd.NewReader(bytes.NewReader(b), zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(maxCatalog))
	if err != nil {
		return side, err
	}
	defer dec.Close()
	text, err := io.ReadAll(io.LimitReader(dec, maxCatalog+1))
	if err != nil {
		return side, fmt.Errorf("%w: %w", errFormat, err)
	}
	if len(text) > maxCatalog {
		return side, fmt.Errorf("%w: the catalogue is longer than %d bytes", errFormat, maxCatalog)
	}
	var l listing
	if err := json.Unmarshal(text, &l); err != nil {
		return side, fmt.Errorf("%w: %w", errFormat, err)
	}
	side.Namespaces = l.Namespaces
	for _, g := range l.Groups {
		out, err := g.decode()
		if err != nil {
			return side, err
		}
		side.Groups = append(side.Groups, out)
	}
	return side, nil
}

func (g listedGroup) decode() (plan.Group, error) {
	out := plan.Group{Namespace: g.Namespace, Group: g.Group, Owner: g.Owner}
	newest := int64(0)
	for _, s := range g.Snapshots {
		at := int64(s[0])
		if err := naming.CheckTime(at); err != nil {
			return out, fmt.Errorf("%w: %w", errFormat, err)
		}
		newest = max(newest, at)
		p := plan.Snapshot{Time: at, Size: s[1], Encrypted: s[2]&flagEncrypted != 0, Protected: s[2]&flagProtected != 0}
		switch {
		case s[2]&flagVerified != 0:
			p.Verified = "ok"
		case s[2]&flagFailed != 0:
			p.Verified = "failed"
		}
		out.Snapshots = append(out.Snapshots, p)
	}
	if b, err := hex.DecodeString(g.Newest); err == nil && len(b) == 16 {
		i := slices.IndexFunc(out.Snapshots, func(s plan.Snapshot) bool { return s.Time == newest })
		if i >= 0 {
			copy(out.Snapshots[i].Manifest[:], b)
		}
	}
	return out, nil
}
