package bucket

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
)

// Capabilities are what a store was seen to do. The zero value is the least
// that any store does.
type Capabilities struct {
	CreateOnce bool          `json:"create-once"` // a second PUT with If-None-Match is refused
	Replace    bool          `json:"replace"`     // a PUT with a stale If-Match is refused
	Races      bool          `json:"races"`       // of several who create at once, one wins
	CRC32C     bool          `json:"crc32c"`      // a wrong x-amz-checksum-crc32c is refused
	MD5        bool          `json:"md5"`         // a wrong Content-MD5 is refused
	DeleteMany bool          `json:"delete-many"` // one request deletes several objects
	DeleteIf   bool          `json:"delete-if"`   // a DELETE with a stale If-Match is refused
	Ranges     bool          `json:"ranges"`      // a part of an object can be read
	Lists      bool          `json:"lists"`       // a listing shows a write and a delete at once
	OddKeys    bool          `json:"odd-keys"`    // keys with spaces, +, % and non-ASCII come back
	Skew       time.Duration `json:"clock-skew"`
}

// Fenced reports whether the store can keep two writers apart.
func (c Capabilities) Fenced() bool { return c.CreateOnce && c.Replace && c.Races }

// maxSkew is how far clocks may be apart; S3 refuses requests at 15 minutes.
const maxSkew = 5 * time.Minute

// Usable says why a store cannot hold packs at all. Missing conditions are not
// such a reason; see [Capabilities.Fenced].
func (c Capabilities) Usable() error {
	switch {
	case !c.Ranges:
		return errors.New("the store cannot return a part of an object")
	case !c.Lists:
		return fmt.Errorf("%w: what was just written is not in it", ErrListing)
	case c.Skew.Abs() > maxSkew:
		return fmt.Errorf("%w: it is %s ahead of ours", ErrClock, c.Skew.Round(time.Second))
	}
	return nil
}

// Probe finds out what the store does, by doing it on small objects below
// probe/ that it removes again; about 60 requests. It relies on nothing and
// fails only if not even plain objects can be written.
func (b *Bucket) Probe(ctx context.Context) (Capabilities, error) {
	p := &probe{b: b.With(Capabilities{}), dir: "probe/" + rand.Text() + "/"}
	if err := p.basics(ctx); err != nil {
		return Capabilities{}, err
	}
	for _, step := range []func(context.Context) error{p.creates, p.replaces, p.races, p.sums, p.deletes, p.oddKeys} {
		if err := step(ctx); err != nil {
			return Capabilities{}, err
		}
	}
	p.can.Skew = b.cfg.Account.Skew()
	return p.can, p.b.With(p.can).Delete(ctx, p.keys...)
}

type probe struct {
	b    *Bucket
	dir  string
	keys []string
	can  Capabilities
}

func (p *probe) key(name string) string {
	k := p.dir + name
	if !slices.Contains(p.keys, k) {
		p.keys = append(p.keys, k)
	}
	return k
}

// holds reports whether an object has just this content.
func (p *probe) holds(ctx context.Context, key, want string) (bool, error) {
	got, _, err := p.b.Get(ctx, key, 1<<20)
	if errors.Is(err, ErrNotFound) {
		return false, nil
	}
	return string(got) == want, err
}

// listed returns whether a listing has key.
func (p *probe) listed(ctx context.Context, key string) (found bool, err error) {
	err = p.b.List(ctx, p.dir, func(page []Info) error {
		found = found || slices.ContainsFunc(page, func(i Info) bool { return i.Key == key })
		return nil
	})
	return found, err
}

// basics writes, reads, lists and deletes.
func (p *probe) basics(ctx context.Context) error {
	key := p.key("plain")
	body := strings.Repeat("0123456789abcdef", 64)
	if _, err := p.b.PutBytes(ctx, key, []byte(body), PutOption{}); err != nil {
		return err
	}
	ok, err := p.holds(ctx, key, body)
	switch {
	case err != nil:
		return errors.Join(fmt.Errorf("what was written to %s does not come back", p.b), err)
	case !ok:
		return &Error{Op: "read back", Key: key, Place: p.b.String(), Err: fmt.Errorf("%w: it says that an object was written, and does not return it", ErrNoStore)}
	}
	part := make([]byte, 16)
	err = p.b.GetRange(ctx, key, part, 1000, int64(len(body)))
	p.can.Ranges = err == nil && string(part) == body[1000:1016]
	shown, err := p.listed(ctx, key)
	if err != nil && !errors.Is(err, ErrListing) {
		return err
	}
	if err := p.b.Delete(ctx, key); err != nil {
		return err
	}
	still, errAgain := p.listed(ctx, key)
	p.can.Lists = shown && !still && err == nil && errAgain == nil
	return nil
}

// refused tells a condition that was honoured. One that was not implemented
// is of as little use as one that was ignored.
func refused(err error) bool { return errors.Is(err, ErrExists) || errors.Is(err, ErrChanged) }

// creates looks whether If-None-Match keeps an object. A store that returns
// 200 and overwrites is the worst of all.
func (p *probe) creates(ctx context.Context) error {
	key := p.key("once")
	if _, err := p.b.PutBytes(ctx, key, []byte("first"), PutOption{New: true}); err != nil {
		return ctx.Err() // not implemented
	}
	_, err := p.b.PutBytes(ctx, key, []byte("second"), PutOption{New: true})
	no := refused(err)
	kept, err := p.holds(ctx, key, "first")
	p.can.CreateOnce = no && kept
	return err
}

// replaces looks whether If-Match keeps an object that has changed.
func (p *probe) replaces(ctx context.Context) error {
	key := p.key("replace")
	first, err := p.b.PutBytes(ctx, key, []byte("first"), PutOption{})
	if err != nil {
		return err
	}
	second, err := p.b.PutBytes(ctx, key, []byte("second"), PutOption{IfMatch: first.ETag})
	if err != nil {
		return ctx.Err()
	}
	_, err = p.b.PutBytes(ctx, key, []byte("third"), PutOption{IfMatch: first.ETag})
	no := refused(err)
	kept, err := p.holds(ctx, key, "second")
	p.can.Replace = no && kept && second.ETag != first.ETag
	return err
}

// races lets several create the same object at once.
func (p *probe) races(ctx context.Context) error {
	const rounds, racers = 2, 6
	if !p.can.CreateOnce {
		return nil
	}
	p.can.Races = true
	for round := range rounds {
		var wins atomic.Int32
		var wg sync.WaitGroup
		key := p.key(fmt.Sprint("race", round))
		for i := range racers {
			wg.Go(func() {
				if _, err := p.b.PutBytes(ctx, key, fmt.Append(nil, i), PutOption{New: true}); err == nil {
					wins.Add(1)
				}
			})
		}
		wg.Wait()
		p.can.Races = p.can.Races && wins.Load() == 1
	}
	return ctx.Err()
}

// sums sends sums that are wrong, and hopes to be refused.
func (p *probe) sums(ctx context.Context) error {
	wrong := func(set func(*s3.PutObjectInput)) bool {
		body := []byte("body")
		in := &s3.PutObjectInput{Bucket: p.b.name(), Key: p.b.key(p.key("sum")), Body: bytes.NewReader(body), ContentLength: aws.Int64(4)}
		set(in)
		_, err := p.b.client.PutObject(ctx, in)
		return err != nil && !p.b.judge(ctx, err).throttle && ctx.Err() == nil
	}
	right := func(set func(*s3.PutObjectInput)) bool { return !wrong(set) }
	crc := func(v string) func(*s3.PutObjectInput) {
		return func(in *s3.PutObjectInput) { in.ChecksumCRC32C = aws.String(v) }
	}
	md := func(v []byte) func(*s3.PutObjectInput) {
		return func(in *s3.PutObjectInput) { in.ContentMD5 = aws.String(base64.StdEncoding.EncodeToString(v)) }
	}
	p.can.CRC32C = wrong(crc("AAAAAA==")) && right(crc(sumOf("body")))
	p.can.MD5 = wrong(md(make([]byte, 16)))
	return ctx.Err()
}

// sumOf is the CRC-32C as the header has it.
func sumOf(s string) string {
	return base64.StdEncoding.EncodeToString(binary.BigEndian.AppendUint32(nil, crc32.Checksum([]byte(s), castagnoli)))
}

// deletes looks whether many objects go with one request, and whether a
// condition keeps one.
func (p *probe) deletes(ctx context.Context) error {
	var keys []string
	for i := range 3 {
		key := p.key(fmt.Sprint("many", i))
		if _, err := p.b.PutBytes(ctx, key, []byte("x"), PutOption{}); err != nil {
			return err
		}
		keys = append(keys, key)
	}
	many := p.b.With(Capabilities{DeleteMany: true})
	if err := many.Delete(ctx, keys[:2]...); err == nil {
		gone, err := p.listed(ctx, keys[0])
		if err != nil && !errors.Is(err, ErrListing) {
			return err
		}
		p.can.DeleteMany = !gone
	}
	_, err := p.b.client.DeleteObject(ctx, &s3.DeleteObjectInput{
		Bucket: p.b.name(), Key: p.b.key(keys[2]), IfMatch: aws.String(`"00000000000000000000000000000000"`),
	})
	kept, herr := p.holds(ctx, keys[2], "x")
	p.can.DeleteIf = err != nil && kept
	return herr
}

// oddKeys writes a key that listings have to encode.
func (p *probe) oddKeys(ctx context.Context) error {
	key := p.key("a b+c%20d&ü")
	if _, err := p.b.PutBytes(ctx, key, []byte("x"), PutOption{}); err != nil {
		return ctx.Err()
	}
	found, err := p.listed(ctx, key)
	p.can.OddKeys = found
	if errors.Is(err, ErrListing) {
		err = nil
	}
	return err
}
