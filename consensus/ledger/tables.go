package ledger

import (
	"fmt"

	"github.com/holdfast-mesh/holdfast/access"
	"github.com/holdfast-mesh/holdfast/access/factor"
	"github.com/holdfast-mesh/holdfast/consensus/authority"
)

// The tables. Numbers are never used again; 7 is for realms.
var (
	Members     = Table[Member]{1, "members"}          // by node ID
	Sites       = Table[Site]{2, "sites"}              // by name
	Datastores  = Table[Datastore]{3, "datastores"}    // by name
	Users       = Table[User]{4, "users"}              // by ID
	Tokens      = Table[Token]{5, "tokens"}            // by ID
	ACL         = Table[access.ACLEntry]{6, "acl"}     // by path, ID and role, each behind a zero byte but the first
	Remotes     = Table[Remote]{8, "remotes"}          // by name
	Jobs        = Table[Job]{9, "jobs"}                // by ID
	Claims      = Table[Claim]{10, "claims"}           // by job, zero byte, slot
	Retentions  = Table[Retention]{11, "retention"}    // by ID
	Clouds      = Table[Cloud]{12, "cloud endpoints"}  // by name
	Keys        = Table[KeyMeta]{13, "keys"}           // by name
	Invites     = Table[Invite]{14, "invites"}         // by token ID in hex
	Sessions    = Table[Session]{15, "sessions"}       // by node ID
	Checkpoints = Table[Checkpoint]{16, "checkpoints"} // by node ID of the origin
	Audits      = Table[Audit]{17, "audit"}            // by index
	Settings    = Table[Setting]{19, "settings"}       // by name
)

// The states of members.
const (
	Pending  = "pending"  // joined, and waits for an operator
	Active   = "active"   // takes part
	Draining = "draining" // is about to leave
	Removed  = "removed"
)

// A Member is a node. Name, Site, Role and Votes of one that is in the
// authority chain are what that says.
type Member struct {
	Name      string   `cbor:"1,keyasint"`
	Site      string   `cbor:"2,keyasint"`
	Role      string   `cbor:"3,keyasint"`
	Votes     bool     `cbor:"4,keyasint,omitempty"`
	State     string   `cbor:"5,keyasint"`
	Record    []byte   `cbor:"6,keyasint,omitempty"` // the node's own, as signed; its form is the mesh's
	RecordSig [64]byte `cbor:"7,keyasint"`
	Epoch     uint64   `cbor:"8,keyasint,omitempty"` // of the record; a later one is greater
	Invited   string   `cbor:"9,keyasint,omitempty"` // by which token
}

func (m Member) active() bool { return m.State == Active || m.State == Draining }

type (
	// A Site is a place whose nodes fail together.
	Site struct {
		Labels  map[string]string `cbor:"1,keyasint,omitempty"` // failure domains: "region": "eu", "power": "a"
		Comment string            `cbor:"2,keyasint,omitempty"`
	}

	// A Datastore is one, and whose.
	Datastore struct {
		Node        string            `cbor:"1,keyasint,omitempty"` // ID of its owner; "" if Cloud has a claimed one
		Path        string            `cbor:"2,keyasint,omitempty"`
		Cloud       string            `cbor:"3,keyasint,omitempty"`
		Maintenance string            `cbor:"4,keyasint,omitempty"` // "read-only", "offline"; "": none
		Retention   string            `cbor:"5,keyasint,omitempty"`
		Options     map[string]string `cbor:"6,keyasint,omitempty"`
		Comment     string            `cbor:"7,keyasint,omitempty"`
	}

	// A User is an account with what it logs in with.
	User struct {
		access.User
		Password *access.Password `json:"password,omitempty"`
		Factor   *factor.Factor   `json:"factor,omitempty"`
	}

	// A Token is an API token with the sum of its secret.
	Token struct {
		access.Token
		Sum string `json:"sum,omitempty"`
	}

	// A Remote is somewhere to pull from: a peer, or a foreign server.
	Remote struct {
		Node        string            `cbor:"1,keyasint,omitempty"`
		Host        string            `cbor:"2,keyasint,omitempty"`
		Port        int               `cbor:"3,keyasint,omitempty"`
		AuthID      string            `cbor:"4,keyasint,omitempty"`
		Fingerprint string            `cbor:"5,keyasint,omitempty"`
		Secret      map[string][]byte `cbor:"6,keyasint,omitempty"` // sealed, by the node ID of who may use it
		Comment     string            `cbor:"7,keyasint,omitempty"`
	}

	// A Job is work with a schedule.
	Job struct {
		Kind     string            `cbor:"1,keyasint"`           // "pull", "prune", "verify", …
		Node     string            `cbor:"2,keyasint,omitempty"` // pinned to it; "": whoever claims it
		Eligible []string          `cbor:"3,keyasint,omitempty"` // node IDs; none: all
		Event    string            `cbor:"4,keyasint,omitempty"` // calendar event
		Zone     string            `cbor:"5,keyasint,omitempty"` // IANA time zone
		CatchUp  string            `cbor:"6,keyasint,omitempty"`
		Disabled bool              `cbor:"7,keyasint,omitempty"`
		Options  map[string]string `cbor:"8,keyasint,omitempty"`
		Comment  string            `cbor:"9,keyasint,omitempty"`
	}

	// A Retention is how many snapshots are kept, and what nobody may go below.
	Retention struct {
		Keep      map[string]int `cbor:"1,keyasint,omitempty"` // "last", "daily", …
		MinAge    int64          `cbor:"2,keyasint,omitempty"` // seconds
		MinCopies int            `cbor:"3,keyasint,omitempty"`
		LockUntil int64          `cbor:"4,keyasint,omitempty"` // Unix seconds
		Comment   string         `cbor:"5,keyasint,omitempty"`
	}

	// A Cloud is a bucket.
	Cloud struct {
		Endpoint string            `cbor:"1,keyasint"`
		Region   string            `cbor:"2,keyasint,omitempty"`
		Bucket   string            `cbor:"3,keyasint"`
		Prefix   string            `cbor:"4,keyasint,omitempty"`
		Eligible []string          `cbor:"5,keyasint,omitempty"`
		Secret   map[string][]byte `cbor:"6,keyasint,omitempty"`
		Options  map[string]string `cbor:"7,keyasint,omitempty"`
		Comment  string            `cbor:"8,keyasint,omitempty"`
	}

	// A KeyMeta is what may be known of a key that jobs encrypt or decrypt with.
	KeyMeta struct {
		State       string            `cbor:"1,keyasint"` // "active", "archived"
		KDF         string            `cbor:"2,keyasint,omitempty"`
		Wrapped     map[string][]byte `cbor:"3,keyasint,omitempty"` // the key, sealed, by the node ID of who may use it
		Hint        string            `cbor:"4,keyasint,omitempty"`
		Comment     string            `cbor:"5,keyasint,omitempty"`
		Fingerprint string            `cbor:"6,keyasint,omitempty"`
		Created     int64             `cbor:"7,keyasint,omitempty"` // Unix seconds
		Archived    int64             `cbor:"8,keyasint,omitempty"`
	}

	// A Setting is one of the cluster.
	Setting struct {
		Value string `cbor:"1,keyasint"`
	}
)

// A description is what is known of every row of a table.
type description struct {
	name   string
	most   int  // rows
	config bool // may be changed with [KindChange]
	read   func([]byte) error
}

func describe[T any](t Table[T], most int, config bool) (uint8, description) {
	return t.number, description{t.name, most, config, func(b []byte) error { return t.read(b, new(T)) }}
}

var descriptions = func() map[uint8]description {
	all := map[uint8]description{}
	add := func(n uint8, d description) { all[n] = d }
	add(describe(Members, 256, false)) // with the removed
	add(describe(Sites, 64, true))
	add(describe(Datastores, 1000, true))
	add(describe(Users, 10_000, true))
	add(describe(Tokens, 10_000, true))
	add(describe(ACL, 50_000, true))
	add(describe(Remotes, 1000, true))
	add(describe(Jobs, 50_000, true))
	add(describe(Claims, 50_000, false))
	add(describe(Retentions, 5000, true))
	add(describe(Clouds, 256, true))
	add(describe(Keys, 10_000, true))
	add(describe(Invites, 256, false))
	add(describe(Sessions, 256, false))
	add(describe(Checkpoints, 256, false))
	add(describe(Audits, maxAudit+1, false))
	add(describe(Settings, 4096, true)) // of 256 nodes, some ten lists each
	return all
}()

const maxKey = 512

// A Change writes and removes rows of the tables that people decide: all of
// it, or nothing.
type Change struct {
	Ops []Op `cbor:"1,keyasint"`
}

// An Op changes one row that is as its author saw it. See [Table.Put].
type Op struct {
	Table  uint8  `cbor:"1,keyasint"`
	Key    string `cbor:"2,keyasint"`
	Expect uint64 `cbor:"3,keyasint,omitempty"` // version; 0: there is no such row
	Delete bool   `cbor:"4,keyasint,omitempty"`
	Body   []byte `cbor:"5,keyasint,omitempty"`
}

const maxOps = 500

// known says whether this program can read every row.
func (c *Change) known() error {
	for _, o := range c.Ops {
		d, is := descriptions[o.Table]
		if !is {
			return fmt.Errorf("a row of table %d", o.Table)
		}
		if !o.Delete {
			if err := d.read(o.Body); err != nil {
				return fmt.Errorf("a row of table %s: %w", d.name, err)
			}
		}
	}
	return nil
}

func (c *Change) subject() (s string) {
	for i, o := range c.Ops {
		if i > 0 {
			s += ", "
		}
		s += descriptions[o.Table].name + "/" + o.Key
	}
	return s
}

func (t *tx) change(c *Change) Result {
	if len(c.Ops) == 0 || len(c.Ops) > maxOps {
		return refuse("%d changes at once, want 1 to %d", len(c.Ops), maxOps)
	}
	for _, o := range c.Ops {
		d := descriptions[o.Table]
		was := View{t.Txn}.row(o.Table, o.Key)
		switch {
		case !d.config:
			return forbid("table %s is not changed like this", d.name)
		case o.Key == "" || len(o.Key) > maxKey || o.Delete && len(o.Body) > 0:
			return refuse("a row of table %s with a key of %d bytes", d.name, len(o.Key))
		case was == nil && o.Expect != 0:
			return Result{Code: Conflict, Key: d.name + "/" + o.Key, Text: "it is not there any more"}
		case was == nil && o.Delete:
			return Result{Code: Conflict, Key: d.name + "/" + o.Key, Text: "it is not there"}
		case was != nil && o.Expect == 0:
			return Result{Code: Conflict, Key: d.name + "/" + o.Key, Text: "it is there already"}
		case was != nil && was.row.Version != o.Expect:
			return Result{Code: Conflict, Key: d.name + "/" + o.Key, Text: fmt.Sprintf("%s changed it at %d", was.row.By, was.row.Version)}
		case was == nil && t.count(o.Table) >= d.most:
			return refuse("table %s has %d rows already", d.name, d.most)
		}
		if o.Delete {
			t.drop(o.Table, o.Key)
		} else {
			t.put(o.Table, o.Key, o.Body, t.by())
		}
	}
	return Result{}
}

func nodeID(k authority.Key) string { return k.NodeID() }
