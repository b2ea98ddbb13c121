package members

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/holdfast-mesh/holdfast/consensus/authority"
	"github.com/holdfast-mesh/holdfast/node/cluster"
	"github.com/holdfast-mesh/holdfast/node/overview"
	"github.com/holdfast-mesh/holdfast/pbs/rest"
)

// Operators are those whose signatures say who belongs to the cluster.
type Operators struct {
	Operators []string `json:"operators"` // their public keys, as IDs of nodes are written
	Threshold int      `json:"threshold"` // how many have to sign

	// A change of both that waits, if one does.
	Next          []string `json:"next-operators,omitempty"`
	NextThreshold int      `json:"next-threshold,omitempty"`
	SignedBy      []string `json:"next-signed-by,omitempty"` // which of the present operators
	Counts        string   `json:"next-counts-from,omitempty"`
}

func operatorsOf(c *cluster.Cluster) Operators {
	keys, threshold := c.Chain().Operators()
	o := Operators{Operators: names(keys), Threshold: threshold}
	if p, waits := c.View().Proposal(); waits {
		o.Next, o.NextThreshold, o.SignedBy = names(p.Body.Operators), p.Body.Threshold, names(p.Signers)
		o.Counts = p.Due.UTC().Format(time.RFC3339)
	}
	return o
}

func names(keys []authority.Key) []string {
	all := []string{}
	for _, k := range keys {
		all = append(all, k.NodeID())
	}
	return all
}

// Waiting warns of what waits for somebody: a change of operators, and the place of a
// lost node that this one is to take. It says what can be done about it.
func Waiting(c *cluster.Cluster, node string) (list []overview.Warning) {
	if why, file := c.NotInherited(); why != "" {
		list = append(list, overview.Warning{Level: "warning", Node: node, Text: why, Hint: "if that is not its name (`holdfast member list`), write the right one into " + file + ", and restart the node"})
	}
	o := operatorsOf(c)
	if o.Counts == "" {
		return list
	}
	text := fmt.Sprintf("the operators will be changed at %s: %s have signed, which is %d of %d, that %d of these sign from then on: %s",
		o.Counts, strings.Join(o.SignedBy, " and "), len(o.SignedBy), len(o.Operators), o.NextThreshold, strings.Join(o.Next, ", "))
	return append(list, overview.Warning{Level: "warning", Node: node, Text: text, Hint: "if not all operators want it, a key may be stolen: any one of them stops it with `holdfast operator veto --operator-key FILE`"})
}

func (a api) operators(context.Context, *rest.Call) (any, error) { return operatorsOf(a.Cluster), nil }

// vetoOperators drops a change of operators that waits. One operator signs it.
func (a api) vetoOperators(ctx context.Context, c *rest.Call) (any, error) {
	p, waits := a.Cluster.Chain().Pending()
	if !waits {
		return nil, &hinted{errors.New("no change of operators waits"), "`holdfast operator list` says who they are"}
	}
	return a.signed(ctx, c, authority.Veto, authority.Waiting{Seq: p.Seq})
}

// setOperators has others be the operators. As many of the old ones sign it as
// sign everything, and all of the new ones; if not all of the old ones do, it waits.
func (a api) setOperators(ctx context.Context, c *rest.Call) (any, error) {
	body := authority.OperatorsBody{Threshold: int(c.Int("threshold", 1, authority.MaxOperators))}
	for _, id := range c.Texts("operator") {
		key, err := authority.ParseNodeID(id)
		if err != nil {
			return nil, fmt.Errorf("operator %.80q: %w", id, err)
		}
		body.Operators = append(body.Operators, key)
	}
	if err := c.Err(); err != nil {
		return nil, err
	}
	if n := len(body.Operators); n < body.Threshold || n > authority.MaxOperators {
		return nil, fmt.Errorf("%d of %d operators have to sign: want at most as many as there are, and %d operators at most", body.Threshold, n, authority.MaxOperators)
	}
	kind := authority.NewOperators
	if a.Cluster.View().Level() < authority.LevelDelay { // some member knows no other
		kind = authority.Operators
	}
	answer, err := a.signed(ctx, c, kind, body)
	if err == nil && c.Has("link") {
		return operatorsOf(a.Cluster), nil
	}
	return answer, err
}
