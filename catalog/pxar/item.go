package pxar

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"

	"github.com/holdfast-mesh/holdfast/catalog/pxar/goodbye"
)

// ErrFormat says that bytes are not the archive or catalog they should be.
// Errors of reading do not match it.
var ErrFormat = errors.New("malformed archive")

// malformed returns an error that matches [ErrFormat].
func malformed(at int64, format string, args ...any) error {
	return fmt.Errorf("%w: offset %d: %s", ErrFormat, at, fmt.Sprintf(format, args...))
}

// headerSize is the length of an item's header: type and size of the whole
// item, two little-endian words (§1).
const headerSize = goodbye.HeaderSize

// An itemType says what an item holds. The values are the SipHash-2-4 of label
// strings (§1).
type itemType uint64

const (
	itemVersion         itemType = 0x730f6c75df16a40d
	itemPrelude         itemType = 0xe309d79d9f7b771b
	itemEntry           itemType = 0xd5956474e588acef
	itemEntryV1         itemType = 0x11da850a1c1cceff
	itemFilename        itemType = 0x16701121063917b3
	itemSymlink         itemType = 0x27f971e7dbf5dc5f
	itemHardlink        itemType = 0x51269c8422bd7275
	itemDevice          itemType = 0x9fc9e906586d5ce9
	itemXattr           itemType = 0x0dab0229b57dcd03
	itemACLUser         itemType = 0x2ce8540a457d55b8
	itemACLGroup        itemType = 0x136e3eceb04c03ab
	itemACLGroupObj     itemType = 0x10868031e9582876
	itemACLDefault      itemType = 0xbbbb13415a6896f5
	itemACLDefaultUser  itemType = 0xc89357b40532cd1f
	itemACLDefaultGroup itemType = 0xf90a8a5816038ffe
	itemFCaps           itemType = 0x2da9dd9db5f7fb67
	itemProjectID       itemType = 0xe07540e82f7d1cbb
	itemPayload         itemType = 0x28147a1b0b7c1a25
	itemPayloadRef      itemType = 0x419d3d6bc4ba977e
	itemGoodbye         itemType = goodbye.Type
	itemPayloadStart    itemType = 0x834c68c2194a4ed2
	itemPayloadTail     itemType = 0x6c72b78b984c81b5
)

// Limits of the format (§1), in bytes.
const (
	// MaxName is the longest name of an entry, symbolic link target and hard
	// link target: a page, as in Linux paths.
	MaxName = 4096

	// MaxXattrName is the longest name of an extended attribute in Linux.
	MaxXattrName = 255

	// MaxXattr is the longest attribute, name and value together, and the
	// longest capability set.
	MaxXattr = MaxXattrName + 64<<10

	// maxPrelude bounds an item for which the format gives no limit. Clients
	// store exclude patterns in it: command lines end at 2 MiB.
	maxPrelude = 4 << 20

	// maxAttributes bounds what the attributes of one entry may take. Linux
	// lists at most 64 KiB of attribute names per file; the largest sets seen
	// are far below a megabyte.
	maxAttributes = 16 << 20
)

// A shape is what a reader must know of an item before it reads the content.
type shape struct {
	name     string
	min, max uint64 // length of the content
}

var shapes = map[itemType]shape{
	itemVersion:         {"version", 8, 8},
	itemPrelude:         {"prelude", 0, maxPrelude},
	itemEntry:           {"entry", 40, 40},
	itemEntryV1:         {"old entry", 32, 32},
	itemFilename:        {"name", 2, MaxName + 1},
	itemSymlink:         {"symbolic link", 1, MaxName + 1},
	itemHardlink:        {"hard link", 10, MaxName + 9},
	itemDevice:          {"device", 16, 16},
	itemXattr:           {"extended attribute", 2, MaxXattr},
	itemACLUser:         {"ACL user", 16, 16},
	itemACLGroup:        {"ACL group", 16, 16},
	itemACLGroupObj:     {"ACL group object", 8, 8},
	itemACLDefault:      {"default ACL", 32, 32},
	itemACLDefaultUser:  {"default ACL user", 16, 16},
	itemACLDefaultGroup: {"default ACL group", 16, 16},
	itemFCaps:           {"capabilities", 0, MaxXattr},
	itemProjectID:       {"project ID", 8, 8},
	itemPayload:         {"payload", 0, math.MaxInt64 - headerSize},
	itemPayloadRef:      {"payload reference", 16, 16},
	itemGoodbye:         {"goodbye table", goodbye.RecordSize, (goodbye.MaxEntries + 1) * goodbye.RecordSize},
	itemPayloadStart:    {"payload start", 0, 0},
	itemPayloadTail:     {"payload tail", 0, 0},
}

func (t itemType) String() string {
	if s, ok := shapes[t]; ok {
		return s.name
	}
	return fmt.Sprintf("item of type %016x", uint64(t))
}

// A header is the head of an item that was found at the offset at.
type header struct {
	typ    itemType
	at     int64
	length int64 // of the content
}

// parseHeader checks the 16 bytes at offset at: a known type, with a content
// whose length that type may have.
func parseHeader(raw *[headerSize]byte, at int64) (header, error) {
	t := itemType(binary.LittleEndian.Uint64(raw[:]))
	size := binary.LittleEndian.Uint64(raw[8:])
	s, ok := shapes[t]
	if !ok {
		return header{}, malformed(at, "unknown %v", t)
	}
	if size < headerSize || size-headerSize < s.min || size-headerSize > s.max {
		return header{}, malformed(at, "%v has a size of %d bytes", t, size)
	}
	return header{typ: t, at: at, length: int64(size - headerSize)}, nil
}

// start is the offset of the content.
func (h header) start() int64 { return h.at + headerSize }
