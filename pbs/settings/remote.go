package settings

import "slices"

// A Remote is a Proxmox Backup Server, or a node of another cluster, that this
// node may read from as a user of that server. The password is not here, but in
// a file of its own (package secrets).
type Remote struct {
	Name        string `json:"name"`
	Host        string `json:"host"`
	Port        int    `json:"port,omitempty"` // default 8007
	AuthID      string `json:"auth-id"`        // user or API token
	Fingerprint string `json:"fingerprint,omitempty"`
	Comment     string `json:"comment,omitempty"`
}

// Remote returns the remote of that name.
func (s *State) Remote(name string) (Remote, bool) {
	i := slices.IndexFunc(s.Remotes, func(r Remote) bool { return r.Name == name })
	if i < 0 {
		return Remote{}, false
	}
	return s.Remotes[i], true
}
