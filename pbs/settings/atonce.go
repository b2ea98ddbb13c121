package settings

import "context"

type atOnce struct{}

// AtOnce returns a context in which a change is made now or not at all: it is not kept
// until there is a quorum. That is for a change with which something else is done that
// nobody would do later, such as destroying data.
func AtOnce(ctx context.Context) context.Context { return context.WithValue(ctx, atOnce{}, true) }

// IsAtOnce tells whether ctx is such a context.
func IsAtOnce(ctx context.Context) bool { return ctx.Value(atOnce{}) != nil }
