package node

import (
	"cmp"
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/holdfast-mesh/holdfast/access"
	"github.com/holdfast-mesh/holdfast/access/statefile"
	"github.com/holdfast-mesh/holdfast/consensus/guard"
	"github.com/holdfast-mesh/holdfast/node/certificate"
	"github.com/holdfast-mesh/holdfast/node/cluster/home"
	"github.com/holdfast-mesh/holdfast/node/dirlock"
	"github.com/holdfast-mesh/holdfast/node/keyfile"
)

// Init makes the directory of a node, with all that it needs to run: keys, a
// certificate, a configuration, and a cluster with this node alone. Of the
// configuration it takes Dir, Name, Site, Listen, MeshListen and Recovery. A directory that is a node already is left as it is,
// with [fs.ErrExist]; what an Init that was cut short has left is used.
//
// If root makes the node in a directory that belongs to another user, who is
// to run it, all that is made belongs to that user.
func Init(c Config) error {
	full, err := c.initial()
	if err != nil {
		return err
	}
	full.Dir, full.Recovery = c.Dir, c.Recovery
	if err := initDir(full); err != nil {
		return fmt.Errorf("make node in %s: %w", c.Dir, err)
	}
	return nil
}

// initial is what a new node is configured with.
func (c Config) initial() (Config, error) {
	c.Listen, c.MeshListen = cmp.Or(c.Listen, ":8007"), cmp.Or(c.MeshListen, ":51820")
	if err := errors.Join(checkName("--name", c.Name), checkName("--site", c.Site)); err != nil {
		return c, err // before it is in a file, where another error would be found first
	}
	return parseConfig([]byte(c.text()))
}

func initDir(c Config) error {
	return makeDir(c, func() error {
		if err := home.Found(c.at(clusterDir)); err != nil {
			return err
		}
		if err := found(context.Background(), c); err != nil {
			return err
		}
		if err := complete(c); err != nil {
			return err
		}
		return home.Founded(c.at(clusterDir))
	})
}

// makeDir makes the directory of a node, with what it has of its own, and then
// what fill makes.
func makeDir(c Config, fill func() error) error {
	if err := os.MkdirAll(c.Dir, 0o700); err != nil {
		return err
	}
	if err := mayInit(c.Dir); err != nil {
		return err
	}
	held, err := dirlock.Take(c.Dir)
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
	return fill()
}

// complete makes a directory a node that has all it needs: the configuration comes
// last, and with its owner, so that whoever is cut off before may begin again.
func complete(c Config) error {
	placing := c.at("." + ConfigFile)
	if _, err := statefile.WriteSecret(placing, []byte(c.text()), true); err != nil {
		return err
	}
	if err := dirlock.GiveAway(c.Dir); err != nil {
		return err
	}
	return statefile.Place(placing, c.at(ConfigFile))
}

// mayInit refuses a directory with something else in it.
func mayInit(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	ours := []string{"lost+found", settingsFile, cloudFile, secretsFile, noticesFile, accountsFile, ticketKeyFile, identityFile, OperatorFile, clusterDir, guard.HeadOf(clusterDir), filepath.Dir(certFile), tasksDir, historyDir, dirlock.File}
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
	if _, err := keyfile.Make(c.at(identityFile)); err != nil {
		return err
	}
	if _, err := os.Stat(c.at(certFile)); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	chain, key, err := certificate.Make(certificate.NamesOf(c.Name, c.Listen), time.Now())
	if err != nil {
		return err
	}
	if _, err := statefile.WriteSecret(c.at(certKeyFile), key, true); err != nil {
		return err
	}
	_, err = statefile.WriteSecret(c.at(certFile), chain, false)
	return err
}

// identityName is what clients tell nodes apart by, for ever: 32 hexadecimal
// digits of the SHA-256 of the public key.
func identityName(key ed25519.PrivateKey) string {
	sum := sha256.Sum256(key.Public().(ed25519.PublicKey))
	return hex.EncodeToString(sum[:16])
}
