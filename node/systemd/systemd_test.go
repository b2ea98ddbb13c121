package systemd

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestNotifier(t *testing.T) {
	path := filepath.Join(t.TempDir(), "n")
	l, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	l.SetReadDeadline(time.Now().Add(10 * time.Second))
	said := func() string {
		b := make([]byte, 200)
		n, err := l.Read(b)
		if err != nil {
			t.Fatal(err)
		}
		return string(b[:n])
	}
	n := New(func(name string) string {
		return map[string]string{"NOTIFY_SOCKET": path, "WATCHDOG_USEC": "30000"}[name]
	}, slog.New(slog.DiscardHandler))
	n.Ready("up")
	n.Stopping()
	n.Reloading()
	for _, want := range []string{"READY=1\nSTATUS=up", "STOPPING=1", "RELOADING=1\nMONOTONIC_USEC="} {
		if got := said(); !strings.HasPrefix(got, want) {
			t.Errorf("said %q, want %q", got, want)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	tries := 0
	go func() {
		done <- n.Run(ctx, func(context.Context) error {
			if tries++; tries == 1 {
				return errors.New("not yet")
			}
			return nil
		})
	}()
	if got := said(); got != "WATCHDOG=1" || tries < 2 {
		t.Errorf("said %q after %d tries", got, tries)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
