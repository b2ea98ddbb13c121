package node

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/fxamacker/cbor/v2"
	"github.com/hashicorp/raft"

	"github.com/holdfast-mesh/holdfast/access"
	"github.com/holdfast-mesh/holdfast/consensus"
	"github.com/holdfast-mesh/holdfast/consensus/canon"
	"github.com/holdfast-mesh/holdfast/consensus/feature"
	"github.com/holdfast-mesh/holdfast/consensus/raftlog"
	"github.com/holdfast-mesh/holdfast/node/admin"
	"github.com/holdfast-mesh/holdfast/node/overview"
	"github.com/holdfast-mesh/holdfast/pbs/settings"
)

// A node that is given an older program after the feature level has risen says so
// wherever it is asked, and touches nothing: with the newer one all is there. (It showed
// an empty cluster that it had "not heard from yet", in which backups "go on".)
func TestOutdated(t *testing.T) {
	c := initialised(t)
	during(t, c, func(n *Node) {
		if err := errors.Join(
			n.access.AddUser(t.Context(), access.User{ID: "a@pbs"}, ""),
			n.settings.Update(t.Context(), func(s *settings.State) error {
				s.Datastores = append(s.Datastores, settings.Datastore{Name: "main", Path: filepath.Join(c.Dir, "main")})
				return nil
			}),
		); err != nil {
			t.Fatal(err)
		}
	})
	raftDir := filepath.Join(c.at(clusterDir), "raft")
	kept := filepath.Join(t.TempDir(), "raft")
	if err := os.CopyFS(kept, os.DirFS(raftDir)); err != nil {
		t.Fatal(err)
	}
	writtenLater(t, raftDir)

	// What the log still has of before is gone on with.
	during(t, c, func(n *Node) {
		s := stopped(t, n)
		if s.Idle || len(n.access.State().Users) != 2 || len(n.settings.State().Datastores) != 1 || n.ready() != nil && !strings.Contains(n.ready().Error(), "not open") {
			t.Errorf("%+v; it knows %+v, %+v", s, n.access.State().Users, n.settings.State().Datastores)
		}
		if err := n.access.AddUser(t.Context(), access.User{ID: "b@pbs"}, ""); !errors.Is(err, consensus.ErrNeedsUpgrade) || len(n.cluster.Drafts().List()) > 0 {
			t.Errorf("a change: %v", err)
		}
	})

	// If it has nothing, nothing is served, and nobody is told to set anything up.
	if err := os.Remove(filepath.Join(raftDir, "log.db")); err != nil {
		t.Fatal(err)
	}
	during(t, c, func(n *Node) {
		if s := stopped(t, n); !s.Idle || n.ready() == nil {
			t.Errorf("%+v, ready: %v", s, n.ready())
		}
		local := admin.NewClient(c.Dir)
		defer local.Close()
		for method, path := range map[string]string{http.MethodGet: "/admin/datastore", http.MethodPost: "/access/users"} {
			_, err := local.Call(t.Context(), method, path, nil)
			var no *admin.Refusal
			if !errors.As(err, &no) || no.Status != http.StatusServiceUnavailable || !strings.Contains(no.Text, "older version") || !strings.Contains(no.Cure, "upgrade") {
				t.Errorf("%s: %v", path, err)
			}
		}
		tr := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}
		defer tr.CloseIdleConnections()
		login, err := (&http.Client{Transport: tr}).PostForm("https://"+n.Address().String()+"/api2/json/access/ticket", url.Values{"username": {"a@pbs"}, "password": {"x"}})
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(login.Body)
		if err := errors.Join(err, login.Body.Close()); err != nil || login.StatusCode != http.StatusServiceUnavailable || !strings.Contains(string(text), "older version") {
			t.Errorf("a login is answered %d %s, %v", login.StatusCode, text, err)
		}
	})
	if orphans, _ := filepath.Glob(filepath.Join(c.at(clusterDir), "raft.orphan*")); len(orphans) > 0 {
		t.Errorf("it has put away %s", orphans)
	}

	// The newer program is back.
	if err := errors.Join(os.RemoveAll(raftDir), os.CopyFS(raftDir, os.DirFS(kept))); err != nil {
		t.Fatal(err)
	}
	during(t, c, func(n *Node) {
		if len(n.access.State().Users) != 2 || len(n.settings.State().Datastores) != 1 || n.outdated() != nil {
			t.Errorf("it knows %+v, %+v", n.access.State().Users, n.settings.State().Datastores)
		}
	})
}

// stopped waits until the status of a node says that it is outdated.
func stopped(t *testing.T, n *Node) overview.Status {
	t.Helper()
	for began := time.Now(); n.outdated() == nil; time.Sleep(10 * time.Millisecond) {
		if time.Since(began) > 20*time.Second {
			t.Fatalf("its ledger is that of a later version, and it says %v", n.cluster.Group().Status().Stopped)
		}
	}
	local := admin.NewClient(n.cfg.Dir)
	defer local.Close()
	var s overview.Status
	r, err := local.Call(t.Context(), http.MethodGet, "/holdfast/status", nil)
	if err == nil {
		err = json.Unmarshal(r.Data, &s)
	}
	if err != nil {
		t.Fatal(err)
	}
	if s.Quorum || !strings.Contains(s.Why, "an older version of Holdfast than its ledger") || !strings.Contains(s.Why, "nothing is lost") {
		t.Errorf("status: %+v", s)
	}
	return s
}

// during runs a node for as long as f takes.
func during(t *testing.T, c Config, f func(n *Node)) {
	t.Helper()
	n, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- n.Run(ctx) }()
	defer func() {
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}()
	f(n)
}

// writtenLater makes all snapshots of a ledger such as a program writes that knows one
// feature level more, and has one more field in the record of it: behind an entry with
// the new level, so that what an older one reads of the log ends before.
func writtenLater(t *testing.T, dir string) {
	t.Helper()
	open := func() *raft.FileSnapshotStore {
		s, err := raft.NewFileSnapshotStoreWithLogger(dir, 2, raftlog.New(slog.New(slog.DiscardHandler)))
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	snaps := open()
	all, err := snaps.List()
	if err != nil || len(all) == 0 {
		t.Fatalf("%d snapshots, %v", len(all), err)
	}
	texts := map[string][]byte{}
	for _, m := range all {
		_, r, err := snaps.Open(m.ID)
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(r)
		if err := errors.Join(err, r.Close()); err != nil {
			t.Fatal(err)
		}
		texts[m.ID] = later(t, b)
	}
	if err := os.RemoveAll(filepath.Join(dir, "snapshots")); err != nil {
		t.Fatal(err)
	}
	for snaps = open(); len(all) > 0; all = all[:len(all)-1] { // the oldest is the last
		m := all[len(all)-1]
		sink, err := snaps.Create(raft.SnapshotVersionMax, m.Index+100, m.Term, m.Configuration, m.ConfigurationIndex, encoder{})
		if err == nil {
			_, err = sink.Write(texts[m.ID])
		}
		if err := errors.Join(err, sink.Close()); err != nil {
			t.Fatal(err)
		}
	}
}

// encoder is as much of a transport as a snapshot needs.
type encoder struct{ raft.Transport }

func (encoder) EncodePeer(_ raft.ServerID, a raft.ServerAddress) []byte { return []byte(a) }

// later raises the feature level of a snapshot, see package ledger for its form.
func later(t *testing.T, b []byte) []byte {
	t.Helper()
	out := append([]byte(nil), b[:4]...)
	for b = b[4 : len(b)-32]; len(b) > 0; {
		at := 1
		var parts [2][]byte
		for i := range parts {
			n := int(binary.BigEndian.Uint32(b[at:]))
			parts[i] = b[at+4 : at+4+n]
			at += 4 + n
		}
		if b[0] == 0 && string(parts[0]) == "meta" {
			meta := map[uint64]any{}
			if err := cbor.Unmarshal(parts[1], &meta); err != nil {
				t.Fatal(err)
			}
			meta[3], meta[99] = uint64(feature.Level+1), "what is new"
			parts[1] = canon.Encode(meta)
		}
		out = append(out, b[0])
		for _, p := range parts {
			out = append(binary.BigEndian.AppendUint32(out, uint32(len(p))), p...)
		}
		b = b[at:]
	}
	sum := canon.Sum(out)
	return append(out, sum[:]...)
}
