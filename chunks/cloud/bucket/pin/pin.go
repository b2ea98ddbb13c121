// Package pin trusts an S3 store by the fingerprint of its certificate, as clients of
// PBS trust a server whose certificate no authority has signed.
package pin

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"

	"github.com/holdfast-mesh/holdfast/chunks"
)

// Parse returns a fingerprint in the form that [TLS] takes: 32 pairs of hexadecimal
// digits with colons between; "" stays, and is none.
func Parse(text string) (string, error) {
	if text == "" {
		return "", nil
	}
	f, err := chunks.ParseFingerprint(text)
	if err != nil {
		return "", fmt.Errorf("fingerprint: %w", err)
	}
	return f.String(), nil
}

// TLS returns how a store shows that it is itself: its certificate has the fingerprint,
// which needs no chain, no name and no dates. Without one it is nil: authorities that
// this machine knows vouch for it.
func TLS(fingerprint string) *tls.Config {
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
			if got := Of(state.PeerCertificates[0]); got != fingerprint {
				return fmt.Errorf("the store's certificate has the fingerprint %s, want %s", got, fingerprint)
			}
			return nil
		},
	}
}

// Of returns the fingerprint of a certificate: its SHA-256.
func Of(c *x509.Certificate) string { return chunks.Fingerprint(sha256.Sum256(c.Raw)).String() }

// Refused returns the fingerprint of the certificate that err refuses, since no
// authority vouches for it; "" if err is about something else.
func Refused(err error) string {
	var refused *tls.CertificateVerificationError
	if errors.As(err, &refused) && len(refused.UnverifiedCertificates) > 0 {
		return Of(refused.UnverifiedCertificates[0])
	}
	return ""
}
