package access

import (
	"math/bits"
	"strings"
)

// A Privilege is a set of rights, one bit each. The bits are not stored
// anywhere: files and the API use the names.
type Privilege uint64

// The privileges (PBS protocol notes §7.1). What they allow on a datastore:
// Backup creates, reads and verifies groups that the caller owns; Prune
// deletes from those; Modify deletes from any, and sets notes, protection,
// namespaces and owners; Read restores from any.
const (
	PrivSysAudit Privilege = 1 << iota
	PrivSysModify
	PrivSysPowerManagement
	PrivDatastoreAudit
	PrivDatastoreAllocate
	PrivDatastoreModify
	PrivDatastoreRead
	PrivDatastoreVerify
	PrivDatastoreBackup
	PrivDatastorePrune
	PrivPermissionsModify
	PrivRemoteAudit
	PrivRemoteModify
	PrivRemoteRead
	PrivSysConsole
	PrivTapeAudit
	PrivTapeModify
	PrivTapeWrite
	PrivTapeRead
	PrivRealmAllocate
	PrivRemoteDatastoreBackup
	PrivRemoteDatastoreModify
	PrivRemoteDatastorePrune

	// AllPrivileges is what root@pam and the role Admin have.
	AllPrivileges Privilege = 1<<iota - 1
)

// privilegeNames are in the order of the bits, which is the order in which a
// real server lists them.
var privilegeNames = [...]string{
	"Sys.Audit", "Sys.Modify", "Sys.PowerManagement",
	"Datastore.Audit", "Datastore.Allocate", "Datastore.Modify", "Datastore.Read",
	"Datastore.Verify", "Datastore.Backup", "Datastore.Prune",
	"Permissions.Modify",
	"Remote.Audit", "Remote.Modify", "Remote.Read",
	"Sys.Console",
	"Tape.Audit", "Tape.Modify", "Tape.Write", "Tape.Read",
	"Realm.Allocate",
	"Remote.DatastoreBackup", "Remote.DatastoreModify", "Remote.DatastorePrune",
}

// ParsePrivilege returns the privilege of that name. The error is
// [ErrInvalid].
func ParsePrivilege(name string) (Privilege, error) {
	for i, n := range privilegeNames {
		if n == name {
			return 1 << i, nil
		}
	}
	return 0, &Error{
		Kind: ErrInvalid, Text: "there is no privilege " + quote(name),
		Cure: "it is one of " + strings.Join(privilegeNames[:], ", "),
	}
}

// Names returns the names of the privileges in p, in the order of the bits.
func (p Privilege) Names() []string {
	names := make([]string, 0, bits.OnesCount64(uint64(p)))
	for i, n := range privilegeNames {
		if p&(1<<i) != 0 {
			names = append(names, n)
		}
	}
	return names
}

// String joins the names with "|", as messages show a choice of privileges.
func (p Privilege) String() string { return strings.Join(p.Names(), "|") }

// Has tells whether p has every privilege of all.
func (p Privilege) Has(all Privilege) bool { return p&all == all }

// HasAny tells whether p has at least one privilege of any.
func (p Privilege) HasAny(any Privilege) bool { return p&any != 0 }
