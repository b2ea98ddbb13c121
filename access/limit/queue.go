package limit

import (
	"context"
	"errors"
	"time"
)

// Hold waits until delay has passed since start, or ctx is done.
func Hold(ctx context.Context, start time.Time, delay time.Duration) {
	t := time.NewTimer(time.Until(start.Add(delay)))
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// ErrFull says that too many wait already.
var ErrFull = errors.New("too many wait already")

// A Queue lets few pieces of work run at once and few wait.
type Queue struct{ places, running chan struct{} }

// NewQueue returns a Queue of that many running, and waiting beside them.
func NewQueue(running, waiting int) *Queue {
	return &Queue{make(chan struct{}, running+waiting), make(chan struct{}, running)}
}

// Do runs work when it is its turn. It fails with [ErrFull] at once, or
// because ctx is done; then work was not begun.
func (q *Queue) Do(ctx context.Context, work func()) error {
	select {
	case q.places <- struct{}{}:
		defer func() { <-q.places }()
	default:
		return ErrFull
	}
	select {
	case q.running <- struct{}{}:
		defer func() { <-q.running }()
	case <-ctx.Done():
		return ctx.Err()
	}
	work()
	return nil
}
