// Package index remembers where in the packs of a store each chunk lies.
//
// It is derived data: everything in it can be read again from the footers of
// the packs. So a crash may lose what is newest, and what is damaged is never
// repaired: it is reported ([ErrDamaged]), and the owner builds the index anew
// ([Rebuild]). What the index says is a claim that the header of the pack's
// entry confirms; a damaged index can make a chunk look missing, but it never
// passes one chunk off as another.
//
// A record is a digest and a [Loc]. Records lie in runs, immutable sorted
// files that are mapped into memory, and in the delta, a table in memory for
// what is newer than the newest run. [Index.Flush] turns the delta into a run
// and merges runs so that there are never more than a few. The file named
// current lists the runs that count; it is replaced atomically.
//
//	index.go    opening, closing, numbers        run.go     one mapped run
//	lookup.go   the way of a lookup              line.go    its accelerator
//	change.go   inserting, replacing, deleting   layout.go  its header and footer
//	delta.go    the table in memory              writer.go  writing one
//	flush.go    delta to run                     merge.go   many into one
//	rebuild.go  everything anew                  check.go   every sum of it
//
// DESIGN.md has the formats to the byte, and the numbers behind the choices.
package index
