package portmap

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// A router is a Gateway that keeps what it was asked.
type router struct {
	mu             sync.Mutex
	added, deleted int
	port           int
	ip             net.IP
	err            error
}

func (r *router) AddPortMapping(_ context.Context, protocol string, port int, _ string, life time.Duration) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if protocol != "udp" || port != 51820 || life < renew {
		return 0, errors.New("that is not what was to be asked")
	}
	r.added++
	return r.port, r.err
}

func (r *router) DeletePortMapping(context.Context, string, int) error { r.deleted++; return nil }
func (r *router) GetExternalAddress() (net.IP, error)                  { return r.ip, nil }

func TestPortIsMappedRenewedAndTakenBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &router{port: 4242, ip: net.IPv4(203, 0, 113, 1)}
		var mapped []netip.AddrPort
		searches := 0
		m := Mapper{Port: 51820, Log: slog.New(slog.DiscardHandler), Mapped: func(a []netip.AddrPort) { r.mu.Lock(); defer r.mu.Unlock(); mapped = a },
			Discover: func(context.Context) (Gateway, error) {
				r.mu.Lock()
				defer r.mu.Unlock()
				searches++
				return r, nil
			}}
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- m.Run(ctx) }()
		pause := func(d time.Duration) {
			r.mu.Unlock()
			time.Sleep(d)
			r.mu.Lock()
		}
		r.mu.Lock()
		pause(time.Minute)
		if len(mapped) != 1 || mapped[0].String() != "203.0.113.1:4242" {
			t.Errorf("mapped is %v", mapped)
		}
		pause(time.Hour)
		if want := int(time.Hour / renew); r.added < want || searches != 1 {
			t.Errorf("mapped %d times in an hour, want %d; searched %d times", r.added, want, searches)
		}
		r.err = errors.New("out of order")
		pause(2 * renew)
		if len(mapped) != 0 {
			t.Errorf("mapped is %v, want none", mapped)
		}
		r.err = nil
		pause(2 * retry)
		if len(mapped) != 1 {
			t.Error("it is not mapped again")
		}
		r.mu.Unlock()
		stop()
		if err := <-done; err != nil || r.deleted != 1 {
			t.Errorf("taken back %d times, %v", r.deleted, err)
		}
	})
}

func TestWithoutARouter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := Mapper{Port: 51820, Log: slog.New(slog.DiscardHandler), Mapped: func([]netip.AddrPort) {},
			Discover: func(context.Context) (Gateway, error) { return nil, errors.New("no gateway") }}
		ctx, stop := context.WithTimeout(t.Context(), time.Hour)
		defer stop()
		if err := m.Run(ctx); err != nil {
			t.Error(err)
		}
	})
}
