package bucket

import "context"

type paceKey struct{}

// Pace returns a context whose requests are so many a second at most, beside the
// limits of the account: for work that should not cost much.
func Pace(ctx context.Context, perSecond float64) context.Context {
	return context.WithValue(ctx, paceKey{}, newLimiter(perSecond))
}

// paced waits as long as the pace of ctx asks for.
func paced(ctx context.Context) error {
	if l, is := ctx.Value(paceKey{}).(*limiter); is {
		return l.wait(ctx)
	}
	return nil
}
