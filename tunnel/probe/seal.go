package probe

import (
	"crypto/cipher"
	"crypto/ecdh"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"golang.org/x/crypto/chacha20poly1305"
)

// A KeyName finds the key of a probe among all keys of all peers.
type KeyName [8]byte

// NameOf returns which key a datagram claims to be sealed with.
func NameOf(b []byte) (KeyName, bool) {
	if len(b) < Overhead || len(b) > MaxMessage+Overhead || b[0] != first || b[1] != version || b[2] != 0 || b[3] != 0 {
		return KeyName{}, false
	}
	return KeyName(b[keyAt:sessionAt]), true
}

// A Pair is the keys between one WireGuard key of ours and one of a peer.
// Its methods may be called from many goroutines.
type Pair struct {
	out, in  cipher.AEAD
	outName  KeyName
	Incoming KeyName // of what the peer sends

	session [8]byte
	counter atomic.Uint64

	mu     sync.Mutex
	window Window
}

// NewPair derives the keys, the same on both ends.
func NewPair(private *ecdh.PrivateKey, peer *ecdh.PublicKey) (*Pair, error) {
	secret, err := private.ECDH(peer)
	if err != nil {
		return nil, fmt.Errorf("derive probe key: %w", err)
	}
	ours, theirs := private.PublicKey().Bytes(), peer.Bytes()
	p := &Pair{}
	if p.out, p.outName, err = direction(secret, ours, theirs); err != nil {
		return nil, err
	}
	if p.in, p.Incoming, err = direction(secret, theirs, ours); err != nil {
		return nil, err
	}
	rand.Read(p.session[:])
	return p, nil
}

func direction(secret, from, to []byte) (cipher.AEAD, KeyName, error) {
	info := "holdfast/probe/v1 " + string(from) + string(to)
	b, err := hkdf.Key(sha256.New, secret, nil, info, chacha20poly1305.KeySize+len(KeyName{}))
	if err != nil {
		return nil, KeyName{}, fmt.Errorf("derive probe key: %w", err)
	}
	aead, err := chacha20poly1305.NewX(b[:chacha20poly1305.KeySize])
	if err != nil {
		return nil, KeyName{}, fmt.Errorf("derive probe key: %w", err)
	}
	return aead, KeyName(b[chacha20poly1305.KeySize:]), nil
}

// Seal appends a probe with the message to dst.
func (p *Pair) Seal(dst []byte, m Message) []byte {
	at := len(dst)
	dst = append(dst, first, version, 0, 0)
	dst = append(dst, p.outName[:]...)
	dst = append(dst, p.session[:]...)
	dst = binary.BigEndian.AppendUint64(dst, p.counter.Add(1))
	var nonce [chacha20poly1305.NonceSizeX]byte
	copy(nonce[:], dst[at+sessionAt:at+sealedAt])
	plain := m.Append(make([]byte, 0, 64+m.Size))
	return p.out.Seal(dst, nonce[:], plain, dst[at:at+sealedAt])
}

// ScratchBytes is the room that Open needs.
const ScratchBytes = chacha20poly1305.NonceSizeX + MaxMessage + 16

// A Session is one run of the sending program.
type Session uint64

// Opened is a message that came from the peer, and what is known of its age.
type Opened struct {
	Message
	Session Session
	// Fresh is whether the session was confirmed, see Confirm, and this probe
	// came for the first time. A probe that is not fresh may be a recording.
	Fresh bool
}

var (
	errForged = errors.New("open probe: it is forged or damaged")
	errReplay = errors.New("open probe: it came before")
)

// Open checks and reads a probe whose key name is p.Incoming. scratch is room
// of ScratchBytes. Nothing is allocated unless the peer made the probe.
func (p *Pair) Open(scratch, b []byte) (Opened, error) {
	nonce, room := scratch[:chacha20poly1305.NonceSizeX], scratch[chacha20poly1305.NonceSizeX:]
	clear(nonce[copy(nonce, b[sessionAt:sealedAt]):])
	plain, err := p.in.Open(room[:0], nonce, b[sealedAt:], b[:sealedAt])
	if err != nil {
		return Opened{}, errForged
	}
	session := Session(binary.BigEndian.Uint64(b[sessionAt:]))
	counter := binary.BigEndian.Uint64(b[counterAt:])
	p.mu.Lock()
	fresh, again := p.window.Check(session, counter)
	p.mu.Unlock()
	if again {
		return Opened{}, errReplay
	}
	m, err := Parse(plain)
	if err != nil {
		return Opened{}, err
	}
	return Opened{Message: m, Session: session, Fresh: fresh}, nil
}

// Confirm makes s the session of the peer that is not a recording: it has
// answered a ping of ours.
func (p *Pair) Confirm(s Session) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.window.Confirm(s)
}
