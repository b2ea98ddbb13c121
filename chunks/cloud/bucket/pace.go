package bucket

import (
	"context"

	"github.com/holdfast-mesh/holdfast/chunks/cloud/bucket/limit"
)

type paceKey struct{}

// Pace returns a context whose requests are so many a second at most, beside the
// limits of the account: for work that should not cost much.
func Pace(ctx context.Context, perSecond float64) context.Context {
	return context.WithValue(ctx, paceKey{}, limit.New(perSecond))
}

// paced waits as long as the pace of ctx asks for.
func paced(ctx context.Context) error {
	if l, is := ctx.Value(paceKey{}).(*limit.Limiter); is {
		return l.Wait(ctx)
	}
	return nil
}
