package join

import (
	"io"
	"time"

	"github.com/holdfast-mesh/holdfast/mesh/record"
)

// Protocol is the name of the streams that this package speaks. Anyone may
// open one.
const Protocol = "/holdfast/join/1"

// A Stream is a connection that proves who is at its other end.
type Stream interface {
	io.ReadWriteCloser
	SetDeadline(time.Time) error
}

// Four messages make a join: hello, challenge, request, accept. A member
// refuses instead of the second or the fourth.
type (
	hello struct {
		Version uint8    `cbor:"1,keyasint"`
		Cluster [16]byte `cbor:"2,keyasint"`
		Token   [8]byte  `cbor:"3,keyasint"`
		Nonce   [32]byte `cbor:"4,keyasint"`
	}
	challenge struct {
		Refusal *refusal `cbor:"1,keyasint,omitempty"`
		Nonce   [32]byte `cbor:"2,keyasint"`
		At      int64    `cbor:"3,keyasint"` // Unix seconds, by the clock of the member
		Links   [][]byte `cbor:"4,keyasint"` // the authority chain
	}
	request struct {
		Role   string        `cbor:"1,keyasint"`
		Site   string        `cbor:"2,keyasint"`
		Name   string        `cbor:"3,keyasint"`
		Seed   [64]byte      `cbor:"4,keyasint"` // signature of the statement by the seed of the token
		Node   [64]byte      `cbor:"5,keyasint"` // and by the machine
		Record record.Signed `cbor:"6,keyasint"`
	}
	accept struct {
		Refusal *refusal        `cbor:"1,keyasint,omitempty"`
		Pending bool            `cbor:"2,keyasint,omitempty"`
		Links   [][]byte        `cbor:"3,keyasint"`
		Records []record.Signed `cbor:"4,keyasint"`
		Seen    string          `cbor:"5,keyasint,omitempty"`
	}
)

const (
	version = 1

	maxSmall = 16 << 10 // bytes of a hello or a request
	maxLarge = 8 << 20  // of a challenge or an accept: the chain is in it

	helloTime = 20 * time.Second // for hello and challenge
	admitTime = 40 * time.Second // for request and accept: the leader is asked
)
