package settings

import (
	"cmp"
	"slices"
	"strings"
)

// A Remote is a Proxmox Backup Server, or a node of another cluster, that this
// node may read from as a user of that server.
type Remote struct {
	Name        string `json:"name"`
	Host        string `json:"host"`
	Port        int    `json:"port,omitempty"` // default 8007
	AuthID      string `json:"auth-id"`        // user or API token
	Fingerprint string `json:"fingerprint,omitempty"`
	Comment     string `json:"comment,omitempty"`

	Nodes  []string `json:"nodes,omitempty"`  // ours: IDs of those that may use it, each of which has this record
	Sealed []byte   `json:"sealed,omitempty"` // ours: the password, which only the node can open whose record it is
}

// Shared are the nodes but one that may use a remote.
func (r Remote) Shared(self string) []string {
	return slices.DeleteFunc(slices.Clone(r.Nodes), func(id string) bool { return id == self })
}

// Remote returns the remote of that name.
func (s *State) Remote(name string) (Remote, bool) {
	i := slices.IndexFunc(s.Remotes, func(r Remote) bool { return r.Name == name })
	if i < 0 {
		return Remote{}, false
	}
	return s.Remotes[i], true
}

// SameUser tells whether two remotes are the same user of the same server, as far as
// their names say.
func (r Remote) SameUser(o Remote) bool {
	port := func(r Remote) int { return cmp.Or(r.Port, 8007) }
	return strings.EqualFold(r.Host, o.Host) && port(r) == port(o) && r.AuthID == o.AuthID
}
