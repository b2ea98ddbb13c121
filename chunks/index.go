package chunks

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"iter"
	"sync"
	"time"
)

// An Index lists the chunks that make up an image or an archive, in order. It
// is [Fixed] or [Dynamic] and safe for concurrent use. Methods that take the
// number of a chunk panic if it is not in [0, Len).
type Index interface {
	// Len returns the number of chunks, Size the bytes of content they make.
	Len() int
	Size() int64

	Digest(i int) Digest
	All() iter.Seq2[int, Digest]

	// Range returns which bytes of the content chunk i is: [start, end).
	Range(i int) (start, end int64)

	// Find returns the chunk that the byte at offset lies in, and false if
	// the content has no such byte.
	Find(offset int64) (i int, ok bool)

	// Csum returns the SHA-256 of the body, which is what a manifest states of
	// an index. It is computed when first asked for.
	Csum() Digest

	// Check makes the checks that opening leaves out because they read all of
	// the body: that the header's sum is that of the body, and that no digest
	// is zero. It fails with [ErrBadIndex]. The sum in the header is a hint,
	// and readers of the format go by Csum alone.
	Check() error

	UUID() UUID
	Ctime() time.Time

	// Bytes returns the index as a file. It must not be changed.
	Bytes() []byte
}

// ErrBadIndex says that a file is not a whole and consistent index.
var ErrBadIndex = errors.New("index is damaged")

// Layout of the header that both kinds of index begin with (PBS protocol notes
// §5.3, §5.4); the rest of its 4096 bytes is zero. Integers are little endian.
//
//	 0  8  magic
//	 8 16  UUID
//	24  8  time of creation, Unix seconds
//	32 32  SHA-256 of the body
//	64  8  size in bytes of the image, fixed only
//	72  8  size in bytes of a chunk, fixed only
const (
	indexHeaderSize = 4096

	uuidStart      = 8
	ctimeStart     = 24
	csumStart      = 32
	imageSizeStart = 64
	chunkSizeStart = 72
)

// MaxIndex is the longest index file in bytes that is opened or built: a fixed
// one of 128 TiB in chunks of 4 MiB. It bounds the memory that a client can
// make a server use.
const MaxIndex = 1 << 30

// A UUID tells two indexes of equal content apart.
type UUID [16]byte

// NewUUID returns a random UUID (RFC 9562, version 4).
func NewUUID() UUID {
	var u UUID
	rand.Read(u[:]) // never fails, see its documentation
	u[6] = u[6]&0x0f | 0x40
	u[8] = u[8]&0x3f | 0x80
	return u
}

// String returns u as "xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx".
func (u UUID) String() string {
	return fmt.Sprintf("%x-%x-%x-%x-%x", u[:4], u[4:6], u[6:8], u[8:10], u[10:])
}

// OpenIndex reads an index file of size bytes into memory and decides by its
// magic what it is. A file that is not an index fails with [ErrBadIndex].
func OpenIndex(r io.ReaderAt, size int64) (Index, error) {
	if size < indexHeaderSize || size > MaxIndex {
		return nil, fmt.Errorf("%w: the file has %d bytes, want %d to %d", ErrBadIndex, size, indexHeaderSize, MaxIndex)
	}
	file := make([]byte, size)
	if n, err := r.ReadAt(file, 0); n < len(file) {
		return nil, fmt.Errorf("read index: %w", err)
	}
	return ParseIndex(file)
}

// ParseIndex decides by its magic what index a file is. The result refers to
// file's memory, which may be a mapping and must not change.
func ParseIndex(file []byte) (Index, error) {
	magic, err := indexMagic(file)
	if err != nil {
		return nil, err
	}
	switch magic {
	case fixedMagic:
		return ParseFixed(file)
	case dynamicMagic:
		return ParseDynamic(file)
	}
	return nil, fmt.Errorf("%w: %x is not the magic of an index", ErrBadIndex, magic)
}

func indexMagic(file []byte) (magic [magicSize]byte, err error) {
	if len(file) < indexHeaderSize {
		return magic, fmt.Errorf("%w: %d bytes are too few for its header", ErrBadIndex, len(file))
	}
	return [magicSize]byte(file), nil
}

// An indexFile is what both kinds of index have in common.
type indexFile struct {
	file []byte
	csum func() Digest
}

func newIndexFile(file []byte) indexFile {
	return indexFile{file, sync.OnceValue(func() Digest { return sha256.Sum256(file[indexHeaderSize:]) })}
}

// Bytes returns the index as a file. It must not be changed.
func (x *indexFile) Bytes() []byte { return x.file }

// Csum returns the SHA-256 of the body. It is computed when first asked for.
func (x *indexFile) Csum() Digest { return x.csum() }

// UUID returns what tells the index from others of the same content.
func (x *indexFile) UUID() UUID { return UUID(x.file[uuidStart:]) }

// Ctime returns when the index was made, to the second.
func (x *indexFile) Ctime() time.Time {
	return time.Unix(int64(binary.LittleEndian.Uint64(x.file[ctimeStart:])), 0).UTC()
}

func (x *indexFile) body() []byte { return x.file[indexHeaderSize:] }

// finishHeader writes what both kinds of header have in common, when the body
// is complete.
func finishHeader(file []byte, magic [magicSize]byte, uuid UUID, ctime time.Time) {
	copy(file, magic[:])
	copy(file[uuidStart:], uuid[:])
	binary.LittleEndian.PutUint64(file[ctimeStart:], uint64(ctime.Unix()))
	csum := sha256.Sum256(file[indexHeaderSize:])
	copy(file[csumStart:], csum[:])
}

// checkIndex is the Check of both kinds.
func checkIndex(x Index) error {
	for i, d := range x.All() {
		if d == (Digest{}) {
			return fmt.Errorf("%w: chunk %d has no digest", ErrBadIndex, i)
		}
	}
	if stored, sum := Digest(x.Bytes()[csumStart:]), x.Csum(); stored != sum {
		return fmt.Errorf("%w: the body's sum is %s, its header says %s", ErrBadIndex, sum.Short(), stored.Short())
	}
	return nil
}

// digests yields a digest for each of n chunks.
func digests(n int, digest func(int) Digest) iter.Seq2[int, Digest] {
	return func(yield func(int, Digest) bool) {
		for i := range n {
			if !yield(i, digest(i)) {
				return
			}
		}
	}
}
