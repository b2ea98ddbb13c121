package ledger

import "testing"

// From level 2 on, a node in any role sets up what is its own, and nothing else.
func TestOwnChange(t *testing.T) {
	w := newWorld(t)
	w.addNode(11, "nas", "far", "replica", false)
	self, other := nodeID(public(11)), nodeID(public(10))
	own := []Op{
		Datastores.Put(self+"/main", 0, Datastore{Node: self, Path: "/srv"}),
		Jobs.Put(self+"/prune/main", 0, Job{Kind: "prune", Node: self}),
		Settings.Put("node/"+self, 0, Setting{}),
		Settings.Put("node/"+self+"/s3-endpoints", 0, Setting{Value: "[]"}),
	}
	if r := w.try(11, KindChange, Change{Ops: own}); r.Code != Forbidden {
		t.Fatalf("at level 1: %v", r)
	}
	if r := w.try(10, KindLevel, RaiseLevel{Level: 2}); r.Code != Done {
		t.Fatal(r)
	}
	if r := w.try(11, KindChange, Change{Ops: own}); r.Code != Done {
		t.Fatalf("at level 2: %v", r)
	}
	for name, o := range map[string]Op{
		"a datastore of another":               Datastores.Put(other+"/main", 0, Datastore{Node: other}),
		"its own key, of another":              Datastores.Put(self+"/two", 0, Datastore{Node: other}),
		"a job of whoever claims it":           Jobs.Put(self+"/offload/x", 0, Job{Kind: "offload"}),
		"a job of another":                     Jobs.Put(other+"/prune/x", 0, Job{Kind: "prune", Node: self}),
		"settings of another":                  Settings.Put("node/"+other, 0, Setting{}),
		"settings of one whose name is longer": Settings.Put("node/"+self+"x", 0, Setting{}),
		"settings of all":                      Settings.Put("mail", 0, Setting{}),
		"a user":                               Users.Put("op@pbs", 0, User{}),
		"a bucket":                             Clouds.Put("b", 0, Cloud{}),
	} {
		mixed := Change{Ops: []Op{Settings.Put("node/"+self+"/more", 0, Setting{}), o}}
		if r := w.try(11, KindChange, mixed); r.Code != Forbidden {
			t.Errorf("%s: %v", name, r)
		}
	}
	if r := w.try(10, KindChange, Change{Ops: []Op{Datastores.Put(self+"/three", 0, Datastore{Node: self})}}); r.Code != Done {
		t.Errorf("a full node for it: %v", r)
	}
}

// Only one that waits for approval is removed without an operator's signature.
func TestDenyIsForThosePending(t *testing.T) {
	w := newWorld(t)
	w.addNode(11, "nas", "far", "replica", false)
	if r := w.try(10, KindLevel, RaiseLevel{Level: 2}); r.Code != Done {
		t.Fatal(r)
	}
	if r := w.try(10, KindState, SetState{Node: public(11), State: Removed}); r.Code == Done {
		t.Error("an active member was removed without a signature")
	}
	if m, _ := Members.Get(w.l.View(), nodeID(public(11))); m.Body.State != Active {
		t.Errorf("it is %s", m.Body.State)
	}
}
