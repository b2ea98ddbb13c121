package node

import (
	"cmp"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/holdfast-mesh/holdfast/access"
	"github.com/holdfast-mesh/holdfast/access/statefile"
	"github.com/holdfast-mesh/holdfast/node/certificate"
)

// Init makes the directory of a node, with all that it needs to run: keys, a
// certificate, a configuration. Of the configuration it takes Dir, Name, Site,
// Listen and MeshListen. A directory that is a node already is left as it is,
// with [fs.ErrExist]; what an Init that was cut short has left is used.
//
// If root makes the node in a directory that belongs to another user, who is
// to run it, all that is made belongs to that user.
func Init(c Config) error {
	c.Listen = cmp.Or(c.Listen, ":8007")
	c.MeshListen = cmp.Or(c.MeshListen, ":51820")
	full, err := parseConfig([]byte(c.text()))
	if err != nil {
		return err
	}
	full.Dir = c.Dir
	if err := initDir(full); err != nil {
		return fmt.Errorf("make node in %s: %w", c.Dir, err)
	}
	return nil
}

func initDir(c Config) error {
	if err := os.MkdirAll(c.Dir, 0o700); err != nil {
		return err
	}
	if err := mayInit(c.Dir); err != nil {
		return err
	}
	held, err := lock(c.Dir)
	if err != nil {
		return err
	}
	defer held.Close() // nothing is written through it
	if err := os.Chmod(c.Dir, 0o700); err != nil {
		return err
	}
	for _, dir := range []string{filepath.Dir(certFile), tasksDir, historyDir} {
		if err := os.MkdirAll(c.at(dir), 0o700); err != nil {
			return err
		}
	}
	if err := makeSecrets(c); err != nil {
		return err
	}
	// The configuration comes last: with it, the directory is a node.
	if _, err := statefile.WriteSecret(c.at(ConfigFile), []byte(c.text()), false); err != nil {
		return err
	}
	return giveAway(c.Dir)
}

// mayInit refuses a directory with something else in it.
func mayInit(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	ours := []string{"lost+found", settingsFile, cloudFile, accountsFile, ticketKeyFile, identityFile, filepath.Dir(certFile), tasksDir, historyDir, lockFile}
	for _, e := range entries {
		switch {
		case e.Name() == ConfigFile:
			return &hinted{fmt.Errorf("it is one already: %w", fs.ErrExist), "run it with `holdfast node run --data " + dir + "`; to begin anew, move the directory away"}
		case !slices.Contains(ours, e.Name()) && !strings.HasPrefix(e.Name(), "."):
			return &hinted{fmt.Errorf("%s is in it", e.Name()), "choose an empty directory, or one that does not exist"}
		}
	}
	return nil
}

// makeSecrets makes what of keys and certificates is not there yet.
func makeSecrets(c Config) error {
	if _, err := access.OpenKey(c.at(ticketKeyFile)); err != nil {
		return err
	}
	if err := makeIdentity(c.at(identityFile)); err != nil {
		return err
	}
	if _, err := os.Stat(c.at(certFile)); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	chain, key, err := certificate.Make(names(c), time.Now())
	if err != nil {
		return err
	}
	if _, err := statefile.WriteSecret(c.at(certKeyFile), key, true); err != nil {
		return err
	}
	_, err = statefile.WriteSecret(c.at(certFile), chain, false)
	return err
}

// makeIdentity makes the key that a node is known by in a mesh.
func makeIdentity(path string) error {
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return err
	}
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return err
	}
	_, err = statefile.WriteSecret(path, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), false)
	return err
}

// maxIdentity bounds the file of makeIdentity, which has some 120 bytes.
const maxIdentity = 4096

// readIdentity returns what clients tell nodes apart by, for ever: 32
// hexadecimal digits of the SHA-256 of the public key.
func readIdentity(path string) (string, error) {
	text, err := statefile.ReadSecret(path, maxIdentity)
	if err != nil {
		return "", fmt.Errorf("read the identity: %w", err)
	}
	block, _ := pem.Decode(text)
	if block == nil {
		return "", fmt.Errorf("read the identity %s: it is no PEM", path)
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return "", fmt.Errorf("read the identity %s: %w", path, err)
	}
	private, ok := key.(ed25519.PrivateKey)
	if !ok {
		return "", fmt.Errorf("read the identity %s: it is no Ed25519 key", path)
	}
	sum := sha256.Sum256(private.Public().(ed25519.PublicKey))
	return hex.EncodeToString(sum[:16]), nil
}

// names returns what the certificate of a new node is for: whatever this
// machine is called, and its addresses of now.
func names(c Config) []string {
	all := []string{"localhost", "127.0.0.1", "::1"}
	if host, err := os.Hostname(); err == nil && host != "" {
		all = append([]string{host}, all...)
	}
	if !slices.Contains(all, c.Name) {
		all = append([]string{c.Name}, all...)
	}
	if host, _, err := net.SplitHostPort(c.Listen); err == nil && net.ParseIP(host) != nil && !net.ParseIP(host).IsUnspecified() {
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

// giveAway makes all in dir belong to the owner of dir, if root has made it.
func giveAway(dir string) error {
	uid, gid, err := owner(dir)
	if err != nil || os.Geteuid() != 0 || uid == 0 {
		return err
	}
	return filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Lchown(path, uid, gid)
	})
}
