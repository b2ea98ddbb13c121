package operator

import (
	"encoding/base64"
	"encoding/json"
	"maps"
	"net/http"
	"strings"
	"testing"

	"github.com/holdfast-mesh/holdfast/consensus/authority"
	"github.com/holdfast-mesh/holdfast/consensus/guard"
)

// letIn asks node 7 to let node 8 in again.
func letIn() guard.Request {
	return guard.Request{ID: [16]byte{5}, Cluster: [16]byte{1}, Node: public(7)[0], Unblock: "node " + public(8)[0].NodeID(), Reason: "a mistake"}
}

// fields returns a file as JSON has it.
func fields(t *testing.T, f File) map[string]any {
	t.Helper()
	all := map[string]any{}
	text, err := json.Marshal(f)
	if err == nil {
		err = json.Unmarshal(text, &all)
	}
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// Operators at two places could not sign what loosens a guard. Now it goes in a file,
// which passes through hands that nobody trusts: nothing of it counts but what is
// signed, and what is signed is what is printed.
func TestFilesOfGuardsAreTamperedWith(t *testing.T) {
	d, what, err := NewRequest(board(t), letIn()).SignRequest(guard.Request{Unblock: letIn().Unblock, Reason: "a mistake"}, key(1))
	if err != nil || !strings.Contains(what, "let "+letIn().Unblock+" in again on node "+public(7)[0].NodeID()+`, since "a mistake"`) {
		t.Fatalf("%s, %v", what, err)
	}
	request := func(change func(*guard.Request)) string {
		r, err := ReadRequest(d.Request)
		if err != nil {
			t.Fatal(err)
		}
		change(&r)
		return text(r)
	}
	link := NewDraft(board(t), authority.RemoveNode, authority.Removal{Key: public(7)[0]})
	for name, change := range map[string]map[string]any{
		"a call":                {"method": "POST", "path": "/access/users", "params": map[string][]string{"userid": {"evil@pbs"}}},
		"a method":              {"method": "DELETE"},
		"parameters":            {"params": map[string][]string{"block": {"node x"}}},
		"a link as well":        {"link": link.Link, "cluster": link.Cluster},
		"a need":                {"need": 1},
		"what nobody knows":     {"x": 1},
		"an empty request":      {"request": ""},
		"no base64":             {"request": "?"},
		"no CBOR":               {"request": "AAAA"},
		"much":                  {"request": strings.Repeat("A", maxRequest+4)},
		"more behind it":        {"request": d.Request + "AAAA"},
		"another node":          {"request": request(func(r *guard.Request) { r.Node = public(8)[0] })},
		"another cluster":       {"request": request(func(r *guard.Request) { r.Cluster[3]++ })},
		"another block":         {"request": request(func(r *guard.Request) { r.Unblock = "node x" })},
		"another reason":        {"request": request(func(r *guard.Request) { r.Reason = "none" })},
		"a new number":          {"request": request(func(r *guard.Request) { r.ID[0]++ })},
		"a floor instead":       {"request": request(func(r *guard.Request) { r.Unblock, r.Floor = "", &guard.Floor{Scope: "main"} })},
		"a floor as well":       {"request": request(func(r *guard.Request) { r.Floor = &guard.Floor{Scope: "main"} })},
		"the trash as well":     {"request": request(func(r *guard.Request) { r.Sweep = true })},
		"a signature cut":       {"request": request(func(r *guard.Request) { r.Sigs[0].Sig[5]++ })},
		"a signature twice":     {"request": request(func(r *guard.Request) { r.Sigs = append(r.Sigs, r.Sigs[0]) })},
		"a signature by nobody": {"request": request(func(r *guard.Request) { r.Sigs = append(r.Sigs, authority.Signature{Key: public(2)[0]}) })},
	} {
		all := fields(t, File{Draft: d})
		maps.Copy(all, change)
		b, err := json.Marshal(all)
		if err != nil {
			t.Fatal(err)
		}
		f, call, err := ParseFile(b)
		if err != nil {
			continue
		}
		_, _, sign := f.Cosign(key(2))
		if ready := f.Ready(); sign == nil || ready == nil {
			t.Errorf("%s: it is signed (%v) or submitted (%v): %+v", name, sign, ready, call)
		}
	}
	for name, b := range map[string]string{"more": `{"request":"` + d.Request + `"} {}`, "a list": `[]`, "null": `null`, "nothing": ``} {
		if _, call, err := ParseFile([]byte(b)); err == nil {
			t.Errorf("%s is a file: %+v", name, call)
		}
	}
	b, err := json.Marshal(File{Draft: d})
	if err != nil {
		t.Fatal(err)
	}
	f, call, err := ParseFile(b)
	if err != nil || call.Method != http.MethodPost || call.Path != ReleasePath || call.Params.Encode() != "request="+strings.NewReplacer("+", "%2B", "/", "%2F", "=", "%3D").Replace(d.Request) {
		t.Errorf("%+v, %v", call, err)
	}
	f.Draft, what, err = f.Cosign(key(3))
	if tally, wrong := f.Tally(); err != nil || wrong != nil || !tally.Enough() || f.Ready() != nil || !strings.Contains(what, "a mistake") {
		t.Errorf("%s, %v, %v", what, err, f.Ready())
	}
	if _, _, err := f.Cosign(key(8)); err == nil {
		t.Error("a stranger signs")
	}
}

// What is read before it is signed is what is signed: operators could be made to sign a
// floor of a negative age, which is none, as one of 30 days, since the age did not fit into
// 64 bits of nanoseconds; and a terminal does what control characters say.
func TestRequestsSayWhatTheyDo(t *testing.T) {
	const wraps = 2592000 - 1<<55 // less than nothing, and was shown as 720h0m0s
	for _, f := range []guard.Floor{{Scope: "main", MinAge: wraps}, {Scope: "main", MinAge: 1 << 40}, {Scope: "main", MinCopies: -1}, {Scope: "main", LockUntil: -5}, {MinAge: 60}} {
		r := letIn()
		r.Unblock, r.Floor = "", &f
		if _, err := ReadRequest(text(r)); err == nil {
			t.Errorf("%+v is read as %q", f, Describe(r))
		}
	}
	r := letIn()
	r.Unblock, r.Floor = "", &guard.Floor{Scope: "main\x1b[2K\rnothing"}
	if _, err := ReadRequest(text(r)); err != nil || strings.ContainsAny(What(r), "\x1b\r") {
		t.Errorf("%v, %q", err, What(r))
	}
	r.Reason = "x\x1b[2K\r"
	if strings.ContainsAny(What(r), "\x1b\r") {
		t.Errorf("%q", What(r))
	}
}

// Who signed elsewhere saw the ID of a node only. Its name helps, and is marked as not
// signed: whoever changed it has changed nothing else of the text.
func TestNamesAreMarked(t *testing.T) {
	id := public(7)[0].NodeID()
	what := "remove node " + id
	for _, c := range []struct {
		names map[string]string
		want  string
	}{
		{nil, what},
		{map[string]string{id: "b"}, what + ` (called "b" where this was made)`},
		{map[string]string{id: ""}, what},
		{map[string]string{"remove": "do not remove"}, what},
		{map[string]string{id: strings.Repeat("b", maxName+1)}, what},
		{map[string]string{id: "b\x1b[2K\r\"c"}, what + ` (called "b\x1b[2K\r\"c" where this was made)`},
		{map[string]string{id: public(8)[0].NodeID(), public(8)[0].NodeID(): "c"}, what + ` (called "` + public(8)[0].NodeID() + `" where this was made)`},
	} {
		if got := (Voices{Names: c.names}).Named(what); got != c.want {
			t.Errorf("%v: %s, want %s", c.names, got, c.want)
		}
	}
}

// A request is read from what somebody sends: nothing of that panics, and what is read is
// written the same.
func FuzzReadRequest(f *testing.F) {
	f.Add([]byte{})
	b, err := base64.StdEncoding.DecodeString(text(letIn()))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		in := base64.StdEncoding.EncodeToString(b)
		r, err := ReadRequest(in)
		if err == nil && (text(r) != in || What(r) == "") {
			t.Errorf("%q is read as %+v", in, r)
		}
	})
}
