package disk

import (
	"bufio"
	"errors"
	"fmt"
	"io"
)

// A journalReader reads a journal file from front to end.
type journalReader struct {
	file File
	name string
	size int64
	salt journalSalt
}

// newJournalReader reads the header.
func newJournalReader(f File, name string) (*journalReader, error) {
	size, err := f.Size()
	if err != nil {
		return nil, fmt.Errorf("read journal %s: %w", name, err)
	}
	if size < headerBytes { // a journal appears under its name when its header is durable
		return nil, &JournalError{name, 0, fmt.Errorf("%d bytes are not even a header", size)}
	}
	b := make([]byte, headerBytes)
	if _, err := io.ReadFull(io.NewSectionReader(f, 0, size), b); err != nil {
		return nil, fmt.Errorf("read journal %s: %w", name, err)
	}
	salt, err := parseJournalHeader(name, b)
	return &journalReader{f, name, size, salt}, err
}

// replay calls fn for each record and returns where they end, and whether a
// mark ends them. Behind that is the torn tail, if there is any.
func (r *journalReader) replay(fn func([]byte) error) (end int64, marked bool, err error) {
	const chunk = 256 << 10 // per read; large enough for any disk
	in := bufio.NewReaderSize(io.NewSectionReader(r.file, headerBytes, r.size-headerBytes), chunk)
	for end = headerBytes; end < r.size; {
		head, payload, err := r.next(in, end)
		if errors.Is(err, errTorn) {
			return end, marked, r.checkTail(end)
		}
		if err != nil {
			return end, marked, fmt.Errorf("read journal %s at offset %d: %w", r.name, end, err)
		}
		if marked = head.isMark(); !marked {
			if err := fn(payload); err != nil {
				return end, marked, fmt.Errorf("replay journal %s, record at offset %d: %w", r.name, end, err)
			}
		}
		end += recordBytes + head.payload()
	}
	return end, marked, nil
}

// errTorn says that no whole record begins here.
var errTorn = errors.New("no whole record")

// next reads the record at pos, which is where in stands.
func (r *journalReader) next(in io.Reader, pos int64) (recordHead, []byte, error) {
	if r.size-pos < recordBytes {
		return recordHead{}, nil, errTorn
	}
	var b [recordBytes]byte
	if _, err := io.ReadFull(in, b[:]); err != nil {
		return recordHead{}, nil, err
	}
	head, ok := r.salt.parseHead(b[:], pos)
	if !ok || head.payload() > r.size-pos-recordBytes {
		return head, nil, errTorn
	}
	payload := make([]byte, head.payload()) // at most MaxRecord, and at most the file
	if _, err := io.ReadFull(in, payload); err != nil {
		return head, nil, err
	}
	if !r.salt.matches(head, pos, payload) {
		return head, nil, errTorn
	}
	return head, payload, nil
}

// checkTail fails if what begins at pos and is no record was durable once,
// which any later head can say.
func (r *journalReader) checkTail(pos int64) error {
	const window = 1 << 20
	buf := make([]byte, min(window, r.size-pos))
	for at := pos; r.size-at >= recordBytes; {
		b := buf[:min(int64(len(buf)), r.size-at)]
		if n, err := r.file.ReadAt(b, at); n < len(b) {
			return fmt.Errorf("read journal %s at offset %d: %w", r.name, at, err)
		}
		heads := int64(len(b)) - recordBytes + 1 // places in b where a head fits
		for i := range heads {
			if head, ok := r.salt.parseHead(b[i:], at+i); ok && head.synced > pos {
				return &JournalError{r.name, pos, fmt.Errorf("the record at offset %d was written when this one was durable", at+i)}
			}
		}
		at += heads
	}
	return nil
}
