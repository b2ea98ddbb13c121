package follow

import (
	"bytes"
	"fmt"

	"github.com/hashicorp/raft"

	"github.com/holdfast-mesh/holdfast/consensus/canon"
)

// journalKey has, in the store of Raft's vote, the commands that came since the state was
// stored last: their sum, and the entries in canonical form. A node that reboots alone
// has them, although Raft never gave them to it.
var journalKey = []byte("Followed")

const journalMost = 64 << 10 // bytes of commands, from which on the whole state is stored

// Note makes commands durable, in the place of those that were noted before.
func Note(s raft.StableStore, entries []Entry) error {
	var b []byte
	if len(entries) > 0 {
		b = canon.Encode(entries)
		sum := canon.Sum(b)
		b = append(sum[:], b...)
	}
	if err := s.Set(journalKey, b); err != nil {
		return fmt.Errorf("note commands that were followed: %w", err)
	}
	return nil
}

// Noted returns the commands that were noted last.
func Noted(s raft.StableStore) (entries []Entry, err error) {
	b, err := s.Get(journalKey)
	if err != nil || len(b) == 0 { // raft's stores have an error for what is not there
		return nil, nil
	}
	if len(b) > 32 {
		if sum := canon.Sum(b[32:]); bytes.Equal(sum[:], b[:32]) {
			if err := canon.Decode(b[32:], &entries); err != nil {
				return nil, fmt.Errorf("%w: %w", errStream, err)
			}
			return entries, nil
		}
	}
	return nil, fmt.Errorf("%w: the commands that were noted have another sum", errStream)
}
