package wire

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"

	"github.com/holdfast-mesh/holdfast/chunks"
)

// A CertificateError says why a server is not taken for the one it should be.
type CertificateError struct {
	Server string
	Got    string // SHA-256 fingerprint of the certificate that was shown
	Want   string // the pinned one; "" if none is
	Err    error  // why the authorities do not vouch for it
}

func (e *CertificateError) Error() string {
	if e.Want == "" {
		return fmt.Sprintf("connect to %s: its certificate is not known here (%v); its fingerprint is %s", e.Server, e.Err, e.Got)
	}
	return fmt.Sprintf("connect to %s: wrong certificate: its fingerprint is %s, expected is %s", e.Server, e.Got, e.Want)
}

func (e *CertificateError) Unwrap() error { return e.Err }

// Hint is printed on its own line below the error.
func (e *CertificateError) Hint() string {
	if e.Want == "" {
		return "compare the fingerprint with the one that the server itself shows (holdfast cert info there, or the dashboard of a Proxmox Backup Server); if they are equal, set PBS_FINGERPRINT=" + e.Got
	}
	return "if the server has a new certificate, take its fingerprint there (holdfast cert info, or the dashboard of a Proxmox Backup Server) and pin that; if not, somebody may be listening in between"
}

// tlsConfig returns how a connection is made. No protocol is negotiated: PBS's
// clients do not, and a server that chose HTTP/2 could not be upgraded.
func (srv *Server) tlsConfig() *tls.Config {
	return &tls.Config{
		ServerName: srv.cfg.Host,
		MinVersion: tls.VersionTLS12,
		// Nothing is skipped: verifyServer does it all, because a pinned
		// certificate needs no chain, no name and no dates.
		InsecureSkipVerify: true,
		VerifyConnection:   srv.verifyServer,
	}
}

// verifyServer accepts a certificate that authorities vouch for, or the pinned
// one (PBS protocol notes §1.1). Only the leaf is pinned.
func (srv *Server) verifyServer(state tls.ConnectionState) error {
	if len(state.PeerCertificates) == 0 {
		return errors.New("server shows no certificate")
	}
	leaf := state.PeerCertificates[0]
	between := x509.NewCertPool()
	for _, cert := range state.PeerCertificates[1:] {
		between.AddCert(cert)
	}
	_, err := leaf.Verify(x509.VerifyOptions{
		DNSName: srv.cfg.Host, Intermediates: between, Roots: srv.cfg.Roots,
	})
	if err == nil {
		return nil
	}
	got := chunks.Fingerprint(sha256.Sum256(leaf.Raw)).String()
	if got == srv.cfg.Fingerprint {
		return nil
	}
	return &CertificateError{Server: srv.name, Got: got, Want: srv.cfg.Fingerprint, Err: err}
}
