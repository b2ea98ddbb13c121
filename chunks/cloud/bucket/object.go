package bucket

import (
	"bytes"
	"context"
	"crypto/md5"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/smithy-go/middleware"
	smithyhttp "github.com/aws/smithy-go/transport/http"
)

// writeMark is the metadata that tells our own write from somebody else's
// when the reply was lost.
const writeMark = "hf-write"

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// An Info describes an object.
type Info struct {
	Key   string // below the prefix
	Size  int64
	ETag  string
	Class string // storage class, where the store tells
	Time  time.Time

	Restoring bool      // a copy that can be read is being made: of [Bucket.ListRestoring] only
	Restored  time.Time // until when there is one; zero: there is none
}

// A Body is what an upload sends. It is read again for another attempt.
type Body interface {
	io.ReaderAt
	Size() int64
}

// A PutOption says under which condition something is written.
type PutOption struct {
	New     bool   // only if there is no such object
	IfMatch string // only if the object has this ETag
	Class   string // storage class
	Keep    bool   // locked as the bucket's policy says
	CRC32C  uint32 // of the body, if it is known: then the body need not be summed first; 0: it is not
}

// Put writes an object with one request and returns when the store has
// confirmed its sum. With a condition it fails with [ErrExists] or
// [ErrChanged]; a reply that is lost does not make our own write look like
// somebody else's.
func (b *Bucket) Put(ctx context.Context, key string, body Body, opt PutOption) (Info, error) {
	mark := rand.Text()
	in := b.putInput(key, body, opt, mark)
	payload, err := b.sums(in, body, opt)
	if err != nil {
		return Info{}, &Error{Op: "put", Key: key, Place: b.String(), Err: err}
	}
	conditional := opt.New || opt.IfMatch != ""
	info := Info{Key: key, Size: body.Size()}
	broken := false // the attempt before ended without an answer: what has become of it is not known
	err = b.try(ctx, "put", key, func(ctx context.Context, w *watch) error {
		if broken && conditional {
			if done, err := b.settled(ctx, &info, opt, mark); done || err != nil {
				return err
			}
		}
		w.armed(true)
		in.Body = &upload{r: io.NewSectionReader(body, 0, body.Size()), w: w, acc: b.cfg.Account, ctx: ctx, left: body.Size()}
		out, err := b.client.PutObject(ctx, in, signed(payload))
		if err == nil {
			info.ETag = aws.ToString(out.ETag)
			return checkSum(in, out)
		}
		v := b.judge(ctx, err)
		broken = unanswered(err)
		if conditional && errors.Is(v.err, ErrExists) {
			if done, serr := b.settled(ctx, &info, PutOption{}, mark); done || serr != nil {
				return serr
			}
		}
		return err
	})
	var failed *Error
	if errors.As(err, &failed) && errors.Is(failed.Err, ErrExists) && opt.IfMatch != "" {
		failed.Err = fmt.Errorf("%w: %w", ErrChanged, failed.Err)
	}
	if errors.Is(err, ErrNotFound) && opt.IfMatch != "" {
		failed.Err = fmt.Errorf("%w: %w", ErrChanged, failed.Err)
	}
	return info, err
}

// settled tells whether a write has come to its end though the answer to it was
// lost, or was that somebody came first: it is there and ours, or it cannot be
// written any more, which is an error. Some stores break the connection of a large
// body that they refuse, so the body is not sent again to find out.
func (b *Bucket) settled(ctx context.Context, info *Info, opt PutOption, mark string) (done bool, err error) {
	got, mine, err := b.head(ctx, info.Key, mark)
	switch {
	case err != nil && errors.Is(b.judge(ctx, err).err, ErrNotFound):
		return false, nil // the condition decides
	case err != nil:
		return false, err
	case mine && got.Size == info.Size:
		info.ETag = got.ETag
		return true, nil
	case opt.New:
		return false, ErrExists
	case opt.IfMatch != "" && got.ETag != opt.IfMatch:
		return false, ErrExists
	}
	return false, nil
}

// unanswered reports whether a request ended without an answer.
func unanswered(err error) bool {
	var resp *smithyhttp.ResponseError
	return !errors.As(err, &resp) || resp.HTTPStatusCode() == 0
}

// putInput sets the headers. Sums are plain headers, computed by us.
func (b *Bucket) putInput(key string, body Body, opt PutOption, mark string) *s3.PutObjectInput {
	in := &s3.PutObjectInput{
		Bucket: b.name(), Key: b.key(key), ContentLength: aws.Int64(body.Size()),
		ContentType: aws.String("application/octet-stream"),
		Metadata:    map[string]string{writeMark: mark},
	}
	if opt.New {
		in.IfNoneMatch = aws.String("*")
	}
	if opt.IfMatch != "" {
		in.IfMatch = aws.String(opt.IfMatch)
	}
	if opt.Keep {
		b.keep(in, time.Now())
	}
	if opt.Class != "" {
		in.StorageClass = types.StorageClass(opt.Class)
	}
	return in
}

// sums sets the sums of a body, for which it is read once at most: not at all
// where the store compares a CRC that is known, and TLS keeps the request.
func (b *Bucket) sums(in *s3.PutObjectInput, body Body, opt PutOption) (payload string, err error) {
	crc, sum, sha := crc32.New(castagnoli), md5.New(), sha256.New()
	var dst []io.Writer
	if !b.cfg.Can.CRC32C {
		dst = append(dst, sum)
	} else if opt.CRC32C == 0 {
		dst = append(dst, crc)
	}
	if b.plain {
		dst = append(dst, sha)
	}
	if len(dst) > 0 {
		buf := make([]byte, min(body.Size(), 1<<20)+1)
		if _, err := io.CopyBuffer(io.MultiWriter(dst...), struct{ io.Reader }{io.NewSectionReader(body, 0, body.Size())}, buf); err != nil {
			return "", err
		}
	}
	if !b.cfg.Can.CRC32C {
		in.ContentMD5 = aws.String(base64.StdEncoding.EncodeToString(sum.Sum(nil)))
	} else {
		text := crc.Sum(nil)
		if opt.CRC32C != 0 {
			text = binary.BigEndian.AppendUint32(nil, opt.CRC32C)
		}
		in.ChecksumCRC32C = aws.String(base64.StdEncoding.EncodeToString(text))
	}
	if b.plain {
		payload = hex.EncodeToString(sha.Sum(nil))
	}
	return payload, nil
}

// signed tells the SDK the sum of a body, which it would read all of to sign a
// request that goes without TLS.
func signed(payload string) func(*s3.Options) {
	return func(o *s3.Options) {
		if payload == "" {
			return
		}
		o.APIOptions = append(o.APIOptions, func(stack *middleware.Stack) error {
			return stack.Build.Add(middleware.BuildMiddlewareFunc("holdfastPayload", func(ctx context.Context, in middleware.BuildInput, next middleware.BuildHandler) (middleware.BuildOutput, middleware.Metadata, error) {
				return next.HandleBuild(v4.SetPayloadHash(ctx, payload), in)
			}), middleware.After)
		})
	}
}

// checkSum compares what the store says that it stored with what was sent.
func checkSum(in *s3.PutObjectInput, out *s3.PutObjectOutput) error {
	if in.ChecksumCRC32C != nil && out.ChecksumCRC32C != nil && *in.ChecksumCRC32C != *out.ChecksumCRC32C {
		return fmt.Errorf("%w: the store has CRC %s, sent was %s", ErrShort, *out.ChecksumCRC32C, *in.ChecksumCRC32C)
	}
	return nil
}

// An upload is a body on its way: counted by the watchdog, limited, seekable
// because the SDK sums it first on plain HTTP.
type upload struct {
	r    *io.SectionReader
	w    *watch
	acc  *Account
	ctx  context.Context
	left int64
}

func (u *upload) Read(p []byte) (int, error) {
	n, err := u.r.Read(p)
	u.w.moved.Add(int64(n))
	meterOf(u.ctx).sends(n)
	if at, _ := u.r.Seek(0, io.SeekCurrent); at == u.r.Size() {
		u.w.armed(false) // now it is the reply that we wait for
	}
	if werr := u.acc.out.WaitN(u.ctx, n); werr != nil && err == nil {
		err = werr
	}
	return n, err
}

func (u *upload) Seek(off int64, whence int) (int64, error) {
	u.w.armed(true)
	return u.r.Seek(off, whence)
}

// PutBytes is [Bucket.Put] of what is in memory.
func (b *Bucket) PutBytes(ctx context.Context, key string, body []byte, opt PutOption) (Info, error) {
	return b.Put(ctx, key, bytes.NewReader(body), opt)
}

// head asks for an object, and whether it has our mark.
func (b *Bucket) head(ctx context.Context, key, mark string) (Info, bool, error) {
	out, err := b.client.HeadObject(ctx, &s3.HeadObjectInput{Bucket: b.name(), Key: b.key(key)})
	if err != nil {
		return Info{}, false, err
	}
	info := Info{
		Key: key, Size: aws.ToInt64(out.ContentLength), ETag: aws.ToString(out.ETag),
		Class: string(out.StorageClass), Time: aws.ToTime(out.LastModified),
	}
	return info, mark != "" && out.Metadata[writeMark] == mark, nil
}

// Head describes an object.
func (b *Bucket) Head(ctx context.Context, key string) (info Info, err error) {
	err = b.try(ctx, "head", key, func(ctx context.Context, _ *watch) (err error) {
		info, _, err = b.head(ctx, key, "")
		return err
	})
	return info, err
}

// Get returns a whole object of at most limit bytes.
func (b *Bucket) Get(ctx context.Context, key string, limit int64) (body []byte, info Info, err error) {
	err = b.try(ctx, "get", key, func(ctx context.Context, w *watch) error {
		in := &s3.GetObjectInput{Bucket: b.name(), Key: b.key(key)}
		if b.cfg.Can.CRC32C {
			in.ChecksumMode = types.ChecksumModeEnabled // the SDK compares what it reads with it
		}
		out, err := b.client.GetObject(ctx, in)
		if err != nil {
			return err
		}
		defer out.Body.Close()
		size := aws.ToInt64(out.ContentLength)
		if size < 0 || size > limit { // garbage, whatever it is: no other attempt makes it shorter
			return fmt.Errorf("%w: the object has %d bytes, want at most %d", ErrLength, size, limit)
		}
		w.armed(true)
		body = make([]byte, size)
		if _, err := io.ReadFull(&moving{out.Body, w}, body); err != nil {
			return shortBody(err)
		}
		if _, err := out.Body.Read(make([]byte, 1)); err != nil && !errors.Is(err, io.EOF) {
			return fmt.Errorf("%w: %w", ErrShort, err) // only at its end a sum is compared
		}
		info = Info{Key: key, Size: size, ETag: aws.ToString(out.ETag), Time: aws.ToTime(out.LastModified)}
		return nil
	})
	return body, info, err
}

// shortBody makes an error of a body that ended early: HTTP has ways to cut
// one that look like its end.
func shortBody(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("%w: the body ended early: %w", ErrShort, err)
	}
	return err
}

// moving tells the watchdog what arrives.
type moving struct {
	r io.Reader
	w *watch
}

func (m *moving) Read(p []byte) (int, error) {
	n, err := m.r.Read(p)
	m.w.moved.Add(int64(n))
	return n, err
}

// deleteBatch is how many keys one request may delete.
const deleteBatch = 1000

// Delete deletes objects, a thousand with one request where the store can. An
// object that is not there is no error.
func (b *Bucket) Delete(ctx context.Context, keys ...string) error {
	for len(keys) > 0 {
		n := min(len(keys), deleteBatch)
		if n == 1 || !b.cfg.Can.DeleteMany {
			n = 1
		}
		batch := keys[:n]
		keys = keys[n:]
		err := b.try(ctx, "delete", batch[0], func(ctx context.Context, _ *watch) error {
			if len(batch) > 1 {
				return b.deleteMany(ctx, batch)
			}
			_, err := b.client.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: b.name(), Key: b.key(batch[0])})
			return err
		})
		if err != nil && !errors.Is(err, ErrNotFound) {
			return err
		}
	}
	return nil
}

func (b *Bucket) deleteMany(ctx context.Context, keys []string) error {
	in := &s3.DeleteObjectsInput{Bucket: b.name(), Delete: &types.Delete{Quiet: aws.Bool(true)}}
	for _, k := range keys {
		in.Delete.Objects = append(in.Delete.Objects, types.ObjectIdentifier{Key: b.key(k)})
	}
	out, err := b.client.DeleteObjects(ctx, in)
	if err != nil {
		return err
	}
	for _, e := range out.Errors {
		if aws.ToString(e.Code) != "NoSuchKey" {
			err := fmt.Errorf("%d of %d objects were not deleted, the first is %s: %s: %s", len(out.Errors), len(keys),
				aws.ToString(e.Key), aws.ToString(e.Code), aws.ToString(e.Message))
			if aws.ToString(e.Code) == "AccessDenied" {
				err = fmt.Errorf("%w: %w", ErrDenied, err)
			}
			return err
		}
	}
	return nil
}
