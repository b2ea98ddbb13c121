package ledger

import (
	"cmp"
	"crypto/ed25519"
	"fmt"
	"strings"

	"github.com/holdfast-mesh/holdfast/consensus/authority"
	"github.com/holdfast-mesh/holdfast/consensus/canon"
)

// A Session is a stretch of time in which a node is known to live. Claims name
// it, so that a node that comes back is not the one that went.
type Session struct {
	Epoch uint64 `cbor:"1,keyasint"`
	Open  bool   `cbor:"2,keyasint,omitempty"`
}

type (
	// OpenSession begins a session of the node that sends it, with an epoch
	// greater than any before.
	OpenSession struct {
		Epoch uint64 `cbor:"1,keyasint"`
	}
	// ExpireSession ends one of a node that was not heard of.
	ExpireSession struct {
		Node  authority.Key `cbor:"1,keyasint"`
		Epoch uint64        `cbor:"2,keyasint"`
	}
	// NewClaim asks for a slot of a job: a time at which it is due.
	NewClaim struct {
		Job      string `cbor:"1,keyasint"`
		Slot     int64  `cbor:"2,keyasint"` // Unix seconds
		Epoch    uint64 `cbor:"3,keyasint"` // of the session of the node that sends it
		Deadline int64  `cbor:"4,keyasint,omitempty"`
	}
	// EndClaim says what became of a run. Later claims have greater fences: one
	// that was superseded changes nothing.
	EndClaim struct {
		Job   string `cbor:"1,keyasint"`
		Slot  int64  `cbor:"2,keyasint"`
		Fence Fence  `cbor:"3,keyasint"`
		State string `cbor:"4,keyasint"` // one of the ends below
	}
)

// A Fence orders claims: whatever has a smaller one than was seen is refused
// by the resource. Indexes may repeat after a recovery, incarnations do not.
type Fence struct {
	Incarnation uint64 `cbor:"1,keyasint"`
	Index       uint64 `cbor:"2,keyasint"`
}

// Compare orders fences.
func (f Fence) Compare(g Fence) int {
	return cmp.Or(cmp.Compare(f.Incarnation, g.Incarnation), cmp.Compare(f.Index, g.Index))
}

// The states of claims.
const (
	Running = "running"
	Ended   = "done"
	Failed  = "failed"
	Lost    = "lost"    // its session ended before it
	Stalled = "stalled" // its node lives, and leaves it to others; from [authority.LevelDelay] on
)

// A Claim is who does a job in a slot.
type Claim struct {
	Job      string        `cbor:"1,keyasint"`
	Slot     int64         `cbor:"2,keyasint"`
	Owner    authority.Key `cbor:"3,keyasint"`
	Epoch    uint64        `cbor:"4,keyasint"`
	Fence    Fence         `cbor:"5,keyasint"`
	State    string        `cbor:"6,keyasint"`
	Deadline int64         `cbor:"7,keyasint,omitempty"`
}

const maxRuns = 50 // ended claims that are kept of a job

// TooEarly is why a slot cannot be claimed by a node whose clock is fast.
const TooEarly = "its time has not come by the clock of the leader"

// A slot may be claimed so much before its time. What is claimed for its own sake
// has microseconds for a slot, which are beyond all times.
const (
	maxFast   = 60      // seconds
	lastTimes = 1 << 40 // seconds
)

// ClaimKey is the key of a claim's row.
func ClaimKey(job string, slot int64) string { return claimPrefix(job) + auditKey(uint64(slot)) }

func claimPrefix(job string) string { return job + "\x00" }

func (s *ExpireSession) subject() string { return "sessions/" + s.Node.NodeID() }
func (c *NewClaim) subject() string      { return "claims/" + c.Job + "/" + auditKey(uint64(c.Slot)) }
func (c *EndClaim) subject() string      { return "claims/" + c.Job + "/" + auditKey(uint64(c.Slot)) }

func (t *tx) openSession(s *OpenSession) Result {
	id := nodeID(t.command.Node)
	was, _ := Sessions.Get(View{t.Txn}, id)
	if s.Epoch <= was.Body.Epoch {
		return Result{Code: Conflict, Key: "sessions/" + id, Text: "there was a session of this epoch or a later one"}
	}
	t.lose(t.command.Node)
	t.put(Sessions.number, id, canon.Encode(Session{s.Epoch, true}), "")
	return Result{}
}

func (t *tx) expireSession(s *ExpireSession) Result {
	id := nodeID(s.Node)
	was, is := Sessions.Get(View{t.Txn}, id)
	if !is || was.Body.Epoch != s.Epoch || !was.Body.Open {
		return Result{Code: Conflict, Key: "sessions/" + id, Text: "it is not open in this epoch"}
	}
	was.Body.Open = false
	t.put(Sessions.number, id, canon.Encode(was.Body), "")
	t.lose(s.Node)
	return Result{}
}

// lose ends the claims of a node whose session has ended.
func (t *tx) lose(node authority.Key) {
	var lost []Row[Claim]
	for _, c := range Claims.All(View{t.Txn}) {
		if c.Body.State == Running && c.Body.Owner == node {
			lost = append(lost, c)
		}
	}
	for _, c := range lost {
		c.Body.State = Lost
		t.put(Claims.number, c.Key, canon.Encode(c.Body), c.By)
	}
}

func (t *tx) claim(c *NewClaim) Result {
	v := View{t.Txn}
	session, _ := Sessions.Get(v, nodeID(t.command.Node))
	if !session.Body.Open || session.Body.Epoch != c.Epoch {
		return refuse("the session %d of the node is not open", c.Epoch)
	}
	if c.Job == "" || len(c.Job) > maxKey/2 || strings.ContainsRune(c.Job, 0) || c.Slot < 0 {
		return refuse("a claim of the job %.40q", c.Job)
	}
	if job, is := Jobs.Get(v, c.Job); is && job.Body.Node != "" && job.Body.Node != nodeID(t.command.Node) {
		return refuse("the job belongs to node %s", job.Body.Node)
	}
	if c.Slot < lastTimes && c.Slot > t.meta.At/1000+maxFast {
		return refuse(TooEarly)
	}
	key := ClaimKey(c.Job, c.Slot)
	runs := 0
	var oldest string
	for r := range v.rows(place(Claims.number, claimPrefix(c.Job))) {
		was := Claims.decode(r)
		switch {
		case was.Body.State == Running:
			return Result{Code: Conflict, Key: "claims/" + r.key, Text: "node " + nodeID(was.Body.Owner) + " does it", Fence: &was.Body.Fence}
		case r.key == key && was.Body.State == Ended:
			return Result{Code: Conflict, Key: "claims/" + r.key, Text: "it was done", Fence: &was.Body.Fence}
		}
		if runs++; oldest == "" {
			oldest = r.key
		}
	}
	switch again := v.row(Claims.number, key) != nil; {
	case again:
	case runs >= maxRuns:
		t.drop(Claims.number, oldest)
	case v.Count(Claims.number) >= descriptions[Claims.number].most:
		return refuse("there are too many claims")
	}
	f := Fence{t.meta.chain.Incarnation(), t.meta.Index}
	t.put(Claims.number, key, canon.Encode(Claim{c.Job, c.Slot, t.command.Node, c.Epoch, f, Running, c.Deadline}), t.by())
	return Result{Fence: &f}
}

func (t *tx) endClaim(e *EndClaim) Result {
	key := ClaimKey(e.Job, e.Slot)
	c, is := Claims.Get(View{t.Txn}, key)
	switch {
	case e.State != Ended && e.State != Failed && (e.State != Stalled || t.meta.Level < authority.LevelDelay):
		return refuse("a run does not end as %q", e.State)
	case !is || c.Body.Owner != t.command.Node || c.Body.Fence != e.Fence || c.Body.State != Running:
		return Result{Code: Conflict, Key: "claims/" + key, Text: "the run was superseded"}
	}
	c.Body.State = e.State
	t.put(Claims.number, key, canon.Encode(c.Body), t.by())
	return Result{}
}

// RaiseLevel raises the feature level of the cluster.
type RaiseLevel struct {
	Level uint64 `cbor:"1,keyasint"`
}

// known stops a program at a level that it does not know, and not only at the
// first command of it.
func (r *RaiseLevel) known() error {
	if r.Level > Level {
		return fmt.Errorf("feature level %d, this program has %d", r.Level, Level)
	}
	return nil
}

// raiseLevel never lowers it.
func (t *tx) raiseLevel(r *RaiseLevel) Result {
	if r.Level != t.meta.Level+1 {
		return Result{Code: Conflict, Key: "level", Text: "it does not follow the present one"}
	}
	t.meta.Level = r.Level
	return Result{}
}

// A Checkpoint is where the feed of a node stood.
type Checkpoint struct {
	Epoch uint64   `cbor:"1,keyasint"`
	Seq   uint64   `cbor:"2,keyasint"`
	Head  [32]byte `cbor:"3,keyasint"`
	Sig   [64]byte `cbor:"4,keyasint"` // of the origin: see [CheckpointBytes]
}

// NewCheckpoint records how far a feed is.
type NewCheckpoint struct {
	Origin     authority.Key `cbor:"1,keyasint"`
	Checkpoint Checkpoint    `cbor:"2,keyasint"`
}

func (c *NewCheckpoint) subject() string { return "checkpoints/" + c.Origin.NodeID() }

// CheckpointBytes is what the origin signs: the head of its feed.
func CheckpointBytes(epoch, seq uint64, head [32]byte) []byte {
	return append(append(append([]byte("holdfast/feed-head/1\x00"), be64(epoch)...), be64(seq)...), head[:]...)
}

func (t *tx) checkpoint(n *NewCheckpoint) Result {
	c, id := n.Checkpoint, nodeID(n.Origin)
	was, is := Checkpoints.Get(View{t.Txn}, id)
	switch {
	case !ed25519.Verify(n.Origin[:], CheckpointBytes(c.Epoch, c.Seq, c.Head), c.Sig[:]):
		return forbid("the checkpoint is not signed by its origin")
	case is && c.Epoch == was.Body.Epoch && c.Seq == was.Body.Seq && c.Head != was.Body.Head:
		return Result{Code: Conflict, Key: "checkpoints/" + id, Text: "the node shows two histories"}
	case is && cmp.Or(cmp.Compare(c.Epoch, was.Body.Epoch), cmp.Compare(c.Seq, was.Body.Seq)) < 0:
		return Result{Code: Conflict, Key: "checkpoints/" + id, Text: "a later one is there"}
	}
	if _, known := Members.Get(View{t.Txn}, id); !known {
		return refuse("node %s is not known", id)
	}
	t.put(Checkpoints.number, id, canon.Encode(c), t.by())
	return Result{}
}
