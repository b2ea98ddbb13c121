// Package ledger is what the nodes of a cluster agree on, as a state machine:
// members, sites, invites, datastores, accounts, remotes, jobs and who runs
// them, retention, cloud endpoints, keys, and a record of who decided what.
//
// It is a pure function of its commands. It reads no clock, draws no number,
// and depends neither on the machine nor on the order of a map; time is what
// the leader wrote beside a command. Equal histories are equal bytes, which
// [Ledger.Hashes] lets nodes compare.
//
// A command is signed by the node where it was given, and says by whom
// ([Command]). Rows are changed only if they are still what their author saw
// ([Op.Expect]); a command that is submitted again, under the same request ID,
// has the result that it had. Who belongs to the cluster is not for the ledger
// to say: it keeps the chain of package authority, and takes no link that the
// chain does not take.
//
// Reading is done on a [View], which never changes. Everything that comes out
// is a copy.
//
// # What may not change
//
// Kinds, tables and fields are numbered for ever. A new field is optional, and
// its absence means what was so before. A changed meaning is a new kind, and a
// new kind or field is proposed only when [View.Level] says that every node
// knows it. A check that refuses must never become stricter: a log that was
// written with the old one is replayed with the new one, and the recorded logs
// in testdata are.
package ledger

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-memdb"

	"github.com/holdfast-mesh/holdfast/consensus/authority"
	"github.com/holdfast-mesh/holdfast/consensus/canon"
	"github.com/holdfast-mesh/holdfast/consensus/feature"
)

// Level is the feature level of this program; see [View.Level].
const Level = feature.Level

// levelOwn is the level from which on a node in any role sets itself up.
const levelOwn = 2

// hashEvery is at which indexes the state is hashed for comparison.
const hashEvery = 1000

// A Ledger is the state of now. One goroutine applies; any may read.
type Ledger struct {
	notify func(View)

	mu     sync.Mutex // held while the state is replaced
	hashes []Hash     // the newest last
	now    atomic.Pointer[era]
}

// An era is a state and its changes, until it is replaced by a snapshot.
type era struct {
	db   *memdb.MemDB
	gone chan struct{} // closed when it is replaced
}

// A Hash is that of the state behind a command. Two nodes that have different
// ones at an index have lost each other.
type Hash struct {
	Index uint64
	Sum   [32]byte
}

// meta is what there is one of. A new one is made with every command.
type meta struct {
	Index uint64   `cbor:"1,keyasint"` // of the newest command
	At    int64    `cbor:"2,keyasint"` // its time in Unix ms, later than that of any before
	Level uint64   `cbor:"3,keyasint"`
	Audit [32]byte `cbor:"4,keyasint"` // root of the audit chain
	chain *authority.Chain

	Proposed int64 `cbor:"5,keyasint,omitempty"` // At of the change of operators that waits; 0: none does
}

// New returns an empty Ledger. notify, if not nil, is called after every
// change with the state after it, by the goroutine that applies.
func New(notify func(View)) *Ledger {
	if notify == nil {
		notify = func(View) {}
	}
	l := &Ledger{notify: notify}
	l.now.Store(&era{newDB(), make(chan struct{})})
	return l
}

// View returns the state of now.
func (l *Ledger) View() View { return View{l.now.Load().db.Txn(false)} }

// Applied is the index of the newest command in the state.
func (l *Ledger) Applied() uint64 { return l.View().Index() }

// Incarnation is that of the authority chain in the state, 0 without one.
func (l *Ledger) Incarnation() uint64 { return l.View().Chain().Incarnation() }

// Hashes returns the newest hashes, the newest last.
func (l *Ledger) Hashes() []Hash {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]Hash(nil), l.hashes...)
}

// Reset forgets everything.
func (l *Ledger) Reset() { l.replace(newDB()) }

func (l *Ledger) replace(db *memdb.MemDB) {
	l.mu.Lock()
	l.hashes = nil
	old := l.now.Swap(&era{db, make(chan struct{})})
	l.mu.Unlock()
	close(old.gone)
	l.notify(l.View())
}

// Check says whether Apply would know a command. Whether it would be refused
// is another question, and depends on when it is applied.
func (l *Ledger) Check(b []byte) error {
	p, err := prepare(b)
	if err == nil {
		err = enters(p.command.Kind, l.View().Level())
	}
	return err
}

// ErrUnknown is what no program of this version can have written.
var ErrUnknown = feature.ErrUnknown

// Apply applies a command. The bytes that it returns are a [Result].
func (l *Ledger) Apply(index uint64, at time.Time, b []byte) ([]byte, error) {
	p, err := prepare(b)
	if err != nil {
		return nil, err
	}
	db := l.now.Load().db
	t := begin(db, index, at.UnixMilli())
	result, repeated := t.earlier(p.command.Request)
	if !repeated {
		result = t.run(p)
		if result.Code != Done && !result.keep {
			t.Abort() // nothing of it stays but that it was asked
			t = begin(db, index, at.UnixMilli())
		}
		result.Index = index
		t.audit(p, result)
	}
	t.commit()
	if index%hashEvery == 0 {
		l.mu.Lock()
		l.hashes = append(l.hashes, Hash{index, View{db.Txn(false)}.Hash()})
		l.hashes = l.hashes[max(0, len(l.hashes)-16):]
		l.mu.Unlock()
	}
	l.notify(View{db.Txn(false)})
	return canon.Encode(result), nil
}
