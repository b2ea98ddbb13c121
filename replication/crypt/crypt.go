// Package crypt changes whether a copy of a snapshot is encrypted: a push may
// encrypt on the way out, a pull decrypt on the way in.
//
// The rules are those of PBS (features rows 87 to 95): what is encrypted already
// stays as it is, what is encrypted only in part is left alone, and a key opens
// what its fingerprint names. What comes out is a snapshot of its own: each chunk
// has another name, since the key takes part in it, and the manifest is made anew
// and signed with the key, or not at all.
package crypt

import (
	"crypto/sha256"
	"fmt"

	"github.com/holdfast-mesh/holdfast/catalog/manifest"
	"github.com/holdfast-mesh/holdfast/chunks"
)

// A State says how much of a snapshot is encrypted.
type State int

// The states.
const (
	Open    State = iota // nothing is
	Partly               // some files are, and others not
	Encrypt              // all is
)

// masterKey is the key of a backup, encrypted for the owner of a master key. It is
// listed as what the backup is, and is not encrypted with the key that it holds.
const masterKey = "rsa-encrypted.key.blob"

// Of tells how much of a snapshot is encrypted, by its manifest.
func Of(m *manifest.Manifest) State {
	encrypted, open := 0, 0
	for _, f := range m.Files {
		switch {
		case f.Name == masterKey:
		case f.CryptMode == manifest.Encrypt:
			encrypted++
		default:
			open++
		}
	}
	switch {
	case encrypted == 0:
		return Open
	case open == 0:
		return Encrypt
	}
	return Partly
}

// Keys are those that a job may decrypt with.
type Keys []*chunks.Key

// For returns the key that a snapshot opens with, nil if it is none of them, or if
// the snapshot is not one that is decrypted.
func (ks Keys) For(m *manifest.Manifest) *chunks.Key {
	named, is := m.KeyFingerprint()
	if !is || Of(m) != Encrypt {
		return nil
	}
	for _, k := range ks {
		if k.Fingerprint() == named {
			return k
		}
	}
	return nil
}

// Index returns an index of the same pieces of content as x, in which each chunk
// has the name that rename gives it.
func Index(x chunks.Index, rename func(chunks.Digest) (chunks.Digest, bool)) (chunks.Index, error) {
	name := func(i int) (chunks.Digest, error) {
		d, ok := rename(x.Digest(i))
		if !ok {
			return d, fmt.Errorf("chunk %s has no other name", x.Digest(i).Short())
		}
		return d, nil
	}
	fixed, is := x.(*chunks.Fixed)
	if !is {
		var b chunks.DynamicBuilder
		for i := range x.Len() {
			d, err := name(i)
			_, end := x.Range(i)
			if err == nil {
				err = b.Append(end, d)
			}
			if err != nil {
				return nil, err
			}
		}
		return b.Finish(chunks.NewUUID(), x.Ctime())
	}
	b, err := chunks.NewFixedBuilder(x.Size(), fixed.ChunkSize())
	if err != nil {
		return nil, err
	}
	for i := range x.Len() {
		d, err := name(i)
		start, end := x.Range(i)
		if err == nil {
			err = b.Put(start, end-start, d)
		}
		if err != nil {
			return nil, err
		}
	}
	return b.Finish(chunks.NewUUID(), x.Ctime())
}

// Pair notes for each chunk of from the name of the one in the same place of to. It
// reports false, and notes nothing, if they are not of the same pieces.
func Pair(from, to chunks.Index, note func(from, to chunks.Digest)) bool {
	if from.Len() != to.Len() || from.Size() != to.Size() {
		return false
	}
	for i := range from.Len() {
		a, b := from.Range(i)
		c, d := to.Range(i)
		if a != c || b != d {
			return false
		}
	}
	for i := range from.Len() {
		note(from.Digest(i), to.Digest(i))
	}
	return true
}

// Blob returns a small file with another key, or none. One that is not encrypted
// needs no key to be read.
func Blob(b chunks.Blob, from, to *chunks.Key) (chunks.Blob, error) {
	plain, err := b.Decode(nil, from)
	if err != nil {
		return nil, err
	}
	return chunks.Encode(nil, plain, chunks.EncodeOptions{Compress: true, Key: to})
}

// File describes a small file in a manifest.
func File(name string, b chunks.Blob, mode manifest.CryptMode) manifest.File {
	return manifest.File{Name: name, Size: uint64(len(b)), Csum: chunks.Digest(sha256.Sum256(b)), CryptMode: mode}
}

// Listed describes an index in a manifest.
func Listed(name string, x chunks.Index, mode manifest.CryptMode) manifest.File {
	return manifest.File{Name: name, Size: uint64(x.Size()), Csum: x.Csum(), CryptMode: mode}
}

// Manifest returns a manifest of the same snapshot with other files, signed with
// key if there is one. Notes stay; what is said of a verification or of a key was
// about other files, and goes.
func Manifest(m *manifest.Manifest, files []manifest.File, key *chunks.Key) (*manifest.Manifest, error) {
	out := manifest.New(m.Snapshot())
	for _, f := range files {
		if err := out.Add(f); err != nil {
			return nil, err
		}
	}
	if notes := m.Notes(); notes != "" {
		if err := out.SetNotes(notes); err != nil {
			return nil, err
		}
	}
	if key == nil {
		return out, nil
	}
	return out, out.Sign(key)
}
