package ledger

import (
	"crypto/ed25519"
	"encoding/binary"
	"fmt"

	"github.com/hashicorp/go-memdb"

	"github.com/holdfast-mesh/holdfast/consensus/authority"
	"github.com/holdfast-mesh/holdfast/consensus/canon"
)

// A tx is the state while a command is applied to it.
type tx struct {
	*memdb.Txn
	meta    meta
	command Command
	role    string // of the node that signed
	stamp   int64  // by the clock of the leader, Unix ms; [meta.At] may be later
}

func begin(db *memdb.MemDB, index uint64, at int64) *tx {
	t := &tx{Txn: db.Txn(true), stamp: at}
	t.meta = *View{t.Txn}.meta()
	t.meta.Index, t.meta.At = index, max(t.meta.At+1, at)
	return t
}

func (t *tx) commit() {
	must(t.Insert(metaTable, &t.meta))
	t.Commit()
}

// must is for what memdb refuses only if the program is wrong.
func must(err error) {
	if err != nil {
		panic("ledger: " + err.Error())
	}
}

func refuse(format string, args ...any) Result {
	return Result{Code: Refused, Text: fmt.Sprintf(format, args...)}
}

func forbid(format string, args ...any) Result {
	return Result{Code: Forbidden, Text: fmt.Sprintf(format, args...)}
}

// run applies a command, having checked who sends it.
func (t *tx) run(p prepared) Result {
	c := p.command
	t.command = c
	if !ed25519.Verify(c.Node[:], append([]byte(commandDomain), p.bytes...), p.sig[:]) {
		return forbid("the command is not signed by the node that it names")
	}
	if chain := t.meta.chain; chain != nil && (c.Cluster != chain.Cluster() || c.Incarnation != chain.Incarnation()) {
		return forbid("the command is for incarnation %d of cluster %x", c.Incarnation, c.Cluster[:4])
	}
	if p.skip {
		return Result{Code: Skipped}
	}
	k := kinds[c.Kind]
	m, member := Members.Get(View{t.Txn}, c.Node.NodeID())
	if !k.free && (!member || !m.Body.active()) {
		return forbid("node %s is no active member", c.Node.NodeID())
	}
	if t.role = m.Body.Role; k.full && t.role != "full" && !(t.meta.Level >= levelOwn && k.own != nil && k.own(t, p.body)) {
		return forbid("a node in the role %q gives no such commands", t.role)
	}
	return k.run(t, p.body)
}

// earlier returns the result of a request that was applied before.
func (t *tx) earlier(request [16]byte) (Result, bool) {
	found, err := t.First(requestTable, "id", string(request[:]))
	must(err)
	if found == nil {
		return Result{}, false
	}
	a, is := Audits.Get(View{t.Txn}, auditKey(found.(*requested).index))
	return a.Body.Result, is
}

// A requested command was applied at an index.
type requested struct {
	id    string
	index uint64
}

// maxAudit is how many commands, and so how many requests, are remembered.
const maxAudit = 4096

// An Audit says who did what. Root makes a chain of all of them: it is the sum
// of the Root before and of everything else here.
type Audit struct {
	Index   uint64        `cbor:"1,keyasint"`
	At      int64         `cbor:"2,keyasint"`
	Actor   string        `cbor:"3,keyasint"`
	Address string        `cbor:"4,keyasint,omitempty"`
	Node    authority.Key `cbor:"5,keyasint"`
	Kind    uint16        `cbor:"6,keyasint"`
	Subject string        `cbor:"7,keyasint,omitempty"` // what it was about; never a secret
	Sum     [32]byte      `cbor:"8,keyasint"`           // SHA-256 of the command
	Request [16]byte      `cbor:"9,keyasint"`
	Result  Result        `cbor:"10,keyasint"`
	Root    [32]byte      `cbor:"11,keyasint"`
}

// root is what Root has to be behind prev.
func (a Audit) root(prev [32]byte) [32]byte {
	a.Root = [32]byte{}
	return canon.Sum(append(append([]byte("holdfast/audit/1\x00"), prev[:]...), canon.Encode(a)...))
}

// Follows tells whether a record is as it was written behind one with the root prev;
// the first of all is written behind zeros.
func (a Audit) Follows(prev [32]byte) bool { return a.Root == a.root(prev) }

// Bytes are what the ledger keeps of a record.
func (a Audit) Bytes() []byte { return canon.Encode(a) }

// ReadAudit reads what [Audit.Bytes] returned.
func ReadAudit(b []byte) (a Audit, err error) {
	if err := Audits.read(b, &a); err != nil {
		return a, fmt.Errorf("read a record of the audit: %w", err)
	}
	return a, nil
}

func auditKey(index uint64) string { return fmt.Sprintf("%020d", index) }

// audit records a command and its result.
func (t *tx) audit(p prepared, r Result) {
	c := p.command
	a := Audit{
		Index: t.meta.Index, At: t.meta.At, Actor: c.Actor, Address: c.Address, Node: c.Node, Kind: c.Kind,
		Subject: subject(p.body), Sum: canon.Sum(p.bytes), Request: c.Request, Result: r,
	}
	a.Root = a.root(t.meta.Audit)
	t.meta.Audit = a.Root
	t.put(Audits.number, auditKey(a.Index), canon.Encode(a), "")
	must(t.Insert(requestTable, &requested{string(c.Request[:]), a.Index}))
	if n := t.count(Audits.number); n > maxAudit {
		t.forget()
	}
}

// forget removes the oldest record and its request.
func (t *tx) forget() {
	for key, a := range Audits.All(View{t.Txn}) {
		t.drop(Audits.number, key)
		_, err := t.DeleteAll(requestTable, "id", string(a.Body.Request[:]))
		must(err)
		return
	}
}

// CheckAudit says whether a list of records, oldest first, is an unbroken part
// of one chain.
func CheckAudit(list []Audit) error {
	for i, a := range list {
		if i > 0 && !a.Follows(list[i-1].Root) {
			return fmt.Errorf("the record of command %d does not follow that of command %d", a.Index, list[i-1].Index)
		}
	}
	return nil
}

// subject says what a command is about.
func subject(body any) string {
	if s, is := body.(interface{ subject() string }); is {
		text := s.subject()
		return text[:min(len(text), 300)]
	}
	return ""
}

// put writes a row as changed now.
func (t *tx) put(table uint8, key string, body []byte, by string) {
	r := &record{table: table, key: key, row: row{t.meta.Index, t.meta.At, t.meta.At, by, body}}
	n := 1
	if was := (View{t.Txn}).row(table, key); was != nil {
		r.row.Created = was.row.Created
		n = 0
	}
	must(t.Insert(rowTable, r))
	t.note(table, n, t.meta.Index)
}

func (t *tx) drop(table uint8, key string) {
	if was := (View{t.Txn}).row(table, key); was != nil {
		must(t.Delete(rowTable, was))
		t.note(table, -1, t.meta.Index)
	}
}

// A counter says how many rows a table has, and which command changed it last.
type counter struct {
	table   uint8
	n       int
	changed uint64
}

func (t *tx) count(table uint8) int { return View{t.Txn}.Count(table) }

// note adds to the rows of a table, changed by the command at an index.
func (t *tx) note(table uint8, n int, index uint64) {
	was := View{t.Txn}.counter(table)
	must(t.Insert(countTable, &counter{table, was.n + n, max(was.changed, index)}))
}

// by is who is to be named in a row.
func (t *tx) by() string { return t.command.Actor }

func be64(n uint64) []byte { return binary.BigEndian.AppendUint64(nil, n) }
