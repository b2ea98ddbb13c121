package members

import (
	"context"
	"fmt"

	"github.com/holdfast-mesh/holdfast/consensus/authority"
	"github.com/holdfast-mesh/holdfast/node/operator"
	"github.com/holdfast-mesh/holdfast/pbs/rest"
)

// Operators are those whose signatures say who belongs to the cluster.
type Operators struct {
	Operators []string `json:"operators"` // their public keys, as IDs of nodes are written
	Threshold int      `json:"threshold"` // how many have to sign
}

func (a api) operators(context.Context, *rest.Call) (any, error) {
	keys, threshold := a.Cluster.Chain().Operators()
	o := Operators{[]string{}, threshold}
	for _, k := range keys {
		o.Operators = append(o.Operators, k.NodeID())
	}
	return o, nil
}

// setOperators has others be the operators. As many of the old ones sign it as
// sign everything, and all of the new ones.
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
	if c.Has("link") {
		return a.signed(ctx, c, authority.Operators, body)
	}
	return operator.NewDraft(a.Cluster.Chain(), authority.Operators, body), nil
}
