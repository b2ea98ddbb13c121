// Package gc decides which chunks of a store of packs may be forgotten, and
// forgets them without ever losing one that a snapshot needs.
//
// A chunk is live, then condemned (unknown to every lookup, its bytes still
// there), then reclaimed. Three rules make that safe; none of them rests on a
// clock, on access times or on how long a backup takes:
//
//   - Pin or miss. Whoever is told that a chunk is here has it pinned by the
//     same step, under the gate; what was just stored is pinned before anyone
//     can see it. The sweep decides and condemns under the same gate, so an
//     answer and a sweep never overlap. See [Session].
//   - Look again at the end. [Session.Finish] looks up and pins every chunk
//     of a snapshot before the snapshot may be published, whatever happened
//     since: lapsed lease, crash, lost write.
//   - Pins outlast the listing. A garbage collection marks the snapshots that
//     it lists after it began. What finishes later is in no list, so its pins
//     are kept until that collection has swept.
//
// Reclaiming is a matter of its own: it touches only what is durably
// condemned, is throttled, and goes on where it was interrupted. A client
// that sends a condemned chunk again gets a new entry; nothing is raised from
// the dead.
//
// modelcheck_test.go runs this code through every interleaving of small
// histories, and shows that it finds the mistakes that lost data elsewhere.
package gc
