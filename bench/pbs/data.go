package main

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/holdfast-mesh/holdfast/chunks/chunktest"
)

// makeData makes a tree, half of which is text and half noise, in files of 20
// KiB to 2 MiB, and an image of which half is zeros.
func (b *bench) makeData() error {
	left := b.treeN << 20
	for n := 0; left > 0; n++ {
		size := min([]int{20 << 10, 60 << 10, 200 << 10, 2 << 20}[n%4], left)
		left -= size
		content := chunktest.Random(uint64(n), size)
		if n%8 < 4 {
			content = chunktest.Text(uint64(n), size)
		}
		name := b.path("tree", fmt.Sprintf("%02d", n%64), fmt.Sprintf("file-%05d", n))
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(name, content, 0o644); err != nil {
			return err
		}
	}
	f, err := os.Create(b.path("image"))
	if err != nil {
		return err
	}
	for at := 0; at < b.imgN; at += 4 {
		n := min(4, b.imgN-at) << 20
		content := make([]byte, n)
		switch at / 4 % 4 {
		case 0:
			copy(content, chunktest.Random(uint64(at), n))
		case 1:
			copy(content, chunktest.Text(uint64(at), n))
		}
		if _, err := f.Write(content); err != nil {
			return err
		}
	}
	return f.Close()
}
