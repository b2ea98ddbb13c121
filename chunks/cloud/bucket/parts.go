package bucket

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
)

// A Part is a stretch of an object.
type Part struct{ Off, N int64 }

// GetRange fills buf from off of an object, in as many requests as it takes:
// what arrived before a connection broke is not asked for again. size is the
// length that the object must have.
func (b *Bucket) GetRange(ctx context.Context, key string, buf []byte, off, size int64) error {
	got := 0
	return b.ranged(ctx, key, off, off+int64(len(buf)), size, func(r io.Reader, _ *watch) (int64, error) {
		n, err := io.ReadFull(r, buf[got:])
		got += n
		return int64(n), err
	})
}

// GetParts reads parts of an object, which lie one behind the other, with one
// request, and hands over each as soon as it is here: no more than the longest
// of them is in memory. What lies between them is dropped. A body is valid only
// during the call; an error of fn ends the transfer and is returned as it is.
func (b *Bucket) GetParts(ctx context.Context, key string, parts []Part, size int64, fn func(i int, body []byte) error) error {
	a := assembly{parts: parts, fn: fn, at: parts[0].Off}
	last := parts[len(parts)-1]
	err := b.ranged(ctx, key, a.at, last.Off+last.N, size, a.read)
	if a.stopped != nil {
		return a.stopped
	}
	return err
}

// An assembly puts parts together, over as many connections as it takes.
type assembly struct {
	parts   []Part // left
	done    int
	fn      func(int, []byte) error
	at      int64  // where the transfer is
	buf     []byte // what is here of the first part
	stopped error  // by fn
}

// errStopped ends a transfer that nobody wants any more.
var errStopped = errors.New("stopped")

func (a *assembly) read(r io.Reader, w *watch) (int64, error) {
	began := a.at
	for len(a.parts) > 0 {
		p := a.parts[0]
		if a.at < p.Off {
			n, err := io.CopyN(io.Discard, r, p.Off-a.at)
			if a.at += n; err != nil {
				return a.at - began, err
			}
		}
		got := a.at - p.Off
		a.buf = slices.Grow(a.buf[:got], int(p.N-got))[:p.N]
		n, err := io.ReadFull(r, a.buf[got:])
		if a.at += int64(n); err != nil {
			return a.at - began, err
		}
		w.armed(false) // the time that fn takes is not the store's
		if a.stopped = a.fn(a.done, a.buf); a.stopped != nil {
			return a.at - began, errStopped
		}
		w.moved.Add(minProgress)
		w.armed(true)
		a.parts, a.done = a.parts[1:], a.done+1
	}
	return a.at - began, nil
}

// ranged asks for the bytes from off to end, of an object of size bytes, and
// lets read take them. It asks again for what read did not get.
func (b *Bucket) ranged(ctx context.Context, key string, off, end, size int64, read func(io.Reader, *watch) (int64, error)) error {
	etag := ""
	return b.try(ctx, "get", key, func(ctx context.Context, w *watch) error {
		in := &s3.GetObjectInput{Bucket: b.name(), Key: b.key(key), Range: aws.String(fmt.Sprintf("bytes=%d-%d", off, end-1))}
		if etag != "" {
			in.IfMatch = aws.String(etag)
		}
		out, err := b.client.GetObject(ctx, in)
		if err != nil {
			return err
		}
		defer out.Body.Close()
		if want := fmt.Sprintf("bytes %d-%d/%d", off, end-1, size); aws.ToString(out.ContentRange) != want {
			if _, total, ok := strings.Cut(aws.ToString(out.ContentRange), "/"); ok && total != "*" && total != strconv.FormatInt(size, 10) {
				return fmt.Errorf("%w: %s bytes, want %d", ErrLength, total, size)
			}
			return fmt.Errorf("%w: range %q, want %q", ErrShort, aws.ToString(out.ContentRange), want)
		}
		if etag != "" && aws.ToString(out.ETag) != etag {
			return ErrChanged
		}
		etag = aws.ToString(out.ETag)
		w.armed(true)
		n, err := read(&moving{out.Body, w}, w)
		off += n
		if errors.Is(err, errStopped) {
			return nil
		}
		if n >= minProgress && err != nil { // less does not count: it would never end
			w.resumed.Store(true)
		}
		return shortBody(err)
	})
}
