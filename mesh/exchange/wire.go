package exchange

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/holdfast-mesh/holdfast/mesh/feed"
)

// A session is one stream: the asking node sends requests and gets one answer
// to each. Both are frames: a length, u32 big endian, and that many bytes.
//
//	request  version u8 = 1 | kind u8 | origin 32 | epoch u64 | seq u64
//	heads    count u32, and for each: origin 32 | epoch u64 | seq u64 | hash 32 | forked u8
//	after    count u32, and for each: length u32, record
//	proof    a proof as [feed.Fork.Bytes] writes it, empty if there is none
const (
	wireVersion = 1
	askHeads    = 1
	askAfter    = 2 // records behind a place
	askProof    = 3

	requestSize = 2 + 32 + 8 + 8
	headSize    = 32 + 8 + 8 + 32 + 1
	maxOrigins  = 4096
	batchSize   = 256 << 10 // bytes of records in an answer
	batchCount  = 1024
	maxAnswer   = batchSize + feed.MaxData + 64<<10
)

var errWire = errors.New("not an answer of a feed exchange")

type request struct {
	kind   byte
	origin feed.Origin
	epoch  uint64
	seq    uint64
}

func (r request) bytes() []byte {
	b := append([]byte{wireVersion, r.kind}, r.origin[:]...)
	b = binary.BigEndian.AppendUint64(b, r.epoch)
	return binary.BigEndian.AppendUint64(b, r.seq)
}

func parseRequest(b []byte) (r request, err error) {
	if len(b) != requestSize || b[0] != wireVersion || b[1] < askHeads || b[1] > askProof {
		return r, fmt.Errorf("a request of %d bytes: %w", len(b), errWire)
	}
	return request{b[1], feed.Origin(b[2:34]), binary.BigEndian.Uint64(b[34:]), binary.BigEndian.Uint64(b[42:])}, nil
}

func (p placed) bytes() []byte {
	b := binary.BigEndian.AppendUint64(append([]byte{}, p.origin[:]...), p.Epoch)
	return append(binary.BigEndian.AppendUint64(b, p.Seq), p.Hash[:]...)
}

// A theirHead is where a feed ends at a peer.
type theirHead struct {
	placed
	forked bool
}

func encodeHeads(all []theirHead) []byte {
	all = all[:min(len(all), maxOrigins)]
	b := binary.BigEndian.AppendUint32(make([]byte, 0, 4+len(all)*headSize), uint32(len(all)))
	for _, h := range all {
		flag := byte(0)
		if h.forked {
			flag = 1
		}
		b = append(append(b, h.bytes()...), flag)
	}
	return b
}

func parseHeads(b []byte) ([]theirHead, error) {
	if len(b) < 4 {
		return nil, errWire
	}
	n := binary.BigEndian.Uint32(b)
	if b = b[4:]; n > maxOrigins || len(b) != int(n)*headSize {
		return nil, fmt.Errorf("%d heads in %d bytes: %w", n, len(b), errWire)
	}
	all := make([]theirHead, n)
	for i := range all {
		h := b[i*headSize:]
		if h[headSize-1] > 1 {
			return nil, errWire
		}
		all[i] = theirHead{placed{feed.Origin(h[:32]), feed.Head{
			Epoch: binary.BigEndian.Uint64(h[32:]), Seq: binary.BigEndian.Uint64(h[40:]), Hash: [32]byte(h[48:80]),
		}}, h[headSize-1] == 1}
	}
	return all, nil
}

func encodeRecords(all [][]byte) []byte {
	b := binary.BigEndian.AppendUint32(nil, uint32(len(all)))
	for _, r := range all {
		b = append(binary.BigEndian.AppendUint32(b, uint32(len(r))), r...)
	}
	return b
}

func parseRecords(b []byte) ([][]byte, error) {
	if len(b) < 4 {
		return nil, errWire
	}
	n := binary.BigEndian.Uint32(b)
	if b = b[4:]; n > batchCount {
		return nil, fmt.Errorf("%d records: %w", n, errWire)
	}
	all := make([][]byte, n)
	for i := range all {
		if len(b) < 4 {
			return nil, errWire
		}
		size := binary.BigEndian.Uint32(b)
		if b = b[4:]; uint64(size) > uint64(len(b)) {
			return nil, errWire
		}
		all[i], b = b[:size], b[size:]
	}
	if len(b) > 0 {
		return nil, errWire
	}
	return all, nil
}

func writeFrame(w io.Writer, b []byte) error {
	_, err := w.Write(append(binary.BigEndian.AppendUint32(make([]byte, 0, 4+len(b)), uint32(len(b))), b...))
	return err
}

func readFrame(r io.Reader, limit int) ([]byte, error) {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint32(head[:])
	if uint64(n) > uint64(limit) {
		return nil, fmt.Errorf("%d bytes, want at most %d: %w", n, limit, errWire)
	}
	b := make([]byte, n)
	_, err := io.ReadFull(r, b)
	return b, err
}
