// Package orphans remembers what was changed in a part of the ledger that has ended:
// that of an old majority, behind the point from which the cluster was recovered
// elsewhere, or that of a leader whom another took entries back (consensus notes
// §2.4). Those changes were acknowledged, and are in no ledger any more: somebody has
// to know of them, and to decide which are made again.
package orphans

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"github.com/holdfast-mesh/holdfast/access/statefile"
	"github.com/holdfast-mesh/holdfast/consensus/authority"
	"github.com/holdfast-mesh/holdfast/consensus/canon"
	"github.com/holdfast-mesh/holdfast/consensus/ledger"
)

// A Change is one that was applied.
type Change struct {
	Index   uint64 `json:"index"`
	At      int64  `json:"time"` // Unix seconds, by the clock of who led
	Actor   string `json:"actor"`
	Address string `json:"address,omitempty"`
	Node    string `json:"node"` // where; its ID
	What    string `json:"what"` // "users/op@pbs"
	Root    string `json:"root"` // of the audit chain behind it: two ledgers that have it are one until there
}

// A Part is what a node knew of a part that has ended.
type Part struct {
	Ended   int64    `json:"ended"` // Unix seconds
	Dir     string   `json:"dir"`   // where its log is
	Judged  bool     `json:"judged,omitempty"`
	Changes []Change `json:"changes"` // the oldest first; when judged, those that the ledger of now lacks
}

// noise are commands that say what goes on, and change nothing that somebody wanted.
var noise = map[uint16]bool{
	ledger.KindRecord: true, ledger.KindSession: true, ledger.KindExpire: true, ledger.KindClaim: true,
	ledger.KindEnd: true, ledger.KindLevel: true, ledger.KindCheckpoint: true,
}

// Of lists the changes that a ledger remembers, the newest 4,096 at most. What operators
// signed for a recovery of this part, which another one has overtaken, is none of them:
// it said which part goes on, and nobody misses it.
func Of(v ledger.View) (all []Change) {
	recoveries := recoveriesOf(v.Chain())
	for _, row := range ledger.Audits.All(v) {
		if a := row.Body; !noise[a.Kind] && a.Result.Code == ledger.Done && !recoveries[a.Subject] {
			all = append(all, Change{a.Index, a.At / 1000, a.Actor, a.Address, a.Node.NodeID(), plain(a.Subject), hex.EncodeToString(a.Root[:])})
		}
	}
	return all
}

// recoveriesOf are the links of a chain that began an incarnation, as the ledger calls
// what a command was about.
func recoveriesOf(chain *authority.Chain) map[string]bool {
	all := map[string]bool{}
	for n, link := range chain.Links(0) {
		var l authority.Link
		if canon.Decode(link, &l) == nil && l.Kind == authority.Recover {
			all[fmt.Sprintf("authority/%020d", n)] = true
		}
	}
	return all
}

// plain leaves out of what a change was about the marks that every change of accounts,
// or of the settings of a node, writes.
func plain(subject string) string {
	var rows []string
	for what := range strings.SplitSeq(subject, ", ") {
		node, is := strings.CutPrefix(what, "settings/node/")
		if what != "settings/accounts" && !(is && !strings.Contains(node, "/")) {
			if n, is := strings.CutPrefix(what, "authority/"); is {
				what = "what operators signed (link " + strings.TrimLeft(n, "0") + ")"
			}
			rows = append(rows, strings.ReplaceAll(strings.ToValidUTF8(what, ""), "\x00", " "))
		}
	}
	if len(rows) == 0 {
		return subject
	}
	return strings.Join(rows, ", ")
}

// Missing are those of some changes that are not in a ledger, as far as it remembers:
// those that are older than all of it are in what both have.
func Missing(v ledger.View, all []Change) (missing []Change) {
	has, oldest := map[string]bool{}, uint64(0)
	for _, row := range ledger.Audits.All(v) {
		if oldest == 0 {
			oldest = row.Body.Index
		}
		has[hex.EncodeToString(row.Body.Root[:])] = true
	}
	for _, c := range all {
		if c.Index >= oldest && !has[c.Root] {
			missing = append(missing, c)
		}
	}
	return missing
}

// Names are what some changes were about, each once, the nodes by their names.
func Names(all []Change, name func(id string) string) (list []string) {
	seen := map[string]bool{}
	for _, c := range all {
		if what := Named(c.What, name); !seen[what] {
			seen[what] = true
			list = append(list, what)
		}
	}
	return list
}

// Named replaces the IDs of nodes in what a change was about.
func Named(what string, name func(id string) string) string {
	out, word := "", ""
	for _, r := range what + "\x00" {
		if r == '/' || r == ',' || r == ' ' || r == 0 {
			if _, err := authority.ParseNodeID(word); err == nil {
				word = name(word)
			}
			if out += word; r != 0 {
				out += string(r)
			}
			word = ""
			continue
		}
		word += string(r)
	}
	return out
}

const (
	maxFile  = 64 << 20
	maxParts = 20
)

// Read reads the parts that a file has, the oldest first; none if there is no file.
func Read(file string) (all []Part, err error) {
	b, err := statefile.ReadSecret(file, maxFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err == nil {
		err = json.Unmarshal(b, &all)
	}
	if err != nil {
		return nil, fmt.Errorf("read what was changed in parts of the ledger that have ended: %w", err)
	}
	return all, nil
}

// Write replaces what a file has, durably; the oldest parts go if there are too many.
// Without a part the file goes.
func Write(file string, all []Part) error {
	if len(all) == 0 {
		if err := os.Remove(file); !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return nil
	}
	b, err := json.Marshal(all[max(0, len(all)-maxParts):])
	if err == nil {
		_, err = statefile.WriteSecret(file, b, true)
	}
	if err != nil {
		return fmt.Errorf("note what was changed in a part of the ledger that has ended: %w", err)
	}
	return nil
}
