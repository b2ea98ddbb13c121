package front

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"
)

// A gate accepts connections, and closes those that are too many.
type gate struct {
	net.Listener
	tls   *tls.Config
	total int
	each  int
	log   *slog.Logger

	mu      sync.Mutex
	open    int
	from    map[netip.Addr]int
	refused int
	told    time.Time // when the log was told of a refusal
}

func newGate(cfg Config) *gate {
	t := &tls.Config{
		MinVersion: cfg.MinVersion, GetCertificate: cfg.Certificate,
		// Of TLS 1.2, what has forward secrecy and authenticated encryption.
		CipherSuites: []uint16{
			tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
			tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
			tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256, tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
		},
	}
	return &gate{Listener: cfg.Listener, tls: t, total: cfg.Conns, each: cfg.PerSource, log: cfg.Log, from: map[netip.Addr]int{}}
}

// Accept waits for a connection that may stay.
func (g *gate) Accept() (net.Conn, error) {
	for {
		raw, err := g.Listener.Accept()
		if err != nil {
			return nil, err
		}
		from := source(raw.RemoteAddr())
		if !g.enter(from) {
			raw.Close()
			continue
		}
		var once sync.Once
		return &conn{
			steady: &steady{Conn: raw}, tls: g.tls,
			closed: func() { once.Do(func() { g.leave(from) }) },
			report: func(err error) { g.log.Debug("connection cannot begin", "from", raw.RemoteAddr(), "err", err) },
		}, nil
	}
}

func (g *gate) enter(from netip.Addr) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.open < g.total && g.from[from] < g.each {
		g.open++
		g.from[from]++
		return true
	}
	g.refused++
	if now := time.Now(); now.Sub(g.told) > time.Minute {
		g.told = now
		g.log.Log(context.Background(), slog.LevelWarn, "too many connections, more are refused", "from", from, "of_it", g.from[from], "all", g.open, "refused", g.refused)
	}
	return false
}

func (g *gate) leave(from netip.Addr) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.open--
	if g.from[from]--; g.from[from] <= 0 {
		delete(g.from, from)
	}
}

func (g *gate) count() (open, refused int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.open, g.refused
}

// source returns whom a connection is counted for: an address, of IPv6 the
// network, since one host has all of a /64.
func source(addr net.Addr) netip.Addr {
	ap, err := netip.ParseAddrPort(addr.String())
	if err != nil {
		return netip.Addr{}
	}
	a := ap.Addr().Unmap().WithZone("")
	if a.Is6() {
		if p, err := a.Prefix(64); err == nil {
			return p.Addr()
		}
	}
	return a
}
