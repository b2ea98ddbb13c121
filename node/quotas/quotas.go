// Package quotas divides what an S3 store allows an account among the nodes that use
// it.
//
// Which nodes have an account is in the settings that the ledger has of each. A node
// that makes requests says so in the ledger, for ten minutes; those that do divide
// what the store allows, but for a tenth of the share of each that does not, with
// which it may begin. Whoever begins, or takes its share back, waits until others have
// heard of it before it uses it. So what all use together is never more than is
// allowed. Who cannot ask the ledger uses an equal share of all that have the account,
// as they were known last; and a node that is not reached is taken to use its own.
package quotas

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/holdfast-mesh/holdfast/pbs/settings"
)

// A Node is one that may use an account.
type Node struct {
	ID      string
	Reached bool // also of ourselves
	Tells   bool // its role lets it tell the ledger that it works; who may not has its share always
	State   *settings.State
}

// A Ledger has rows of which every node sees the same.
type Ledger interface {
	Row(key string) (value string, version uint64, is bool)
	// Set writes a row that is as it was seen; "" removes it.
	Set(ctx context.Context, key string, version uint64, value string) error
	Leads() bool // somebody does, so that it can be written
}

// Config says what the quotas work with. All but Log are required.
type Config struct {
	Self   string
	Nodes  func() []Node // members of the cluster
	Ledger Ledger
	Asked  func(account string) int64         // requests made since the start
	Share  func(account string, part float64) // what this node may use from now on
	Log    *slog.Logger                       // default: discard
}

// Quotas are those of one node.
type Quotas struct {
	cfg  Config
	seen map[string]*use
}

// A use is what is known of our own use of an account.
type use struct {
	asked int64
	last  time.Time // when a request was seen
	since time.Time // since when the ledger has it that we work; zero: it has not
}

// New returns the quotas of a node. It starts nothing.
func New(cfg Config) (*Quotas, error) {
	if cfg.Self == "" || cfg.Nodes == nil || cfg.Ledger == nil || cfg.Asked == nil || cfg.Share == nil {
		return nil, errors.New("quotas: something is missing")
	}
	cfg.Log = cmp.Or(cfg.Log, slog.New(slog.DiscardHandler))
	return &Quotas{cfg: cfg, seen: map[string]*use{}}, nil
}

const (
	tick   = 2 * time.Second
	valid  = 10 * time.Minute // of what the ledger is told
	renew  = valid / 2
	rest   = time.Minute     // without a request a node is done
	settle = 5 * time.Second // until others have heard of it, and act
	skew   = 5 * time.Second // of clocks, in favour of the other
	little = 0.1             // of an equal share, for who is not at work
)

// Run keeps the shares right until ctx is done.
func (q *Quotas) Run(ctx context.Context) error {
	t := time.NewTicker(tick)
	defer t.Stop()
	for {
		q.Look(ctx, time.Now())
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		}
	}
}

// Look sets the shares that are right now.
func (q *Quotas) Look(ctx context.Context, now time.Time) {
	nodes := q.cfg.Nodes()
	for _, account := range accountsOf(nodes, q.cfg.Self) {
		var all []Node
		for _, n := range nodes {
			if n.State != nil && slices.ContainsFunc(n.State.S3Clients, func(c settings.S3Client) bool { return c.Account() == account }) {
				all = append(all, n)
			}
		}
		if len(all) < 2 {
			q.cfg.Share(account, 1)
			continue
		}
		u := q.seen[account]
		if u == nil {
			u = &use{}
			q.seen[account] = u
		}
		if asked := q.cfg.Asked(account); asked != u.asked {
			u.asked, u.last = asked, now
		}
		q.tell(ctx, account, u, now)
		q.cfg.Share(account, q.part(account, all, u, now))
	}
}

// accountsOf are those of a node, each once.
func accountsOf(nodes []Node, self string) (list []string) {
	for _, n := range nodes {
		if n.ID != self || n.State == nil {
			continue
		}
		for _, c := range n.State.S3Clients {
			if !slices.Contains(list, c.Account()) {
				list = append(list, c.Account())
			}
		}
	}
	return list
}

// prefix is in front of the keys of the rows: of an account, and of a node.
const prefix = "s3-quota/"

func row(account, node string) string {
	sum := sha256.Sum256([]byte(account))
	return prefix + hex.EncodeToString(sum[:8]) + "/" + node
}

// until is when what a row says ends.
func until(value string) time.Time {
	n, _ := strconv.ParseInt(value, 10, 64) // else it is over
	return time.Unix(n, 0)
}

// tell tells the ledger that we are at work, or are no more.
func (q *Quotas) tell(ctx context.Context, account string, u *use, now time.Time) {
	key := row(account, q.cfg.Self)
	was, version, is := q.cfg.Ledger.Row(key)
	works := !u.last.IsZero() && now.Sub(u.last) < rest
	alive := is && until(was).After(now.Add(skew))
	if !works || !alive {
		u.since = time.Time{}
	} else if u.since.IsZero() {
		u.since = now
	}
	value := strconv.FormatInt(now.Add(valid).Unix(), 10)
	switch {
	case !q.cfg.Ledger.Leads():
		return
	case works && !until(was).After(now.Add(renew)):
	case !works && is:
		value = ""
	default:
		return
	}
	ctx, cancel := context.WithTimeout(ctx, 5*tick)
	defer cancel()
	if err := q.cfg.Ledger.Set(ctx, key, version, value); err != nil {
		q.cfg.Log.Debug("the ledger was not told of work on an S3 account", "account", strings.Fields(account)[0], "err", err)
	}
}

// part is what this node may use.
func (q *Quotas) part(account string, all []Node, u *use, now time.Time) float64 {
	equal := 1 / float64(len(all))
	self := slices.IndexFunc(all, func(n Node) bool { return n.ID == q.cfg.Self })
	if !q.cfg.Ledger.Leads() || self >= 0 && !all[self].Tells {
		return equal
	}
	workers, free := 1, 1.0
	for _, n := range all {
		if n.ID == q.cfg.Self {
			continue
		}
		value, _, is := q.cfg.Ledger.Row(row(account, n.ID))
		if !n.Reached || !n.Tells || is && until(value).After(now.Add(-skew)) {
			workers++
		} else {
			free -= little * equal
		}
	}
	if u.since.IsZero() || now.Sub(u.since) < settle {
		return little * equal
	}
	return free / float64(workers)
}
