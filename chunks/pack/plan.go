package pack

import (
	"github.com/holdfast-mesh/holdfast/chunks/pack/format"
	"github.com/holdfast-mesh/holdfast/chunks/pack/state"
)

// What the packs of a store are made of, and what is done with them.
type (
	ID        = format.ID       // of a pack, here, at every peer and in a bucket
	Ref       = state.Ref       // an entry of a pack
	Set       = state.Set       // a set of entries
	Info      = state.Info      // a pack at one moment
	Usage     = state.Usage     // what a pack's entries occupy in it
	Abilities = state.Abilities // how the file system gives space back
	Method    = state.Method    // a way to do so
	Move      = state.Move      // a chunk that has another place
	Reclaimed = state.Reclaimed // what became of condemned entries
	Health    = state.Health    // what Open found and did
	Entry     = state.Entry     // a chunk and where it lies
)

// The methods, cheapest first.
const (
	Keep    = state.Keep
	Drop    = state.Drop
	Punch   = state.Punch
	Reflink = state.Reflink
	Copy    = state.Copy
)
