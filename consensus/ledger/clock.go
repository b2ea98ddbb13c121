package ledger

import (
	"fmt"
	"time"

	"github.com/holdfast-mesh/holdfast/consensus/canon"
)

// The clock of the ledger is that of whoever leads, and only goes forward by itself. A wrong
// one would have it be ahead for days, in which every invite is one of the past.

const (
	LevelClock = 4                  // from which on it can be set back
	behind     = 60_000             // ms that it has to be ahead of the leader's for that
	MaxInvite  = 7 * 24 * time.Hour // that an invite is good for at most
)

// SetClock sets the clock of the ledger back to that of the leader who takes it, whoever
// asks. A change of operators that waits does so until the same time as before.
type SetClock struct{}

func (t *tx) setClock(*SetClock) Result {
	if t.meta.Level < LevelClock || t.stamp >= t.meta.At-behind {
		return refuse("the clock of the ledger is not ahead of that of the leader")
	}
	t.meta.At = t.stamp
	most := t.meta.At/1000 + int64(MaxInvite/time.Second)
	late := map[string]Invite{} // of the time that was none
	for key, i := range Invites.All(View{t.Txn}) {
		if i.Body.Expires > most {
			i.Body.Expires = most
			late[key] = i.Body
		}
	}
	for key, in := range late {
		t.put(Invites.number, key, canon.Encode(in), t.by())
	}
	return Result{}
}

// tooLong refuses an invite for its end.
func (t *tx) tooLong(expires int64) Result {
	const text = "an invite is good for at most seven days from now"
	if t.meta.Level < LevelClock {
		return refuse(text) // word for word what older programs say, see timely
	}
	now, end := time.UnixMilli(t.meta.At).UTC(), time.Unix(expires, 0).UTC()
	return refuse("%s, which is %s for the ledger: this one would end at %s", text, now.Format(time.DateTime), end.Format(time.DateTime))
}

// enters tells whether a command may enter the log at a level.
func enters(kind uint16, level uint64) error {
	if kind == KindClock && level < LevelClock {
		return fmt.Errorf("the clock cannot be set back yet: not every member has run a version that can for long enough: feature level %d, want %d", level, LevelClock)
	}
	return nil
}
