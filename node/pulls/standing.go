package pulls

import (
	"time"

	"github.com/holdfast-mesh/holdfast/catalog/naming"
	"github.com/holdfast-mesh/holdfast/mesh/facts"
	"github.com/holdfast-mesh/holdfast/replication/plan"
)

// A Standing is how far a pull is behind its source.
type Standing struct {
	Behind int       // snapshots that the job wants and that are not here
	Since  time.Time // when the oldest of these was made; zero: none is missing
}

// Standing returns how far a pull is behind, by what its source and this node have
// said of themselves: nobody is asked. It is not known of a job whose source says
// nothing of itself, as a server outside the cluster, nor of one that wants what is
// encrypted only, which is not said.
func (p *Pulls) Standing(id string) (s Standing, known bool) {
	j, err := p.Find(id)
	if err != nil || j.Pushes() || p.cfg.Held == nil {
		return s, false
	}
	m, err := p.Resolve(j.Remote)
	if err != nil {
		return s, false
	}
	opt, err := p.options(j)
	if err != nil || opt.EncryptedOnly {
		return s, false
	}
	held := p.cfg.Held(m.ID, j.RemoteStore)
	if len(held) == 0 {
		return s, false
	}
	opt.RemoveVanished, opt.ResyncCorrupt = false, false
	pl, err := plan.New(side(held, opt.Owner), side(p.cfg.Held(p.cfg.Self, j.Store), opt.Owner), opt.Options)
	if err != nil {
		return s, false
	}
	for _, g := range pl.Groups {
		for _, f := range g.Fetch {
			if f.Why != plan.Fresh {
				continue
			}
			s.Behind++
			if at := time.Unix(f.Time, 0); s.Since.IsZero() || at.Before(s.Since) {
				s.Since = at
			}
		}
	}
	return s, true
}

// side is what a node has said that it holds, as a plan takes it.
func side(held []facts.Held, owner string) (out plan.Side) {
	seen := map[naming.Namespace]bool{}
	for _, h := range held {
		ns := naming.Namespace(h.Group.Namespace)
		if !seen[ns] {
			seen[ns] = true
			out.Namespaces = append(out.Namespaces, ns)
		}
		g := plan.Group{Namespace: ns, Group: naming.Group{Type: naming.Type(h.Group.Type), ID: h.Group.ID}, Owner: owner}
		for _, c := range h.Copies {
			s := plan.Snapshot{Time: c.Time}
			if c.Verified != 0 {
				s.Verified = "ok"
			}
			if c.Damaged {
				s.Verified = "failed"
			}
			g.Snapshots = append(g.Snapshots, s)
		}
		out.Groups = append(out.Groups, g)
	}
	return out
}

// Standings are those of all pulls of which it is known, by the ID of the job.
func (p *Pulls) Standings() map[string]Standing {
	all := map[string]Standing{}
	for _, j := range p.cfg.Settings.State().SyncJobs {
		if s, known := p.Standing(j.ID); known {
			all[j.ID] = s
		}
	}
	return all
}
