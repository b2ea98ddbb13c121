package notices

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/cespare/xxhash/v2"

	"github.com/holdfast-mesh/holdfast/consensus/ledger"
	"github.com/holdfast-mesh/holdfast/node/cluster"
)

// Claims say which node tells of what several see. A claim is a row of the
// ledger, which the first takes. Without a quorum the node tells that has the
// highest rank for the event among those that this node reaches, so that each
// part of a mesh that is torn apart tells once.
type Claims struct {
	Cluster *cluster.Cluster
	Reached func() []string // IDs of other nodes
}

// claimTime bounds how long the ledger is waited for.
const claimTime = 20 * time.Second

// prefix is in front of the keys of the rows.
const prefix = "notices/"

// Claim tells whether this node tells of an event until a time.
func (c *Claims) Claim(ctx context.Context, key string, until time.Time) (mine bool, err error) {
	self := c.Cluster.Self()
	if c.Cluster.Group().Status().Leader == "" {
		return first(self, c.Reached(), key), nil
	}
	sum := sha256.Sum256([]byte(key))
	row := prefix + hex.EncodeToString(sum[:16])
	now := time.Now()
	was, is := ledger.Settings.Get(c.Cluster.View(), row)
	if owner, at := parseClaim(was.Body.Value); is && at.After(now) {
		return owner == self, nil
	}
	ops := []ledger.Op{ledger.Settings.Put(row, was.Version, ledger.Setting{Value: fmt.Sprintf("%s %d", self, until.Unix())})}
	ops = append(ops, c.past(row, now)...)
	ctx, cancel := context.WithTimeout(ctx, claimTime)
	defer cancel()
	_, err = c.Cluster.Client().Do(ctx, "node", "", ledger.KindChange, ledger.Change{Ops: ops})
	if refused := (*ledger.Error)(nil); errors.As(err, &refused) && refused.Result.Code == ledger.Conflict {
		return false, fmt.Errorf("another node was faster: %w", err) // who, is known when it is asked again
	}
	return err == nil, err
}

// past removes claims whose time is over.
func (c *Claims) past(but string, now time.Time) (ops []ledger.Op) {
	for key, r := range ledger.Settings.All(c.Cluster.View()) {
		if _, at := parseClaim(r.Body.Value); strings.HasPrefix(key, prefix) && key != but && !at.After(now) && len(ops) < 100 {
			ops = append(ops, ledger.Settings.Delete(key, r.Version))
		}
	}
	return ops
}

func parseClaim(text string) (owner string, until time.Time) {
	owner, seconds, _ := strings.Cut(text, " ")
	n, _ := strconv.ParseInt(seconds, 10, 64) // else it is over
	return owner, time.Unix(n, 0)
}

// first tells whether a node is the first of some for a key, by
// rendezvous hashing: all that know the same nodes agree.
func first(self string, others []string, key string) bool {
	rank := func(node string) uint64 { return xxhash.Sum64String(node + "\x00" + key) }
	for _, o := range others {
		if rank(o) > rank(self) {
			return false
		}
	}
	return true
}
