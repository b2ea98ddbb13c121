// Package state is what a store knows of its packs beyond their content: which
// there are, which of their entries are condemned, given back or quarantined,
// and the journal in which that is durable.
//
// Losing the journal loses no chunk: condemned chunks are merely alive again
// until the next garbage collection, and those whose space was given back are
// recognised by the holes that they left.
package state
