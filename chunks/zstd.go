package chunks

import (
	"errors"
	"fmt"
	"io"
	"runtime"
	"sync"

	"github.com/klauspost/compress/zstd"
)

// The encoder and the decoder are shared by the whole process: each keeps one
// set of tables per processor (some MB) and lets a caller wait for a free set,
// so memory is bounded however many goroutines encode at once. No goroutine
// belongs to either.
var (
	zstdEncoder = sync.OnceValue(func() *zstd.Encoder {
		e, err := zstd.NewWriter(nil,
			zstd.WithEncoderLevel(zstd.SpeedFastest), // level 1, as PBS clients use
			zstd.WithEncoderConcurrency(runtime.GOMAXPROCS(0)),
			zstd.WithEncoderCRC(false),   // the blob has a CRC of its own
			zstd.WithSingleSegment(true), // declares the length, however short
		)
		if err != nil {
			panic("the options of the zstd encoder contradict each other: " + err.Error())
		}
		return e
	})
	zstdDecoder = sync.OnceValue(func() *zstd.Decoder {
		d, err := zstd.NewReader(nil,
			zstd.WithDecoderConcurrency(runtime.GOMAXPROCS(0)),
			zstd.WithDecoderMaxMemory(MaxPlain),
			zstd.WithDecoderMaxWindow(MaxPlain),
		)
		if err != nil {
			panic("the options of the zstd decoder contradict each other: " + err.Error())
		}
		return d
	})
)

// A room returns empty memory for at most n bytes; exact says that there will
// be precisely so many. Less memory than n is slow but does no harm.
type room func(n int, exact bool) []byte

// unzstd decodes frames into memory of room. What it asks for is bounded by
// what the frames' block headers allow, whatever length they declare.
func unzstd(frames []byte, room room) ([]byte, error) {
	size, err := scanFrames(frames)
	if err != nil {
		return nil, fmt.Errorf("%w: zstd: %w", ErrCorrupt, err)
	}
	plain, err := zstdDecoder().DecodeAll(frames, room(size.bound, size.exact))
	if err != nil {
		return nil, fmt.Errorf("%w: zstd: %w", ErrCorrupt, err)
	}
	return plain, nil
}

// Of zstd's format (RFC 8878 §3.1.1.2): a block header has 3 bytes, and a
// block never holds more than 128 KiB of content.
const (
	zstdBlockHeader = 3
	zstdMaxBlock    = 128 << 10
	zstdChecksum    = 4

	zstdRawBlock = 0
	zstdRLEBlock = 1
)

// frameSize is what the headers of zstd data say about its content.
type frameSize struct {
	bound int  // it has no more bytes than this, nor than MaxPlain
	exact bool // it declares to have precisely this many
}

// scanFrames walks over the headers of all frames and blocks. It fails where
// they do not fit the data, or where the content is above [MaxPlain].
func scanFrames(p []byte) (frameSize, error) {
	var total uint64
	frames, declared := 0, false
	for ; len(p) > 0; frames++ {
		var h zstd.Header
		if err := h.Decode(p); err != nil {
			return frameSize{}, err
		}
		p = p[h.HeaderSize:]
		if h.Skippable {
			if uint64(len(p)) < uint64(h.SkippableSize) {
				return frameSize{}, io.ErrUnexpectedEOF
			}
			p = p[h.SkippableSize:]
			continue
		}
		size, rest, err := scanBlocks(p)
		if err != nil {
			return frameSize{}, err
		}
		if h.HasCheckSum {
			if len(rest) < zstdChecksum {
				return frameSize{}, io.ErrUnexpectedEOF
			}
			rest = rest[zstdChecksum:]
		}
		if declared = h.HasFCS; declared {
			if h.FrameContentSize > size {
				return frameSize{}, fmt.Errorf("a frame declares %d bytes, its blocks hold at most %d", h.FrameContentSize, size)
			}
			size = h.FrameContentSize
		}
		if total += size; declared && total > MaxPlain {
			return frameSize{}, fmt.Errorf("content of %d bytes is declared, at most %d are allowed", total, MaxPlain)
		}
		p = rest
	}
	if frames == 0 {
		return frameSize{}, errors.New("there is no frame")
	}
	return frameSize{bound: int(min(total, MaxPlain)), exact: frames == 1 && declared}, nil
}

// scanBlocks walks over the blocks of a frame and returns the most they can
// hold, and what follows the last.
func scanBlocks(p []byte) (size uint64, rest []byte, err error) {
	for last := false; !last; {
		if len(p) < zstdBlockHeader {
			return 0, nil, io.ErrUnexpectedEOF
		}
		header := uint32(p[0]) | uint32(p[1])<<8 | uint32(p[2])<<16
		p = p[zstdBlockHeader:]
		last = header&1 != 0
		stored, content := int(header>>3), zstdMaxBlock
		switch header >> 1 & 3 {
		case zstdRawBlock:
			content = stored
		case zstdRLEBlock:
			stored, content = 1, min(stored, zstdMaxBlock)
		}
		if len(p) < stored {
			return 0, nil, io.ErrUnexpectedEOF
		}
		p = p[stored:]
		size += uint64(content)
	}
	return size, p, nil
}
