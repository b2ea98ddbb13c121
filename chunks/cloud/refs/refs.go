// Package refs numbers the packs of a store that has some on the disk and some in a
// bucket: those on the disk are even, those in the bucket odd.
package refs

import "github.com/holdfast-mesh/holdfast/chunks/pack"

// Local is where an entry of a pack on the disk is.
func Local(r pack.Ref) pack.Ref { return pack.Ref{Pack: 2 * r.Pack, Entry: r.Entry} }

// Cloud is where an entry of a pack in the bucket is.
func Cloud(number, entry uint32) pack.Ref { return pack.Ref{Pack: 2*number + 1, Entry: entry} }

// Split parts a set into that of the local store and the rows of the bucket's.
func Split(set *pack.Set) (local *pack.Set, cloud map[uint32][]uint64) {
	local, cloud = &pack.Set{}, map[uint32][]uint64{}
	for number, words := range set.Rows() {
		if number%2 == 0 {
			local.OrRow(number/2, words)
		} else {
			cloud[number/2] = words
		}
	}
	return local, cloud
}
