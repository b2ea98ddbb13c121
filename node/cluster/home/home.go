// Package home is the directory in which a node keeps what it knows of its cluster:
// to which one it belongs, and whether that is all made. It looks at files only, so
// that it can be asked before anything is opened.
package home

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/holdfast-mesh/holdfast/consensus/authority"
	"github.com/holdfast-mesh/holdfast/consensus/guard"
)

// The names of files in the directory.
const (
	Authority = "authority" // the chain of who belongs to the cluster
	Founding  = "founding"  // is there while the cluster is being made
)

// An Error is an error with a known cure.
type Error struct {
	Err  error
	Cure string
}

func (e *Error) Error() string { return e.Err.Error() }
func (e *Error) Unwrap() error { return e.Err }

// Hint says what an operator can do about it.
func (e *Error) Hint() string { return e.Cure }

// ID returns which cluster the node with this directory belongs to.
func ID(dir string) ([16]byte, error) {
	chain, err := ReadChain(filepath.Join(dir, Authority))
	if err != nil {
		return [16]byte{}, err
	}
	return chain.Cluster(), nil
}

// IsMember tells whether the node with this directory belongs to a cluster, and
// whether that is all made.
func IsMember(dir string) (is, complete bool) {
	_, err := os.Stat(filepath.Join(dir, Authority))
	_, founding := os.Stat(filepath.Join(dir, Founding))
	return err == nil, err == nil && founding != nil
}

// Lost tells whether a node belonged to a cluster, and who belongs to that is gone
// from its directory: not a node that was in none yet, nor one that was founding.
func Lost(dir string) bool {
	is, _ := IsMember(dir)
	if _, founding := os.Stat(filepath.Join(dir, Founding)); is || founding == nil {
		return false
	}
	_, guarded := os.Stat(guard.HeadOf(dir))
	_, logged := os.Stat(filepath.Join(dir, "raft"))
	return guarded == nil || logged == nil
}

// Founded says that a cluster is complete.
func Founded(dir string) error {
	err := os.Remove(filepath.Join(dir, Founding))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// Found makes sure that the node with this directory, which is none yet, can found a
// cluster in it: it removes one that it did not come to the end of. One that it
// belongs to, or belonged to, is not touched.
func Found(dir string) error {
	if _, complete := IsMember(dir); complete {
		return &Error{errors.New("it belongs to a cluster, and only its configuration is missing"),
			"if `holdfast node join` was cut off here, repeat it as it was; else write node.toml again, see docs/node.md; to begin anew, move the directory away"}
	}
	if Lost(dir) {
		return &Error{errors.New("it belonged to a cluster, and what it knew of it is gone"),
			"restore the whole directory of the node from one backup; to begin anew, move the directory away"}
	}
	return abandon(dir)
}

// abandon removes a cluster that is not complete. The mark of that goes last: what
// is left without it looks like a node that has lost its cluster.
func abandon(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return ForgetHead(dir)
	}
	for _, e := range entries {
		if e.Name() != Founding {
			err = errors.Join(err, os.RemoveAll(filepath.Join(dir, e.Name())))
		}
	}
	if err = errors.Join(err, ForgetHead(dir)); err != nil {
		return err
	}
	return os.RemoveAll(dir)
}

// ForgetHead removes what says how far the guard of a node was, whose cluster it
// begins anew or leaves behind.
func ForgetHead(dir string) error {
	if err := os.Remove(guard.HeadOf(dir)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// Join makes sure that the node with this directory, which has no configuration yet,
// can join the cluster that begins with a genesis: it is in none, or it is in that
// one already, since joining was cut off behind the answer of the cluster. A cluster
// that it did not come to the end of founding is removed; another is not touched.
func Join(dir string, genesis [32]byte) error {
	if _, err := os.Stat(filepath.Join(dir, Founding)); err == nil {
		return abandon(dir)
	}
	if is, _ := IsMember(dir); is {
		chain, err := ReadChain(filepath.Join(dir, Authority))
		if err != nil {
			return err
		}
		return same(chain.GenesisHash(), genesis)
	}
	if _, err := os.Stat(filepath.Join(dir, "guard.1")); err != nil {
		return nil
	}
	g, err := guard.Open(guard.Config{Dir: dir})
	if err != nil {
		return err
	}
	was := g.Chain()
	if err := g.Close(); err != nil || was.Length == 0 {
		return err
	}
	return same(was.Genesis, genesis)
}

func same(have, want [32]byte) error {
	if have == want {
		return nil
	}
	return &Error{errors.New("it belongs to another cluster than the token; nothing was changed, and the token is still good"),
		"choose another directory with --data, or a token of the cluster that this one belongs to; to leave that cluster, move the directory away"}
}

// Enter makes a chain, which was checked, that of a directory for which [Join] has
// found nothing wrong. again tells that there was one already.
func Enter(dir string, chain *authority.Chain) (again bool, err error) {
	path := filepath.Join(dir, Authority)
	if is, _ := IsMember(dir); is {
		had, err := ReadChain(path)
		if err != nil || had.Extends(chain) {
			return true, err
		}
		if !chain.Extends(had) {
			return true, &Error{errors.New("this node belongs to a cluster already"), "to put it into another, begin with an empty data directory"}
		}
		return true, WriteChain(path, chain)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return false, err
	}
	if Lost(dir) {
		if err := ForgetHead(dir); err != nil {
			return false, err
		}
	}
	if err := WriteChain(path, chain); err != nil {
		return false, fmt.Errorf("enter the cluster: %w", err)
	}
	return false, nil
}
