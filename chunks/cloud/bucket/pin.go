package bucket

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"

	"github.com/holdfast-mesh/holdfast/chunks"
)

// pinned returns how a store shows that it is itself: its certificate has the
// fingerprint that was told, which needs no chain, no name and no dates. If none was
// told, authorities that this machine knows vouch for it.
func pinned(fingerprint string) *tls.Config {
	if fingerprint == "" {
		return nil
	}
	return &tls.Config{
		MinVersion:         tls.VersionTLS12,
		InsecureSkipVerify: true, // the pin is what is verified
		VerifyConnection: func(state tls.ConnectionState) error {
			if len(state.PeerCertificates) == 0 {
				return errors.New("the store shows no certificate")
			}
			if got := fingerprintOf(state.PeerCertificates[0]); got != fingerprint {
				return fmt.Errorf("the store's certificate has the fingerprint %s, want %s", got, fingerprint)
			}
			return nil
		},
	}
}

func fingerprintOf(c *x509.Certificate) string {
	return chunks.Fingerprint(sha256.Sum256(c.Raw)).String()
}

// Untrusted returns the fingerprint of the certificate that err refuses, since no
// authority vouches for it; "" if err is about something else.
func Untrusted(err error) string {
	var refused *tls.CertificateVerificationError
	if errors.As(err, &refused) && len(refused.UnverifiedCertificates) > 0 {
		return fingerprintOf(refused.UnverifiedCertificates[0])
	}
	return ""
}
