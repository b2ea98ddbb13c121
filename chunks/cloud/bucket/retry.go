package bucket

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net/http"
	"sync/atomic"
	"time"
)

const maxBackoff = 20 * time.Second

// try does one thing until it is done, it can never be done, or enough
// attempts were made. Every attempt has a watchdog that do tells about
// progress. An attempt that made progress and failed is made up for by do; it
// says so by [watch.Resumed], and starts the count again.
func (b *Bucket) try(ctx context.Context, op, key string, do func(context.Context, *watch) error) error {
	backoff, tried := b.cfg.Backoff, 0
	for {
		w := b.watch(ctx)
		err := do(w.ctx, w)
		stalled := w.end()
		if err == nil {
			return nil
		}
		if stalled {
			err = errors.Join(ErrStalled, err)
		}
		tried++
		if w.resumed.Load() {
			tried = 1
		}
		v := b.judge(ctx, err)
		if v.throttle {
			b.cfg.Account.stats.throttled.Add(1)
			b.cfg.Account.limit.Slower()
		}
		if !v.again || tried >= b.cfg.Attempts {
			return &Error{Op: op, Key: key, Place: b.String(), Attempts: tried, Err: v.err}
		}
		b.cfg.Log.Warn("request failed and is tried again", "op", op, "key", key, "bucket", b.cfg.Bucket, "try", tried, "err", err)
		b.cfg.Account.stats.retries.Add(1)
		if err := sleep(ctx, backoff/2+rand.N(backoff/2+1)); err != nil {
			return &Error{Op: op, Key: key, Place: b.String(), Attempts: tried, Err: errors.Join(err, v.err)}
		}
		backoff = min(2*backoff, maxBackoff)
	}
}

func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-timer.C:
		return nil
	}
}

// minProgress is what a transfer must move in the time of Config.Stall.
const minProgress = 16 << 10

// A watch cuts an attempt in which nothing moves. Until the first call of
// armed it waits: connecting and the reply's header have limits of their own.
type watch struct {
	ctx     context.Context
	cancel  context.CancelCauseFunc
	acc     *Account
	stall   time.Duration
	moved   atomic.Int64
	active  atomic.Bool
	resumed atomic.Bool // the attempt got somewhere, and the next goes on there
	stop    func() bool
	fired   atomic.Bool
}

func (b *Bucket) watch(ctx context.Context) *watch {
	w := &watch{acc: b.cfg.Account, stall: b.cfg.Stall}
	ctx, w.cancel = context.WithCancelCause(ctx)
	w.ctx = context.WithValue(ctx, watchKey{}, w)
	quit := make(chan struct{})
	done := make(chan struct{})
	w.stop = func() bool { close(quit); <-done; return w.fired.Load() }
	go func() {
		defer close(done)
		w.look(quit)
	}()
	return w
}

func (w *watch) look(quit chan struct{}) {
	tick := time.NewTicker(w.stall)
	defer tick.Stop()
	last, was := int64(0), false
	for {
		select {
		case <-quit:
			return
		case <-tick.C:
		}
		moved, active := w.moved.Load(), w.active.Load()
		if was && active && moved-last < minProgress {
			w.fired.Store(true)
			w.acc.stats.stalls.Add(1)
			w.cancel(ErrStalled)
			return
		}
		last, was = moved, active
	}
}

type watchKey struct{}

// answers lets the watch of a request see to its answer: the SDK reads those that
// are no objects itself, and would wait for the rest of one for ever.
func answers(r *http.Request, class Class, body io.ReadCloser) io.ReadCloser {
	w, watched := r.Context().Value(watchKey{}).(*watch)
	if !watched || class == Get {
		return body
	}
	w.armed(true)
	return &answer{body, w}
}

// An answer moves as long as anything comes.
type answer struct {
	io.ReadCloser
	w *watch
}

func (a *answer) Read(p []byte) (int, error) {
	n, err := a.ReadCloser.Read(p)
	if n > 0 {
		a.w.moved.Add(minProgress)
	}
	return n, err
}

// end ends the watch and reports whether it had to cut the attempt.
func (w *watch) end() bool {
	fired := w.stop()
	w.cancel(nil)
	return fired
}

// armed says whether bytes ought to move now.
func (w *watch) armed(on bool) { w.active.Store(on) }
