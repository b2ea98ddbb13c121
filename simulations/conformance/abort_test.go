package conformance

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-mesh/holdfast/catalog"
	"github.com/holdfast-mesh/holdfast/catalog/naming"
	"github.com/holdfast-mesh/holdfast/catalog/verify"
	"github.com/holdfast-mesh/holdfast/chunks"
	"github.com/holdfast-mesh/holdfast/chunks/gc"
	"github.com/holdfast-mesh/holdfast/jobs"
	"github.com/holdfast-mesh/holdfast/pbs/pbstest"
)

// script is a backup with an archive and a small file, request by request.
func (s *site) script(c *pbstest.Client, group, at string, content []byte) []func() string {
	typ, id, _ := strings.Cut(group, "/")
	x := chunks.DynamicBuilder{}
	if err := x.Append(int64(len(content)), chunks.Sum(content)); err != nil {
		s.t.Fatal(err)
	}
	index, err := x.Finish(chunks.NewUUID(), time.Now())
	if err != nil {
		s.t.Fatal(err)
	}
	manifest, err := chunks.Encode(nil, fmt.Appendf(nil,
		`{"backup-type":%q,"backup-id":%q,"backup-time":%s,"files":[{"filename":"root.pxar.didx","crypt-mode":"none","size":%d,"csum":%q}],"unprotected":{}}`,
		typ, id, at, len(content), index.Csum()), chunks.EncodeOptions{})
	if err != nil {
		s.t.Fatal(err)
	}
	line := func(text string) func() string { return func() string { return s.say(c, text) } }
	return []func() string{
		line("GET /previous_backup_time"),
		line("POST /dynamic_index?archive-name=root.pxar.didx"),
		func() string { return s.put(c, "dynamic", "wid=1", content) },
		line(fmt.Sprintf(`PUT /dynamic_index {"wid":1,"digest-list":["%s"],"offset-list":[0]}`, chunks.Sum(content))),
		line(fmt.Sprintf("POST /dynamic_close?wid=1&chunk-count=1&size=%d&csum=%s", len(content), index.Csum())),
		func() string {
			a, err := c.Do("POST", fmt.Sprintf("/blob?file-name=index.json.blob&encoded-size=%d", len(manifest)), "application/octet-stream", manifest)
			return fmt.Sprint(a.Status, " ", string(a.Body), " ", err)
		},
		line("POST /finish"),
	}
}

// A client that goes after any of its requests leaves nothing that anybody can
// see, nothing that is damaged, and nothing in the way of the next backup.
func TestClientGoesAfterEveryRequest(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	for n := range 7 {
		c := s.open(fmt.Sprintf("backup vm/100 %d", 1000+n))
		for _, request := range s.script(c, "vm/100", fmt.Sprint(1000+n), slot(byte(n)))[:n] {
			if got := request(); !strings.HasPrefix(got, "200 ") {
				t.Fatalf("after %d requests: %s", n, got)
			}
		}
		s.end(c)
		if all, err := s.d.List(t.Context(), catalog.ListOptions{}); err != nil || len(all) != 0 {
			t.Errorf("after %d requests there are %v, %v", n, all, err)
		}
	}
	c := s.open("backup vm/100 2000")
	for i, request := range s.script(c, "vm/100", "2000", slot('z')) {
		if got := request(); !strings.HasPrefix(got, "200 ") {
			t.Fatalf("request %d of the last: %s", i, got)
		}
	}
	s.end(c)
	if _, err := s.d.Collect(t.Context(), gc.Options{}); err != nil {
		t.Fatal(err)
	}
	s.verified(1)
}

// verified makes sure that there are n snapshots, all as they were.
func (s *site) verified(n int) {
	s.t.Helper()
	report, err := verify.Run(s.t.Context(), s.d, verify.Options{Depth: -1})
	if err != nil {
		s.t.Fatal(err)
	}
	all, err := s.d.List(s.t.Context(), catalog.ListOptions{})
	if err != nil || len(all) != n || report.OK != n {
		s.t.Errorf("%d snapshots, want %d, %d of them whole, %v", len(all), n, report.OK, err)
	}
}

// Many clients at once, while garbage is collected and snapshots are removed:
// what was finished is there, whole.
func TestManyClientsBesideCollections(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	clients, rounds := 16, 4
	if os.Getenv("HOLDFAST_SOAK") != "" {
		rounds = 2000
	}
	working, done := context.WithCancel(t.Context())
	collected := make(chan error, 1)
	go func() {
		for n := 0; working.Err() == nil; n++ {
			if _, err := s.d.Collect(working, gc.Options{}); err != nil && working.Err() == nil {
				collected <- err
				return
			}
		}
		collected <- nil
	}()
	t.Run("clients", func(t *testing.T) {
		for i := range clients {
			t.Run(fmt.Sprint(i), func(t *testing.T) {
				t.Parallel()
				one := *s
				one.t = t
				one.backUpAndForget(fmt.Sprint("host/c", i), byte(i), rounds)
			})
		}
	})
	done()
	if err := <-collected; err != nil {
		t.Error(err)
	}
	if _, err := s.d.Collect(t.Context(), gc.Options{}); err != nil {
		t.Fatal(err)
	}
	s.verified(2 * clients)
}

// backUpAndForget makes backups, half of whose content others have as well,
// and removes all but the last two.
func (s *site) backUpAndForget(group string, seed byte, rounds int) {
	g, err := naming.ParseGroup(group)
	if err != nil {
		s.t.Fatal(err)
	}
	for n := range rounds {
		c := s.open(fmt.Sprintf("backup %s %d", group, 1000+n))
		for i, request := range s.script(c, group, fmt.Sprint(1000+n), bytes.Repeat([]byte{seed % 8, byte(n)}, 50_000)) {
			if got := request(); !strings.HasPrefix(got, "200 ") {
				s.t.Fatalf("%s, round %d, request %d: %s", group, n, i, got)
			}
		}
		c.Close()
		s.left(group)
		if n < 2 {
			continue
		}
		if err := s.d.Forget(s.t.Context(), "", catalog.Snapshot{Group: g, Time: int64(1000 + n - 2)}); err != nil {
			s.t.Fatal(err)
		}
	}
}

// left waits until no session works on a group.
func (s *site) left(group string) {
	s.t.Helper()
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(time.Millisecond) {
		_, n := s.Tasks.List(jobs.Filter{Running: true, Visible: func(i jobs.Info) bool { return i.UPID.ID == "store1:"+group }})
		if n == 0 {
			return
		}
		if time.Now().After(deadline) {
			s.t.Fatalf("a session on %s does not end", group)
		}
	}
}
