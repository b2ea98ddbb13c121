// Package systemd tells the service manager how a service does: ready, being
// reloaded, ending, alive. It is the protocol of sd_notify(3): a line of text
// for each, in a datagram to the socket that NOTIFY_SOCKET names. Without that,
// as anywhere but under systemd, it does nothing.
package systemd

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// A Notifier talks to the service manager. The zero value talks to nobody.
type Notifier struct {
	socket   string        // its path, or its abstract name behind "@"
	watchdog time.Duration // the service is dead if it says nothing for so long; 0: never
	log      *slog.Logger
}

// New returns a Notifier for an environment.
func New(getenv func(string) string, log *slog.Logger) *Notifier {
	n := &Notifier{socket: getenv("NOTIFY_SOCKET"), log: log}
	if us, err := strconv.ParseInt(getenv("WATCHDOG_USEC"), 10, 64); err == nil && us > 0 {
		n.watchdog = time.Duration(us) * time.Microsecond
	}
	return n
}

// Ready says that the service works, and what it does.
func (n *Notifier) Ready(status string) { n.send("READY=1\nSTATUS=" + status) }

// Stopping says that the service is about to end.
func (n *Notifier) Stopping() { n.send("STOPPING=1") }

// Reloading says that the configuration is being read; [Notifier.Ready] ends it.
func (n *Notifier) Reloading() {
	var now unix.Timespec
	if unix.ClockGettime(unix.CLOCK_MONOTONIC, &now) != nil {
		return
	}
	n.send(fmt.Sprintf("RELOADING=1\nMONOTONIC_USEC=%d", now.Nano()/1000))
}

// Run says that the service is alive as long as check agrees, until ctx ends.
// When check fails the service manager comes to the same conclusion, and
// starts the service anew.
func (n *Notifier) Run(ctx context.Context, check func(context.Context) error) error {
	if n.socket == "" || n.watchdog == 0 {
		<-ctx.Done()
		return nil
	}
	tick := time.NewTicker(n.watchdog / 3)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		limited, cancel := context.WithTimeout(ctx, n.watchdog/3)
		err := check(limited)
		cancel()
		if err != nil && ctx.Err() == nil {
			n.log.Error("the watchdog is not told that all is well", "err", err)
			continue
		}
		n.send("WATCHDOG=1")
	}
}

func (n *Notifier) send(text string) {
	if n.socket == "" {
		return
	}
	conn, err := net.Dial("unixgram", n.socket)
	if err == nil {
		_, err = conn.Write([]byte(text))
		conn.Close()
	}
	if err != nil {
		n.log.Warn("the service manager cannot be told", "socket", n.socket, "err", err)
	}
}
