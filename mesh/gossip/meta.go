package gossip

import (
	"crypto/ed25519"
	"errors"
	"fmt"

	"github.com/fxamacker/cbor/v2"
	"github.com/hashicorp/memberlist"
)

// A Meta is what a node says of itself, in at most 512 bytes with its
// signature. Numbers of fields are never used again; a node that is older
// skips what it does not know.
type Meta struct {
	Version  string   `cbor:"1,keyasint,omitempty"`
	Level    uint64   `cbor:"2,keyasint,omitempty"`  // highest feature level that it knows
	Role     string   `cbor:"3,keyasint,omitempty"`  // such as "full", "draining"
	Size     uint64   `cbor:"4,keyasint,omitempty"`  // bytes of its datastores
	Free     uint64   `cbor:"5,keyasint,omitempty"`  // and how many are left, to about 1 %
	Load     uint64   `cbor:"6,keyasint,omitempty"`  // percent of its cores, in steps of 25
	Feed     Place    `cbor:"7,keyasint,omitempty"`  // where its own feed ends
	Feeds    uint64   `cbor:"8,keyasint,omitempty"`  // digest of the heads of all feeds that it holds
	Ledger   uint64   `cbor:"9,keyasint,omitempty"`  // index that it has applied, in steps
	Hash     uint64   `cbor:"10,keyasint,omitempty"` // of its state there
	Term     uint64   `cbor:"11,keyasint,omitempty"` // incarnation of the cluster
	Running  []string `cbor:"12,keyasint,omitempty"` // what it does now, in short
	Warnings uint64   `cbor:"13,keyasint,omitempty"` // how many
	Addrs    []string `cbor:"14,keyasint,omitempty"` // where it can be reached
	Started  int64    `cbor:"15,keyasint,omitempty"` // Unix seconds
	Trouble  string   `cbor:"16,keyasint,omitempty"` // why it does not take part as it should, in short
	Reach    uint32   `cbor:"17,keyasint,omitempty"` // how far its incarnations may come, if beyond what is believed of all; see rumour.go
}

// A Place is where a feed ends.
type Place struct {
	Epoch uint64 `cbor:"1,keyasint,omitempty"`
	Seq   uint64 `cbor:"2,keyasint,omitempty"`
}

const (
	metaDomain = "holdfast/gossip-meta/1\x00"
	newsDomain = "holdfast/gossip-news/1\x00"
	loadStep   = 25
)

var (
	encoding = must(cbor.CoreDetEncOptions().EncMode())
	decoding = must(cbor.DecOptions{
		DupMapKey: cbor.DupMapKeyEnforcedAPF, IndefLength: cbor.IndefLengthForbidden, TagsMd: cbor.TagsForbidden,
		MaxNestedLevels: 8, MaxArrayElements: 64, MaxMapPairs: 64, // new fields are skipped
	}.DecMode())
)

func must[T any](mode T, err error) T {
	if err != nil {
		panic("gossip: " + err.Error())
	}
	return mode
}

// errSignature says that the node in whose name something is said has not
// said it.
var errSignature = errors.New("not signed by the node that it names")

// coarse rounds what changes all the time, so that an idle node is silent.
func (m Meta) coarse() Meta {
	if step := m.Size / 100; step > 0 {
		m.Free -= m.Free % step
	}
	m.Load = (m.Load + loadStep/2) / loadStep * loadStep
	return m
}

// sign returns the meta as it is sent: a signature, then CBOR. What does not
// fit is left out: addresses from the end, then work, then trouble, then all but numbers.
func (m Meta) sign(node string, key ed25519.PrivateKey) []byte {
	m = m.coarse()
	b := encode(m)
	for len(b) > memberlist.MetaMaxSize-ed25519.SignatureSize {
		switch {
		case len(m.Addrs) > 0:
			m.Addrs = m.Addrs[:len(m.Addrs)-1]
		case len(m.Running) > 0:
			m.Running = m.Running[:len(m.Running)-1]
		case m.Trouble != "":
			m.Trouble = ""
		default:
			m.Version, m.Role = "", ""
		}
		b = encode(m)
	}
	return sign(metaDomain, node, key, b)
}

func parseMeta(node string, key ed25519.PublicKey, b []byte) (m Meta, err error) {
	if b, err = open(metaDomain, node, key, b); err != nil {
		return m, err
	}
	if err := decoding.Unmarshal(b, &m); err != nil {
		return Meta{}, fmt.Errorf("what a node says of itself: %w", err)
	}
	return m, nil
}

func encode(v any) []byte { return must(encoding.Marshal(v)) }

// sign returns body behind a signature over what it is, whose it is, and body.
func sign(domain, node string, key ed25519.PrivateKey, body []byte) []byte {
	return append(ed25519.Sign(key, signed(domain, node, body)), body...)
}

// open returns the body of what [sign] has made.
func open(domain, node string, key ed25519.PublicKey, b []byte) ([]byte, error) {
	if len(key) != ed25519.PublicKeySize || len(b) < ed25519.SignatureSize {
		return nil, errSignature
	}
	sig, body := b[:ed25519.SignatureSize], b[ed25519.SignatureSize:]
	if !ed25519.Verify(key, signed(domain, node, body), sig) {
		return nil, errSignature
	}
	return body, nil
}

func signed(domain, node string, body []byte) []byte {
	b := append([]byte(domain), byte(len(node)))
	return append(append(b, node...), body...)
}
