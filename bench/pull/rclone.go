package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

// rclone copies so many bytes as files of 4 MiB with `rclone copy`, no faster than
// the tunnel is, and returns bytes a second; 0 if there is no rclone. It does not
// make durable what it copies, and a pull does.
func (b *bench) rclone(ctx context.Context, bytes int64, perSecond float64) (float64, error) {
	if _, err := exec.LookPath("rclone"); err != nil {
		return 0, nil
	}
	from, to := filepath.Join(b.dir, "from"), filepath.Join(b.dir, "copied")
	defer os.RemoveAll(to)
	if err := makeFiles(from, int(bytes/(4<<20))); err != nil {
		return 0, err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	srv := &http.Server{Handler: http.FileServer(http.Dir(from))}
	defer srv.Close()
	go func() { _ = srv.Serve(l) }()
	cmd := exec.CommandContext(ctx, "rclone", "copy", "--config", "", "--transfers", "4", "--bwlimit", fmt.Sprintf("%.0fB", perSecond),
		"--http-url", "http://"+l.Addr().String(), ":http:", to)
	start := time.Now()
	if out, err := cmd.CombinedOutput(); err != nil {
		return 0, fmt.Errorf("rclone: %w: %s", err, out)
	}
	return float64(bytes) / time.Since(start).Seconds(), nil
}

// makeFiles makes files of 4 MiB, once.
func makeFiles(dir string, n int) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	buf := make([]byte, 4<<20)
	for i := range n {
		name := filepath.Join(dir, fmt.Sprint(i))
		if _, err := os.Stat(name); err == nil {
			continue
		}
		_, _ = rand.NewChaCha8([32]byte{byte(i), byte(i >> 8)}).Read(buf)
		if err := os.WriteFile(name, buf, 0o644); err != nil {
			return err
		}
	}
	return nil
}
