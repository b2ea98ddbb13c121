package cluster

import (
	"cmp"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/holdfast-mesh/holdfast/consensus/ledger"
	"github.com/holdfast-mesh/holdfast/pbs/settings"
)

// rows are the settings of a node as the ledger has them: what every node has
// to know of a datastore or a job stands in fields, the rest as its JSON. So a
// setting that is new needs nothing here.
type rows struct {
	datastores map[string]ledger.Datastore // by name
	jobs       map[string]ledger.Job       // by kind/ID
	lists      map[string]string           // everything else, in JSON
}

// The lists that have tables, by their names in JSON.
const datastoreList = "datastores"

var jobKinds = map[string]string{"prune-jobs": "prune", "verify-jobs": "verify", "sync-jobs": "sync"}

// An object is one of JSON, each field as its text.
type object map[string]json.RawMessage

// rowsOf takes a state apart.
func rowsOf(s *settings.State) (r rows, err error) {
	text, err := json.Marshal(s)
	if err != nil {
		return r, err
	}
	var lists map[string][]object
	if err := json.Unmarshal(text, &lists); err != nil {
		return r, fmt.Errorf("settings are not lists of objects: %w", err)
	}
	for list, objects := range lists {
		kind, isJobs := jobKinds[list]
		switch {
		case list == datastoreList:
			for _, o := range objects {
				r.putDatastore(o)
			}
		case isJobs:
			for _, o := range objects {
				r.putJob(kind, o)
			}
		case len(objects) > 0:
			text, err := json.Marshal(objects)
			if err != nil {
				return r, err
			}
			r.addList(list, ledger.Setting{Value: string(text)})
		}
	}
	return r, nil
}

func (r *rows) putDatastore(o object) {
	name := o.take("name")
	d := ledger.Datastore{Path: o.take("path")}
	d.Options = o.rest()
	r.addDatastore(name, d)
}

func (r *rows) putJob(kind string, o object) {
	id := o.take("id")
	j := ledger.Job{Kind: kind, Event: o.take("schedule"), Comment: o.take("comment")}
	if string(o["disable"]) == "true" {
		j.Disabled = true
		delete(o, "disable")
	}
	j.Options = o.rest()
	r.addJob(kind+"/"+id, j)
}

func (r *rows) addDatastore(name string, d ledger.Datastore) {
	if r.datastores == nil {
		r.datastores = map[string]ledger.Datastore{}
	}
	r.datastores[name] = d
}

func (r *rows) addJob(key string, j ledger.Job) {
	if r.jobs == nil {
		r.jobs = map[string]ledger.Job{}
	}
	r.jobs[key] = j
}

func (r *rows) addList(name string, s ledger.Setting) {
	if r.lists == nil {
		r.lists = map[string]string{}
	}
	r.lists[name] = s.Value
}

// state puts the rows together again.
func (r *rows) state() (*settings.State, error) {
	lists := map[string]any{}
	var datastores []object
	for name, d := range r.datastores {
		o := objectOf(d.Options)
		o.put("name", name)
		o.put("path", d.Path)
		datastores = append(datastores, o)
	}
	lists[datastoreList] = datastores
	for list, kind := range jobKinds {
		var jobs []object
		for key, j := range r.jobs {
			if id, is := cut(key, kind+"/"); is {
				o := objectOf(j.Options)
				o.put("id", id)
				o.put("schedule", j.Event)
				o.put("comment", j.Comment)
				if j.Disabled {
					o["disable"] = json.RawMessage("true")
				}
				jobs = append(jobs, o)
			}
		}
		lists[list] = jobs
	}
	for name, text := range r.lists {
		lists[name] = json.RawMessage(text)
	}
	text, err := json.Marshal(lists)
	if err != nil {
		return nil, fmt.Errorf("read settings from the ledger: %w", err)
	}
	s := &settings.State{}
	if err := json.Unmarshal(text, s); err != nil {
		return nil, fmt.Errorf("read settings from the ledger: %w", err)
	}
	return settings.Clone(s), nil
}

// take removes a field with a text.
func (o object) take(name string) (text string) {
	if json.Unmarshal(o[name], &text) == nil {
		delete(o, name)
	}
	return text
}

func (o object) put(name, text string) {
	if text != "" {
		o[name], _ = json.Marshal(text) // a text is JSON
	}
}

// rest returns the fields that were not taken.
func (o object) rest() map[string]string {
	if len(o) == 0 {
		return nil
	}
	all := map[string]string{}
	for name, value := range o {
		all[name] = string(value)
	}
	return all
}

func objectOf(options map[string]string) object {
	o := object{}
	for name, value := range options {
		o[name] = json.RawMessage(value)
	}
	return o
}

func cut(s, prefix string) (string, bool) { return strings.CutPrefix(s, prefix) }

func compare(a, b string) int { return cmp.Compare(a, b) }
