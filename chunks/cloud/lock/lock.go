// Package lock says for how long objects in a bucket cannot be deleted by anybody,
// whatever keys they stole: S3's Object Lock, set on each object when it is
// written, and again while something needs it (notes on S3, §4.14).
package lock

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
)

// The modes of a lock.
const (
	Governance = "governance" // whoever may s3:BypassGovernanceRetention may delete
	Compliance = "compliance" // nobody may, the owner of the account included
)

const day = 24 * time.Hour

// Bounds of a lock, in days. Below a week it outlasts no holiday; beyond ten years
// a slip of the finger could not be paid for.
const (
	minDays = 7
	maxDays = 3650
)

// A Policy is how objects are locked. The zero value does not lock any.
type Policy struct {
	Mode string // Governance or Compliance
	Days int    // since an object was written, or its lock renewed
}

// Parse reads "off", "" or MODE:DAYSd, as in "governance:60d".
func Parse(text string) (p Policy, err error) {
	if text == "" || text == "off" {
		return p, nil
	}
	mode, days, _ := strings.Cut(text, ":")
	n, err := strconv.Atoi(strings.TrimSuffix(days, "d"))
	if (mode != Governance && mode != Compliance) || err != nil {
		return p, fmt.Errorf("object lock is %q, want off, %s:60d or %s:60d", text, Governance, Compliance)
	}
	if n < minDays || n > maxDays {
		return p, fmt.Errorf("an object lock of %d days, want %d to %d", n, minDays, maxDays)
	}
	return Policy{mode, n}, nil
}

// IsZero reports whether nothing is locked.
func (p Policy) IsZero() bool { return p == Policy{} }

// String writes what [Parse] reads; "" if nothing is locked.
func (p Policy) String() string {
	if p.IsZero() {
		return ""
	}
	return fmt.Sprintf("%s:%dd", p.Mode, p.Days)
}

func (p Policy) span() time.Duration { return time.Duration(p.Days) * day }

// Until returns when a lock ends that begins at t: at the end of a day, so that it
// can be told at a glance what belongs together.
func (p Policy) Until(t time.Time) time.Time {
	return t.Add(p.span()).UTC().Truncate(day).Add(day)
}

// Held returns until when an object is locked that was written at created, in a
// store of which all locks were renewed last at renewed; the zero time: never.
func (p Policy) Held(created, renewed time.Time) time.Time {
	if p.IsZero() {
		return time.Time{}
	}
	if renewed.After(created) {
		created = renewed
	}
	return p.Until(created)
}

// Due reports whether the locks of a store have to be renewed: half of the time of
// the oldest one is over. since is when all were renewed last, or when the first
// object was written.
func (p Policy) Due(now, since time.Time) bool {
	return !p.IsZero() && now.Sub(since) >= p.span()/2
}

// Last is when all locks were renewed that were to last for so many days: never, if p
// wants more, so that a longer policy holds for everything at once.
func (p Policy) Last(renewed time.Time, days int) time.Time {
	if days < p.Days {
		return time.Time{}
	}
	return renewed
}

// A Retainer sets until when an object is locked.
type Retainer interface {
	Retain(ctx context.Context, key string, p Policy, until time.Time) error
}

// parallel is how many locks are renewed at the same time.
const parallel = 8

// Keep renews the locks of all objects of a store, of which keys returns the names,
// if that is due. It returns when they were all renewed last, which is to be given
// to the next Keep. If nothing is locked any more it forgets, so that a policy that
// is set again holds for everything at once.
func (p Policy) Keep(ctx context.Context, r Retainer, last time.Time, keys func() []string) (time.Time, error) {
	now := time.Now().UTC().Truncate(time.Second)
	if p.IsZero() {
		return time.Time{}, nil
	}
	if !p.Due(now, last) {
		return last, nil
	}
	all := keys()
	if n, err := p.renew(ctx, r, now, all); err != nil {
		return last, fmt.Errorf("renew the locks of %d objects, of which %d were renewed: %w; the next garbage collection tries again", len(all), n, err)
	}
	return now, nil
}

// renew locks objects anew from now on, with one request each, and returns how
// many it got to. After an error or a kill all of it is done again.
func (p Policy) renew(ctx context.Context, r Retainer, now time.Time, keys []string) (int, error) {
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(parallel)
	var n atomic.Int64
	until := p.Until(now)
	for _, key := range keys {
		if gctx.Err() != nil {
			break
		}
		g.Go(func() error {
			if err := r.Retain(gctx, key, p, until); err != nil {
				return err
			}
			n.Add(1)
			return nil
		})
	}
	err := g.Wait()
	if err == nil {
		err = ctx.Err()
	}
	return int(n.Load()), err
}
