package cluster

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"

	"github.com/holdfast-mesh/holdfast/consensus"
	"github.com/holdfast-mesh/holdfast/consensus/actor"
	"github.com/holdfast-mesh/holdfast/consensus/canon"
	"github.com/holdfast-mesh/holdfast/consensus/ledger"
	"github.com/holdfast-mesh/holdfast/pbs/settings"
)

// Settings are what one node has set up, as rows of the ledger: a datastore is
// a row of its table, a job likewise, everything else a setting. Each node has
// its own, so that two nodes may have a datastore of the same name.
type Settings struct {
	client *ledger.Client
	node   string
	state  atomic.Pointer[setUp]

	drafted drafting // nil: there are no drafts of them
}

var _ settings.Store = (*Settings)(nil)

// A setUp is the state of one view.
type setUp struct {
	*settings.State
	mark     ledger.Row[ledger.Setting] // that every change writes
	versions map[place]uint64           // of the rows
}

// A place is where a row is.
type place struct {
	table uint8
	key   string
}

func newSettings(client *ledger.Client, node string) *Settings {
	return &Settings{client: client, node: node}
}

// generationKey is the setting that every change of a node's settings writes,
// so that two changes which are each right cannot be wrong together.
func (s *Settings) generationKey() string { return "node/" + s.node }

// incomplete is the value of that row between the parts of a large change.
const incomplete = "incomplete"

// State returns the settings of now. While the ledger of this node is empty,
// since it begins anew, they are what they were.
func (s *Settings) State() *settings.State { return s.current().State }

func (s *Settings) current() *setUp {
	for {
		v, was := s.client.Ledger.View(), s.state.Load()
		mark, _ := ledger.Settings.Get(v, s.generationKey())
		if was != nil && (was.mark.Same(mark) || v.Chain() == nil) {
			return was
		}
		now, err := s.read(v, mark)
		if err != nil { // written by a newer program; what is known stays
			if was != nil {
				return was
			}
			now = &setUp{State: settings.New(), versions: map[place]uint64{}}
		}
		if s.state.CompareAndSwap(was, now) {
			return now
		}
	}
}

func (s *Settings) read(v ledger.View, mark ledger.Row[ledger.Setting]) (*setUp, error) {
	rows, versions := rows{}, map[place]uint64{}
	prefix := s.node + "/"
	for key, r := range ledger.Datastores.All(v) {
		if name, ours := cut(key, prefix); ours {
			rows.addDatastore(name, r.Body)
			versions[place{ledger.Datastores.Number(), key}] = r.Version
		}
	}
	for key, r := range ledger.Jobs.All(v) {
		if _, ours := cut(key, prefix); ours {
			rows.addJob(key[len(prefix):], r.Body)
			versions[place{ledger.Jobs.Number(), key}] = r.Version
		}
	}
	for key, r := range ledger.Settings.All(v) {
		if list, ours := cut(key, s.generationKey()+"/"); ours {
			rows.addList(list, r.Body)
			versions[place{ledger.Settings.Number(), key}] = r.Version
		}
	}
	state, err := rows.state()
	return &setUp{state, mark, versions}, err
}

// maxTries bounds how often a change is made again because somebody else was
// faster.
const maxTries = 8

// Update changes the settings; see [settings.Store].
func (s *Settings) Update(ctx context.Context, change func(*settings.State) error) error {
	if !s.client.Heard(ctx) { // else it would be a change of nothing
		return ledger.ErrNotYet
	}
	if settings.IsAtOnce(ctx) {
		return undrafted(s.tryUpdate(ctx, change))
	}
	if s.drafted == nil {
		return s.tryUpdate(ctx, change)
	}
	return s.drafted(ctx, func(ctx context.Context) error { return s.tryUpdate(ctx, change) }, func(ctx context.Context, on *ledger.Client) error {
		return newSettings(on, s.node).tryUpdate(ctx, change)
	})
}

// undrafted says what helps when what destroys something could not be agreed on.
func undrafted(err error) error {
	switch {
	case errors.Is(err, consensus.ErrNoLeader):
		return &Error{fmt.Errorf("what destroys data is not kept as a draft, and nothing is changed: %w", err),
			"run the same command again when `holdfast status` shows a quorum; to have the datastore forgotten, and its data kept, leave out --destroy-data"}
	case errors.Is(err, consensus.ErrUnknown):
		return &Error{err, "when `holdfast status` shows a quorum, look at `holdfast datastore list`: if it is there, run the same command again; " +
			"if it is gone, its data are still in its directory: add that with `holdfast datastore create NAME --path DIR --reuse`, and remove it again"}
	}
	return err
}

func (s *Settings) tryUpdate(ctx context.Context, change func(*settings.State) error) error {
	for try := 1; ; try++ {
		err := s.update(ctx, change)
		var refused *ledger.Error
		if !errors.As(err, &refused) || refused.Result.Code != ledger.Conflict || try == maxTries {
			return err
		}
	}
}

func (s *Settings) update(ctx context.Context, change func(*settings.State) error) error {
	was := s.current()
	next := settings.Clone(was.State)
	if err := change(next); err != nil {
		return err
	}
	next = settings.Clone(next) // tidy
	if err := next.Check(); err != nil {
		return err
	}
	ops, err := s.diff(was, next)
	if err != nil {
		return err
	}
	for generation := was.mark.Version; len(ops) > 0; { // more than fits in one command only when settings are taken over
		n := fitting(ops)
		mark := ledger.Setting{}
		if n < len(ops) {
			mark.Value = incomplete
		}
		part := append(slices.Clone(ops[:n]), ledger.Settings.Put(s.generationKey(), generation, mark))
		r, err := s.client.Do(ctx, actor.Of(ctx), actor.Address(ctx), ledger.KindChange, ledger.Change{Ops: part})
		if err != nil {
			return fmt.Errorf("change settings: %w", err)
		}
		generation, ops = r.Index, ops[n:]
	}
	return nil
}

// A command carries at most so many changes, and so many bytes of them.
const (
	maxOps     = 400
	maxCommand = 48 << 10
)

// fitting returns how many of the changes fit in a command.
func fitting(ops []ledger.Op) int {
	size := 0
	for i, o := range ops {
		if size += len(canon.Encode(o)); i == maxOps || size > maxCommand {
			return max(i, 1)
		}
	}
	return len(ops)
}

// diff returns what has to change in the ledger, in the order of tables and
// keys.
func (s *Settings) diff(was *setUp, next *settings.State) (ops []ledger.Op, err error) {
	old, err := s.ops(was.State)
	if err != nil {
		return nil, err
	}
	new, err := s.ops(next)
	if err != nil {
		return nil, err
	}
	for p, o := range new {
		before, had := old[p]
		if version := was.versions[p]; !had || version == 0 || string(before.Body) != string(o.Body) {
			o.Expect = version
			ops = append(ops, o)
		}
	}
	for p, version := range was.versions {
		if _, is := new[p]; !is {
			ops = append(ops, ledger.Op{Table: p.table, Key: p.key, Expect: version, Delete: true})
		}
	}
	slices.SortFunc(ops, func(a, b ledger.Op) int {
		if a.Table != b.Table {
			return int(a.Table) - int(b.Table)
		}
		return compare(a.Key, b.Key)
	})
	return ops, nil
}

// ops returns the rows of a state, as changes that expect none.
func (s *Settings) ops(state *settings.State) (map[place]ledger.Op, error) {
	rows, err := rowsOf(state)
	if err != nil {
		return nil, err
	}
	all := map[place]ledger.Op{}
	add := func(o ledger.Op) { all[place{o.Table, o.Key}] = o }
	for name, d := range rows.datastores {
		d.Node = s.node
		add(ledger.Datastores.Put(s.node+"/"+name, 0, d))
	}
	for key, j := range rows.jobs {
		j.Node = s.node
		add(ledger.Jobs.Put(s.node+"/"+key, 0, j))
	}
	for list, text := range rows.lists {
		add(ledger.Settings.Put(s.generationKey()+"/"+list, 0, ledger.Setting{Value: text}))
	}
	return all, nil
}

// takeOver fills a ledger in which the node has no settings yet. It does
// nothing if there are any, and goes on where a crash ended it.
func (s *Settings) takeOver(ctx context.Context, from *settings.State) error {
	mark, is := ledger.Settings.Get(s.client.Ledger.View(), s.generationKey())
	if is && mark.Body.Value != incomplete {
		return nil
	}
	return s.update(ctx, func(to *settings.State) error {
		*to = *settings.Clone(from)
		return nil
	})
}
