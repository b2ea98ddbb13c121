package pulls

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/holdfast-mesh/holdfast/catalog/naming"
	"github.com/holdfast-mesh/holdfast/mesh/network"
	"github.com/holdfast-mesh/holdfast/pbs/settings"
	"github.com/holdfast-mesh/holdfast/replication"
	"github.com/holdfast-mesh/holdfast/replication/plan"
	"github.com/holdfast-mesh/holdfast/replication/rate"
	"github.com/holdfast-mesh/holdfast/replication/swarm"
	"github.com/holdfast-mesh/holdfast/replication/wire"
)

// member returns a member by its name or ID.
func (p *Pulls) member(nameOrID string) (Member, bool) {
	all := p.cfg.Members()
	i := slices.IndexFunc(all, func(m Member) bool { return m.ID == nameOrID }) // before one that was named so
	if i < 0 {
		i = slices.IndexFunc(all, func(m Member) bool { return m.Name == nameOrID })
	}
	if i < 0 {
		return Member{}, false
	}
	return all[i], true
}

func (p *Pulls) nameOf(node string) string {
	if m, is := p.member(node); is {
		return m.Name
	}
	return node
}

// Resolve returns the member that a job names, or why there is none.
func (p *Pulls) Resolve(remote string) (Member, error) {
	if remote == "" {
		remote = p.cfg.Self
	}
	m, is := p.member(remote)
	if !is && remote == p.cfg.Self {
		return Member{ID: remote, Name: "this node"}, nil
	}
	if !is {
		return m, &hinted{fmt.Errorf("there is no node %q in this cluster", remote), "`holdfast member list` names them"}
	}
	return m, nil
}

// dial connects to a node for pulling from it.
func (p *Pulls) dial(ctx context.Context, node string) (net.Conn, error) {
	if node == p.cfg.Self {
		return p.local.dial(ctx)
	}
	if p.cfg.Network == nil {
		return nil, &hinted{errors.New("this node is linked to no other"), "give it a mesh-listen address in node.toml, and let it join a cluster"}
	}
	c, err := p.cfg.Network.Dial(ctx, node, network.ServiceBulk)
	if err != nil {
		return nil, err
	}
	return p.limited(c, node), nil
}

func (p *Pulls) client(m Member, store string, in *rate.Bucket) (*wire.Client, error) {
	return wire.NewClient(wire.ClientConfig{
		Peer: m.Name, Store: store, In: in,
		Dial: func(ctx context.Context) (net.Conn, error) { return p.dial(ctx, m.ID) },
	})
}

// first returns the source that says what there is: a node of the cluster or,
// if there is none of that name, a remote.
func (p *Pulls) first(j settings.SyncJob, in *rate.Bucket, g *guards) (Member, replication.Source, error) {
	m, err := p.Resolve(j.Remote)
	if err != nil && p.cfg.Foreign != nil {
		if s, is, ferr := p.cfg.Foreign(j.Remote, j.RemoteStore, in); is {
			return Member{}, s, ferr
		}
	}
	if err != nil {
		return m, nil, err
	}
	c, err := g.client(p, m, j.RemoteStore, in)
	return m, c, err
}

// sources returns whom a job pulls from: first the one that says what there is,
// then those that only give chunks. Who of these cannot be asked is left out.
func (p *Pulls) sources(ctx context.Context, j settings.SyncJob, in *rate.Bucket, g *guards, note func(string, ...any)) ([]replication.Source, error) {
	first, c, err := p.first(j, in, g)
	if err != nil {
		return nil, err
	}
	list := []replication.Source{c}
	seen := map[string]bool{first.ID + ":" + j.RemoteStore: true, p.cfg.Self + ":" + j.Store: true}
	add := func(m Member, store string) {
		if key := m.ID + ":" + store; !seen[key] && len(list) < swarm.MaxSources {
			seen[key] = true
			if c, err := g.client(p, m, store, in); err == nil {
				list = append(list, chunksOnly{c})
			}
		}
	}
	ask := map[string]Member{} // whose datastores we have to be told
	for _, s := range j.Sources {
		node, store, named := strings.Cut(s, ":")
		switch m, is := p.member(node); {
		case s == settings.AnySource:
			for _, m := range p.cfg.Members() {
				ask[m.ID] = m
			}
		case !is:
			note("source '%s' is left out: there is no node of that name", s)
		case named:
			add(m, store)
		default:
			ask[m.ID] = m
		}
	}
	for m, stores := range p.askStores(ctx, ask, note) {
		for _, store := range stores {
			add(m, store)
		}
	}
	return list, nil
}

// askTime is how long a node may take to say which datastores it shows us.
const askTime = 5 * time.Second

// askStores asks members, all at once, which datastores we may read there.
func (p *Pulls) askStores(ctx context.Context, ask map[string]Member, note func(string, ...any)) map[Member][]string {
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	all := map[Member][]string{}
	var mu sync.Mutex
	var asking sync.WaitGroup
	for _, m := range ask {
		asking.Go(func() {
			stores, err := p.storesOf(ctx, m)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				note("source '%s' is left out: %v", m.Name, err)
				return
			}
			all[m] = stores
		})
	}
	asking.Wait()
	return all
}

// maxStores bounds what a node says of its datastores, in bytes.
const maxStores = 1 << 20

func (p *Pulls) storesOf(ctx context.Context, m Member) (list []string, err error) {
	resp, err := p.get(ctx, m, "stores", "")
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("it answers with %s", resp.Status)
	}
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxStores)).Decode(&list); err != nil {
		return nil, fmt.Errorf("read its list of datastores: %w", err)
	}
	return slices.DeleteFunc(list, func(name string) bool { return naming.CheckStoreName(name) != nil }), nil
}

// chunksOnly is a source that gives chunks and is not asked what there is: its
// namespaces are others.
type chunksOnly struct{ *wire.Client }

func (c chunksOnly) Catalog(context.Context, naming.Namespace, int) (plan.Side, error) {
	return plan.Side{}, fmt.Errorf("%s is asked for chunks only", c.Name())
}

// A hinted error has a known cure.
type hinted struct {
	error
	cure string
}

func (e *hinted) Unwrap() error { return e.error }

// Hint is printed on its own line below the error.
func (e *hinted) Hint() string { return e.cure }
