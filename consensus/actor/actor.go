// Package actor says, by a context, in whose name the ledger is changed.
package actor

import "context"

type key struct{}

// With names who makes the changes that ctx is used for, and from what address;
// else it is the node itself.
func With(ctx context.Context, actor, address string) context.Context {
	return context.WithValue(ctx, key{}, [2]string{actor, address})
}

// Of returns who makes the changes that ctx is used for.
func Of(ctx context.Context) string {
	if a, is := ctx.Value(key{}).([2]string); is && a[0] != "" {
		return a[0]
	}
	return "node"
}

// Address returns from where, "" if the node itself makes them.
func Address(ctx context.Context) string {
	a, _ := ctx.Value(key{}).([2]string)
	return a[1]
}
