// Package certificate has the TLS certificate of a node: it makes one that
// vouches for itself, reads one from files, and reads it again when the files
// change, without a connection lost.
//
// Clients of PBS pin the certificate by its fingerprint, so one that was made
// here is good for as long as a node lives.
package certificate

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/netip"
	"os"
	"slices"
	"time"

	"github.com/holdfast-mesh/holdfast/chunks"
)

// lifetime of a certificate that was made here.
const lifetime = 30 * 365 * 24 * time.Hour

// maxFile bounds what is read of a file, in bytes. A chain has some 10 KiB.
const maxFile = 1 << 20

// Files are where a certificate is: the chain in PEM, the leaf first, and its
// private key in PEM.
type Files struct{ Chain, Key string }

// Make makes a certificate that vouches for itself, for host names and
// addresses. It returns chain and key in PEM.
func Make(names []string, now time.Time) (chain, key []byte, err error) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	serial := make([]byte, 16)
	_, _ = rand.Read(serial) // never fails
	serial[0] &= 0x7f        // a serial number is positive
	t := &x509.Certificate{
		SerialNumber: new(big.Int).SetBytes(serial),
		Subject:      pkix.Name{Organization: []string{"Holdfast"}},
		// Clocks of clients may be behind by a day; more is a fault to be seen.
		NotBefore: now.Add(-24 * time.Hour).UTC(), NotAfter: now.Add(lifetime).UTC(),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true,
	}
	for _, name := range names {
		if addr, err := netip.ParseAddr(name); err == nil {
			t.IPAddresses = append(t.IPAddresses, net.IP(addr.WithZone("").AsSlice()))
		} else {
			t.DNSNames = append(t.DNSNames, name)
		}
	}
	if len(t.DNSNames) > 0 {
		t.Subject.CommonName = t.DNSNames[0]
	}
	der, err := x509.CreateCertificate(rand.Reader, t, t, private.Public(), private)
	if err != nil {
		return nil, nil, fmt.Errorf("make certificate: %w", err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return nil, nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret}), nil
}

// Load reads a certificate and its key.
func Load(f Files) (*tls.Certificate, error) {
	chain, err := read(f.Chain)
	if err != nil {
		return nil, fmt.Errorf("read certificate: %w", err)
	}
	key, err := read(f.Key)
	if err != nil {
		return nil, fmt.Errorf("read key of certificate: %w", err)
	}
	c, err := tls.X509KeyPair(chain, key)
	if err != nil {
		return nil, &fileError{fmt.Errorf("certificate %s with key %s: %w", f.Chain, f.Key, err),
			"both have to be PEM, the certificate first in its file, and the key has to be its own"}
	}
	return &c, nil
}

func read(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close() // it was only read
	text, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err == nil && len(text) > maxFile {
		err = fmt.Errorf("%s has more than %d bytes", path, maxFile)
	}
	return text, err
}

// Leaf reads the certificate alone, for who may not read the key.
func Leaf(chain string) (*x509.Certificate, error) {
	text, err := read(chain)
	if err != nil {
		return nil, fmt.Errorf("read certificate: %w", err)
	}
	block, _ := pem.Decode(text)
	if block == nil || block.Type != "CERTIFICATE" {
		return nil, fmt.Errorf("read certificate %s: %w", chain, errors.New("it does not begin with a certificate in PEM"))
	}
	leaf, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("read certificate %s: %w", chain, err)
	}
	return leaf, nil
}

// Fingerprint returns the SHA-256 of a certificate as clients pin it: pairs of
// hexadecimal digits, joined by colons.
func Fingerprint(leaf *x509.Certificate) string {
	return chunks.Fingerprint(sha256.Sum256(leaf.Raw)).String()
}

// Names returns what a certificate is for: host names, then addresses.
func Names(leaf *x509.Certificate) []string {
	names := append([]string{}, leaf.DNSNames...)
	for _, ip := range leaf.IPAddresses {
		names = append(names, ip.String())
	}
	return names
}

// A fileError is a file with a known cure.
type fileError struct {
	error
	cure string
}

func (e *fileError) Unwrap() error { return e.error }
func (e *fileError) Hint() string  { return e.cure }

// NamesOf returns what the certificate of a new node is for: whatever this machine
// is called, the address on which it listens, and its addresses of now.
func NamesOf(node, listen string) []string {
	all := []string{"localhost", "127.0.0.1", "::1"}
	if host, err := os.Hostname(); err == nil && host != "" {
		all = append([]string{host}, all...)
	}
	if !slices.Contains(all, node) {
		all = append([]string{node}, all...)
	}
	if host, _, err := net.SplitHostPort(listen); err == nil && net.ParseIP(host) != nil && !net.ParseIP(host).IsUnspecified() {
		all = append(all, host)
	}
	addrs, _ := net.InterfaceAddrs() // without them, the name is enough
	for _, a := range addrs {
		if n, ok := a.(*net.IPNet); ok && n.IP.IsGlobalUnicast() {
			all = append(all, n.IP.String())
		}
	}
	unique := []string{}
	for _, name := range all {
		if !slices.Contains(unique, name) {
			unique = append(unique, name)
		}
	}
	return unique
}
