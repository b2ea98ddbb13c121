package certificate

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"log/slog"
	"sync/atomic"
	"time"
)

// Config says what a [Keeper] keeps.
type Config struct {
	Files Files
	Every time.Duration // how often the files are looked at; default 1 min
	Log   *slog.Logger  // default: discard
}

// A Keeper has the certificate of now.
type Keeper struct {
	cfg Config
	now atomic.Pointer[tls.Certificate]
}

// NewKeeper reads the certificate. It starts nothing.
func NewKeeper(cfg Config) (*Keeper, error) {
	cfg.Every = cmp.Or(cfg.Every, time.Minute)
	cfg.Log = cmp.Or(cfg.Log, slog.New(slog.DiscardHandler))
	k := &Keeper{cfg: cfg}
	return k, k.Reload()
}

// Reload reads the files again. If that fails, the certificate stays as it was.
func (k *Keeper) Reload() error {
	c, err := Load(k.cfg.Files)
	if err != nil {
		return err
	}
	was := k.now.Swap(c)
	if was != nil && !bytes.Equal(was.Leaf.Raw, c.Leaf.Raw) {
		k.cfg.Log.Warn("certificate has changed: clients that pin it need the new fingerprint", "fingerprint", Fingerprint(c.Leaf), "until", c.Leaf.NotAfter)
	}
	return nil
}

// Get returns the certificate, as tls.Config.GetCertificate.
func (k *Keeper) Get(*tls.ClientHelloInfo) (*tls.Certificate, error) { return k.now.Load(), nil }

// Leaf returns the certificate that clients see.
func (k *Keeper) Leaf() *x509.Certificate { return k.now.Load().Leaf }

// Run looks at the files from time to time and follows them, until ctx ends.
// Half a change, as while somebody copies two files, is tried again.
func (k *Keeper) Run(ctx context.Context) error {
	tick := time.NewTicker(k.cfg.Every)
	defer tick.Stop()
	failed := ""
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		err := k.Reload()
		if err != nil && err.Error() != failed {
			k.cfg.Log.Error("certificate cannot be read anew, the old one stays", "err", err)
		}
		if failed = ""; err != nil {
			failed = err.Error()
		}
	}
}
