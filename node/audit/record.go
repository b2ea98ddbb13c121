package audit

import (
	"encoding/base64"
	"encoding/hex"
	"strconv"
	"strings"

	"github.com/holdfast-mesh/holdfast/consensus/authority"
	"github.com/holdfast-mesh/holdfast/consensus/ledger"
	"github.com/holdfast-mesh/holdfast/node/operator"
)

// A Record is one command as the API shows it. Record is all of it; What and
// NodeName are what the node that answers makes of it.
type Record struct {
	Index    uint64 `json:"index"`
	Time     int64  `json:"time"` // Unix seconds, by the clock of the leader
	Actor    string `json:"actor"`
	Address  string `json:"address,omitempty"` // of who asked
	Node     string `json:"node"`              // ID of the node where it was asked
	NodeName string `json:"node-name,omitempty"`
	Kind     string `json:"kind"`
	Subject  string `json:"subject,omitempty"`
	What     string `json:"what"`
	Result   string `json:"result"`
	Why      string `json:"why,omitempty"` // not
	Root     string `json:"root"`          // hexadecimal
	Record   string `json:"record"`        // base64
}

// Kinds are what the kinds of command are called.
var Kinds = []string{
	"change", "authority", "join", "invite", "revoke", "record", "session",
	"expire", "claim", "end", "level", "checkpoint", "state", "clock",
}

// kindName is the name of a kind, whose numbers begin with 1.
func kindName(k uint16) string {
	if k > 0 && int(k) <= len(Kinds) {
		return Kinds[k-1]
	}
	return "kind " + strconv.Itoa(int(k))
}

var results = map[ledger.Code]string{
	ledger.Done: "done", ledger.Conflict: "conflict", ledger.Refused: "refused", ledger.Skipped: "skipped", ledger.Forbidden: "forbidden",
}

// said is a record without what is not in it.
func said(a ledger.Audit) Record {
	r := Record{
		Index: a.Index, Time: a.At / 1000, Actor: text(a.Actor), Address: text(a.Address), Node: a.Node.NodeID(), Kind: kindName(a.Kind),
		Subject: text(a.Subject), Result: results[a.Result.Code], Why: text(a.Result.Text),
		Root: hex.EncodeToString(a.Root[:]), Record: base64.StdEncoding.EncodeToString(a.Bytes()),
	}
	if r.Result == "" {
		r.Result = a.Result.Code.String()
	}
	if a.Result.Key != "" {
		r.Why = text(a.Result.Key) + ": " + r.Why
	}
	return r
}

// text is what can be written in JSON: what a command was about is cut at some length,
// also in a letter.
func text(s string) string { return strings.ToValidUTF8(s, "\ufffd") }

// routine tells what nodes do by themselves all day.
func routine(a ledger.Audit) bool {
	switch a.Kind {
	case ledger.KindRecord, ledger.KindSession, ledger.KindExpire, ledger.KindClaim, ledger.KindEnd, ledger.KindCheckpoint:
		return true
	case ledger.KindChange: // who tells of an event, how much each node may ask of a bucket
		for part := range strings.SplitSeq(a.Subject, ", ") {
			if !strings.HasPrefix(part, "settings/") {
				return false
			}
		}
		return a.Actor == byNode
	}
	return false
}

// byNode is the actor of what a node does by itself.
const byNode = "node"

// A teller says for people what records are about.
type teller struct {
	names map[string]string // of nodes, by their IDs
	chain *authority.Chain
}

func newTeller(v ledger.View) teller {
	t := teller{map[string]string{}, v.Chain()}
	for id, m := range ledger.Members.All(v) {
		t.names[id] = m.Body.Name
	}
	return t
}

func (t teller) tell(a ledger.Audit) Record {
	r := said(a)
	r.NodeName = t.names[r.Node]
	r.What = t.named(t.what(a))
	return r
}

// what says what a command did.
func (t teller) what(a ledger.Audit) string {
	if a.Kind == ledger.KindAuthority && a.Result.Code == ledger.Done {
		if what := t.link(a.Subject); what != "" {
			return what
		}
	}
	var parts []string
	for part := range strings.SplitSeq(text(a.Subject), ", ") {
		if !mark(part) {
			parts = append(parts, part)
		}
	}
	return strings.TrimSpace(kindName(a.Kind) + " " + strings.Join(parts, ", "))
}

// mark tells a row that every change of accounts or of the settings of a node
// writes, and which says nothing else.
func mark(part string) bool {
	key, is := strings.CutPrefix(part, ledger.Settings.String()+"/")
	return is && (ledger.Op{Table: ledger.Settings.Number(), Key: key}).Mark()
}

// link says what the link did that a command put into the chain, and who signed it.
func (t teller) link(subject string) string {
	n, err := strconv.ParseUint(strings.TrimPrefix(subject, "authority/"), 10, 64)
	if err != nil {
		return ""
	}
	links := t.chain.Links(n)
	if len(links) == 0 {
		return ""
	}
	what, signers, err := operator.Does(links[0])
	if err != nil {
		return ""
	}
	if len(signers) > 0 {
		what += "; signed by " + strings.Join(signers, " and ")
	}
	return what
}

// named puts the names of nodes where their IDs are, and blanks between the parts of
// a key.
func (t teller) named(s string) string {
	s = strings.ReplaceAll(s, "\x00", " ")
	for id, name := range t.names {
		if name != "" {
			s = strings.ReplaceAll(s, id, name)
		}
	}
	return s
}
