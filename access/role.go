package access

import "slices"

// A Role is a named set of privileges. The roles are fixed.
type Role struct {
	ID         string
	Comment    string
	Privileges Privilege
}

// noAccess is the role that takes away what is inherited from above.
const noAccess = "NoAccess"

const (
	ownBackups    = PrivDatastoreBackup
	readDatastore = PrivDatastoreAudit | PrivDatastoreVerify | PrivDatastoreRead
	pushToRemote  = PrivRemoteAudit | PrivRemoteDatastoreBackup
)

// roles are those of PBS protocol notes §7.1, by name.
var roles = []Role{
	{"Admin", "everything", AllPrivileges},
	{"Audit", "look at the system and at every datastore", PrivSysAudit | PrivDatastoreAudit},
	{"DatastoreAdmin", "everything in a datastore but removing it", readDatastore | PrivDatastoreModify | PrivDatastoreBackup | PrivDatastorePrune},
	{"DatastoreAudit", "look at the content of a datastore", PrivDatastoreAudit},
	{"DatastoreBackup", "make and restore backups of one's own", ownBackups},
	{"DatastorePowerUser", "make, restore and prune backups of one's own", ownBackups | PrivDatastorePrune},
	{"DatastoreReader", "look at and restore every backup", readDatastore},
	{noAccess, "nothing, whatever was granted above", 0},
	{"RemoteAdmin", "manage and read remotes", PrivRemoteAudit | PrivRemoteModify | PrivRemoteRead},
	{"RemoteAudit", "look at remotes", PrivRemoteAudit},
	{"RemoteDatastoreAdmin", "push to a remote and delete there", pushToRemote | PrivRemoteDatastoreModify | PrivRemoteDatastorePrune},
	{"RemoteDatastorePowerUser", "push to a remote and prune one's own there", pushToRemote | PrivRemoteDatastorePrune},
	{"RemoteSyncOperator", "pull from a remote", PrivRemoteAudit | PrivRemoteRead},
	{"RemoteSyncPushOperator", "push to a remote", pushToRemote},
	{"TapeAdmin", "manage tapes", PrivTapeAudit | PrivTapeModify | PrivTapeWrite | PrivTapeRead},
	{"TapeAudit", "look at tapes", PrivTapeAudit},
	{"TapeOperator", "write and read tapes", PrivTapeAudit | PrivTapeWrite | PrivTapeRead},
	{"TapeReader", "read tapes", PrivTapeAudit | PrivTapeRead},
}

// Roles returns all roles, by name.
func Roles() []Role { return slices.Clone(roles) }

// ParseRole returns the role of that name. The error is [ErrInvalid].
func ParseRole(id string) (Role, error) {
	i := slices.IndexFunc(roles, func(r Role) bool { return r.ID == id })
	if i < 0 {
		return Role{}, invalid("role", "value %s is not defined in the enumeration.", singleQuote(id))
	}
	return roles[i], nil
}

// A Realm is a place where passwords are checked.
type Realm struct {
	ID      string // behind the "@" of a user
	Type    string
	Comment string
	Default bool // what a login form offers first
}

const (
	realmPAM = "pam"
	realmPBS = "pbs"

	// RealmNode has the accounts of nodes, NAME@node, which say what another
	// node may read here. Nobody logs in with one.
	RealmNode = "node"
)

// Realms returns all realms, by name. PAM itself is not asked: the realm is
// there because a PBS has root@pam, who logs in with [Service.LoginLocal].
func Realms() []Realm {
	return []Realm{
		{ID: realmPAM, Type: "pam", Comment: "the operator of this machine"},
		{ID: realmPBS, Type: "pbs", Comment: "users kept by holdfast", Default: true},
	}
}
