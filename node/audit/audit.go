// Package audit shows who changed what: the records of the ledger, of which each
// is chained to the one before by its root, so that none can be changed or left
// out unseen. It has the endpoint, and the check of what somebody saved of it.
package audit

import (
	"context"
	"encoding/hex"
	"errors"
	"net/http"
	"slices"
	"strings"

	"github.com/holdfast-mesh/holdfast/access"
	"github.com/holdfast-mesh/holdfast/consensus/ledger"
	"github.com/holdfast-mesh/holdfast/node/cluster"
	"github.com/holdfast-mesh/holdfast/pbs/rest"
)

// Path is that of the endpoint.
const Path = "/holdfast/audit"

// MaxLimit is how many records are answered at most, which is all that a ledger keeps.
const MaxLimit = 4096

const defaultLimit = 50

// Endpoints returns the endpoint. Records name users, tokens, rights and the addresses
// that people came from, so that it takes the privilege to look at everything.
func Endpoints(c *cluster.Cluster) []rest.Endpoint {
	return []rest.Endpoint{{
		Method: http.MethodGet, Path: Path, Need: rest.Any(access.PrivSysAudit, "/"),
		Handle: func(_ context.Context, call *rest.Call) (any, error) {
			f, err := filterOf(call)
			if err != nil {
				return nil, err
			}
			return read(c.View(), f), nil
		},
	}}
}

// A Log is what the endpoint answers.
type Log struct {
	Records  []Record `json:"records"`            // the newest last
	Partial  bool     `json:"partial,omitempty"`  // some between them were left out, by what was asked for
	Previous string   `json:"previous,omitempty"` // root behind which the oldest of them stands, if it is known
	Before   uint64   `json:"before,omitempty"`   // ask with this for older ones, if there are any

	Ledger Ledger `json:"ledger"`
}

// Ledger is what the node that answers keeps.
type Ledger struct {
	Records int    `json:"records"`
	First   uint64 `json:"first"` // index of the oldest
	Last    uint64 `json:"last"`
	Root    string `json:"root"`             // of the newest, hexadecimal
	Broken  string `json:"broken,omitempty"` // why their chain is none
}

// A filter is what is asked for.
type filter struct {
	limit  int
	before uint64 // 0: the newest
	all    bool   // also what nodes do by themselves

	actor, subject, node, kind string
}

func filterOf(c *rest.Call) (filter, error) {
	f := filter{limit: defaultLimit}
	if c.Has("limit") {
		f.limit = int(c.Int("limit", 1, MaxLimit))
	}
	if c.Has("before") {
		f.before = uint64(c.Int("before", 1, 1<<62))
	}
	f.all = c.Has("all") && c.Bool("all")
	for name, to := range map[string]*string{"actor": &f.actor, "subject": &f.subject, "node": &f.node, "kind": &f.kind} {
		if c.Has(name) {
			*to = c.Text(name)
		}
	}
	if f.kind != "" && !slices.Contains(Kinds, f.kind) {
		c.Fail("kind", "there is no kind %q: want one of %s", f.kind, strings.Join(Kinds, ", "))
	}
	return f, c.Err()
}

// wants tells whether a record is one of those asked for.
func (f filter) wants(a ledger.Audit, t teller) bool {
	id := a.Node.NodeID()
	switch {
	case !f.all && f.kind == "" && routine(a):
		return false
	case f.kind != "" && kindName(a.Kind) != f.kind:
		return false
	case f.actor != "" && a.Actor != f.actor && !strings.HasPrefix(a.Actor, f.actor+"!"): // what a user's tokens did, too
		return false
	case f.node != "" && id != f.node && t.names[id] != f.node:
		return false
	}
	return f.subject == "" || slices.ContainsFunc(strings.Split(a.Subject, ", "), func(part string) bool {
		return strings.HasPrefix(part, f.subject) || strings.HasPrefix(t.named(part), f.subject)
	})
}

// read returns what is asked for of a state.
func read(v ledger.View, f filter) Log {
	var all []ledger.Audit
	for _, a := range ledger.Audits.All(v) {
		all = append(all, a.Body)
	}
	log := Log{Records: []Record{}, Ledger: kept(v, all)}
	teller := newTeller(v)
	oldest, newest := len(all), len(all) // of those that are answered
	for i := len(all) - 1; i >= 0; i-- {
		if f.before > 0 && all[i].Index >= f.before || !f.wants(all[i], teller) {
			continue
		}
		if len(log.Records) == f.limit {
			log.Before = all[oldest].Index
			break
		}
		if oldest = i; newest == len(all) {
			newest = i
		}
		log.Records = append(log.Records, teller.tell(all[i]))
	}
	slices.Reverse(log.Records)
	if n := len(log.Records); n > 0 {
		log.Partial = n <= newest-oldest
		log.Previous = previous(all, oldest)
	}
	return log
}

// previous is the root that the record at i stands behind, "" if it is forgotten.
func previous(all []ledger.Audit, i int) string {
	root := [32]byte{}
	if i > 0 {
		root = all[i-1].Root
	}
	if !all[i].Follows(root) {
		return ""
	}
	return hex.EncodeToString(root[:])
}

// kept says what a state has, and whether its chain holds.
func kept(v ledger.View, all []ledger.Audit) Ledger {
	root := v.AuditRoot()
	l := Ledger{Records: len(all), Root: hex.EncodeToString(root[:])}
	err := ledger.CheckAudit(all)
	if n := len(all); n > 0 {
		l.First, l.Last = all[0].Index, all[n-1].Index
		if err == nil && all[n-1].Root != root {
			err = errors.New("the chain does not end in its root")
		}
	}
	if err != nil {
		l.Broken = err.Error()
	}
	return l
}
