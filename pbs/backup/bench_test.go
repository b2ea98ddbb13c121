package backup_test

import (
	"crypto/rand"
	"fmt"
	"testing"

	"golang.org/x/sync/errgroup"

	"github.com/holdfast-mesh/holdfast/chunks"
	"github.com/holdfast-mesh/holdfast/chunks/disk"
	"github.com/holdfast-mesh/holdfast/pbs/pbstest"
	"github.com/holdfast-mesh/holdfast/pbs/upgrade"
)

// BenchmarkUpload sends chunks of 4 MiB that the store has, 16 at a time, over
// TLS on the loopback: all of the work but the disk's. The client shares the
// processors.
func BenchmarkUpload(b *testing.B) {
	s := pbstest.New(b, pbstest.Open(b, disk.OS{}, b.TempDir()))
	c, a := s.Connect(b, target("vm/1", 1000, ""), upgrade.Backup, owner)
	if c == nil {
		b.Fatalf("%d %s", a.Status, a.Body)
	}
	defer c.Close()
	if _, err := run(c, "POST /dynamic_index?archive-name=a.pxar.didx"); err != nil {
		b.Fatal(err)
	}
	content := make([]byte, chunks.SlotSize)
	rand.Read(content)
	p := newPiece(content, chunks.EncodeOptions{})
	target := fmt.Sprintf("/dynamic_chunk?wid=1&digest=%s&size=%d&encoded-size=%d", p.digest, p.size, len(p.blob))
	b.SetBytes(int64(p.size))
	b.ReportAllocs()
	var g errgroup.Group
	g.SetLimit(16)
	for b.Loop() {
		g.Go(func() error {
			a, err := c.Do("POST", target, "application/octet-stream", p.blob)
			if err == nil && a.Status != 200 {
				err = fmt.Errorf("%d %s", a.Status, a.Body)
			}
			return err
		})
	}
	if err := g.Wait(); err != nil {
		b.Fatal(err)
	}
}
