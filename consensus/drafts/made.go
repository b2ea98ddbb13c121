package drafts

import (
	"fmt"
	"slices"
	"strings"

	"github.com/holdfast-mesh/holdfast/consensus/canon"
	"github.com/holdfast-mesh/holdfast/consensus/ledger"
)

// made are the users that a draft would make.
func (d Draft) made() (users []string) {
	var c ledger.Change
	if canon.Decode(d.Body, &c) != nil {
		return nil
	}
	for _, o := range c.Ops {
		if user, is := strings.CutPrefix((ledger.Change{Ops: []ledger.Op{o}}).Subject(), "users/"); is && o.Expect == 0 && !o.Delete {
			users = append(users, user)
		}
	}
	return users
}

// about says whom of some users a draft is about, "" if none of them: rights and tokens
// are in rows of their own, which name them.
func (d Draft) about(users []string) string {
	words := strings.FieldsFunc(d.Subject(), func(r rune) bool { return strings.ContainsRune(" ,/!", r) })
	for _, user := range users {
		if slices.Contains(words, user) {
			return user
		}
	}
	return ""
}

// strange says why a draft is not to be applied though its rows are as they were: it is
// about a user whom an earlier draft would have made, which was not applied. If there is one of
// that name now, somebody else has made it, for somebody else perhaps.
func (s *state) strange(draft Draft) string {
	for _, below := range s.Drafts {
		if below.Number >= draft.Number || below.waits() {
			continue
		}
		if user := draft.about(below.made()); user != "" {
			return fmt.Sprintf("it is about the user %s of draft %d, which was not applied", user, below.Number)
		}
	}
	return ""
}

// orphaned notes in those on top of a draft that it was discarded, as far as they are
// about a user whom it would have made.
func (s *state) orphaned(gone Draft) {
	for i, o := range s.Drafts {
		if o.Number <= gone.Number || !o.waits() {
			continue
		}
		if user := o.about(gone.made()); user != "" {
			s.Drafts[i].Why = fmt.Sprintf("it is about the user %s of draft %d, which was discarded", user, gone.Number)
		}
	}
}
