package backup_test

import (
	"fmt"
	"io"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/holdfast-mesh/holdfast/pbs/pbstest"
)

// Clients that announce the longest chunks, side by side, and send a byte of
// each, take next to no memory, and nobody else notices them.
func TestWhatIsAnnouncedCostsNothing(t *testing.T) {
	const hostile, streams = 6, 32
	s := newSite(t)
	s.backUp("host/before", 1_700_000_000) // what all sessions share is there
	used := func() int64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	before := used()
	held, ended := make(chan struct{}), sync.WaitGroup{}
	clients := []*pbstest.Client{}
	for i := range hostile {
		c := s.connect(fmt.Sprint("host/hostile", i), 1_700_000_000, "")
		clients = append(clients, c)
		s.ok(c, "POST /dynamic_index?archive-name=root.pxar.didx")
		for range streams {
			body, send := io.Pipe()
			ended.Go(func() {
				defer send.Close()
				if _, err := send.Write([]byte("x")); err == nil {
					<-held
				}
			})
			ended.Go(func() {
				_, _ = c.Stream("POST", expand("/dynamic_chunk?digest={M}&size={M.n}&encoded-size={M.e}&wid=1"), "application/octet-stream", body)
				body.Close()
			})
		}
	}
	most := int64(0)
	for i := range 5 {
		s.honest(fmt.Sprint("host/honest", i))
		most = max(most, used()-before)
		time.Sleep(50 * time.Millisecond) // for the hostile ones, who have all the time
	}
	// 48 MiB are the server's; the clients, in the same process, have the rest.
	// Were all of it reserved that is announced, it would be 3 GiB.
	if most > 400<<20 {
		t.Errorf("%d streams that sent a byte each take %d MiB", hostile*streams, most>>20)
	}
	close(held)
	for _, c := range clients {
		c.Close()
	}
	ended.Wait()
}

// honest makes a backup while others are there.
func (s *site) honest(group string) {
	s.t.Helper()
	c := s.connect(group, 1_700_000_000, "")
	s.ok(c, "POST /dynamic_index?archive-name=root.pxar.didx", "dynamic 1 A", "dynamic 1 B", "dynamic 1 M",
		`PUT /dynamic_index {"wid":1,"digest-list":["{A}","{B}"],"offset-list":[0,100]}`,
		"POST /dynamic_close?wid=1&chunk-count=2&size=300&csum={@dyn AB}")
	s.finish(c, snapshot(group, 1_700_000_000), archive("root.pxar.didx", "AB"))
}
