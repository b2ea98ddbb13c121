package settings

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/holdfast-mesh/holdfast/catalog/naming"
)

// A SyncJob copies what another node holds into a datastore of this one. Its
// names are those of the sync jobs of PBS (PBS protocol notes §6.6); the last
// four are ours.
type SyncJob struct {
	ID             string           `json:"id"`
	Store          string           `json:"store"`
	NS             naming.Namespace `json:"ns,omitempty"`
	Remote         string           `json:"remote,omitempty"` // name or ID of a node; "": this one
	RemoteStore    string           `json:"remote-store"`
	RemoteNS       naming.Namespace `json:"remote-ns,omitempty"`
	MaxDepth       *int             `json:"max-depth,omitempty"` // levels below RemoteNS; nil: all
	GroupFilter    []string         `json:"group-filter,omitempty"`
	Owner          string           `json:"owner,omitempty"` // of the groups here; "": root@pam
	Schedule       string           `json:"schedule,omitempty"`
	Comment        string           `json:"comment,omitempty"`
	Disable        bool             `json:"disable,omitempty"` // do not run it by itself
	RemoveVanished *bool            `json:"remove-vanished,omitempty"`
	VerifiedOnly   *bool            `json:"verified-only,omitempty"`
	EncryptedOnly  *bool            `json:"encrypted-only,omitempty"`
	ResyncCorrupt  *bool            `json:"resync-corrupt,omitempty"`
	TransferLast   int              `json:"transfer-last,omitempty"`  // of each group the newest so many; 0: all
	WorkerThreads  int              `json:"worker-threads,omitempty"` // groups at the same time; 0: 1
	RateIn         string           `json:"rate-in,omitempty"`        // bytes a second: "10 MiB"
	BurstIn        string           `json:"burst-in,omitempty"`
	RunOnMount     *bool            `json:"run-on-mount,omitempty"`
	UnmountOnDone  *bool            `json:"unmount-on-done,omitempty"`
	RateOut        string           `json:"rate-out,omitempty"` // of a push
	BurstOut       string           `json:"burst-out,omitempty"`
	SyncDirection  string           `json:"sync-direction,omitempty"` // "pull", or "" for the same; "push": to a remote

	ActiveKey      string   `json:"active-encryption-key,omitempty"` // of a push: encrypts what is not
	AssociatedKeys []string `json:"associated-key,omitempty"`        // of a pull: decrypt what they encrypted

	OnChange bool     `json:"on-change,omitempty"` // run it when something is new at the source
	Sources  []string `json:"sources,omitempty"`   // who else gives chunks: NODE[:STORE], or "any" for all

	RateTimes []string `json:"rate-times,omitempty"` // lower rates for parts of the week: "mon..fri 8-18=5MiB"; the first that is now counts
	MaxDelay  string   `json:"max-delay,omitempty"`  // see ParseDelay
}

// AnySource is the source that stands for every node that has something.
const AnySource = "any"

// MaxWorkers is how many groups a job may copy at the same time.
const MaxWorkers = 32

// SyncJob returns the sync job of that ID.
func (s *State) SyncJob(id string) (SyncJob, bool) {
	i := slices.IndexFunc(s.SyncJobs, func(j SyncJob) bool { return j.ID == id })
	if i < 0 {
		return SyncJob{}, false
	}
	return s.SyncJobs[i], true
}

// Pushes tells whether the job copies from here to a remote.
func (j SyncJob) Pushes() bool { return j.SyncDirection == "push" }

// Keys are all that the job names.
func (j SyncJob) Keys() []string {
	all := slices.Clone(j.AssociatedKeys)
	if j.ActiveKey != "" && !slices.Contains(all, j.ActiveKey) {
		all = append(all, j.ActiveKey)
	}
	return all
}

// SetKeys changes what of the keys is not nil (features rows 93 and 94). A key that
// was active and is not any more is associated: without it, what it encrypted could
// not be read. Others are dropped when they are not listed.
func (j *SyncJob) SetKeys(active *string, associated *[]string) {
	was := j.ActiveKey
	if associated != nil {
		j.AssociatedKeys = slices.Clone(*associated)
	}
	if active != nil && *active != was {
		if j.ActiveKey = *active; was != "" {
			j.AssociatedKeys = append([]string{was}, j.AssociatedKeys...)
		}
	}
	j.AssociatedKeys = slices.DeleteFunc(j.AssociatedKeys, func(k string) bool { return k == "" || k == j.ActiveKey })
	slices.Sort(j.AssociatedKeys)
	if j.AssociatedKeys = slices.Compact(j.AssociatedKeys); len(j.AssociatedKeys) == 0 {
		j.AssociatedKeys = nil
	}
}

// Filters reads the group filters of a job.
func (j SyncJob) Filters() (naming.Filters, error) {
	var all naming.Filters
	for _, text := range j.GroupFilter {
		f, err := naming.ParseFilter(text)
		if err != nil {
			return nil, err
		}
		all = append(all, f)
	}
	return all, nil
}

// OwnerOrRoot returns whose the copies are.
func (j SyncJob) OwnerOrRoot() string {
	if j.Owner == "" {
		return "root@pam"
	}
	return j.Owner
}

// Is reads an option that may not be set.
func Is(option *bool) bool { return option != nil && *option }

// Check says what is wrong with a job as a whole: what its options mean by
// themselves is checked by who reads them.
func (j SyncJob) Check() error {
	switch _, err := j.Filters(); {
	case err != nil:
		return err
	case j.SyncDirection != "" && j.SyncDirection != "pull" && !j.Pushes():
		return fmt.Errorf("sync-direction is %q, want pull or push", j.SyncDirection)
	case j.Pushes() && j.Remote == "":
		return errors.New("a push needs a remote: between the nodes of a mesh data moves to who asks for it")
	case j.Pushes() && (j.RateIn != "" || j.MaxDelay != "" || j.OnChange || len(j.Sources) > 0 || Is(j.ResyncCorrupt)):
		return errors.New("rate-in, max-delay, on-change, sources and resync-corrupt are not for jobs that push")
	case !j.Pushes() && j.ActiveKey != "":
		return errors.New("active-encryption-key is for jobs that push: a pull decrypts with --associated-key")
	case !j.Pushes() && j.RateOut != "":
		return errors.New("rate-out is for jobs that push")
	case j.BurstOut != "" && j.RateOut == "":
		return errors.New("burst-out needs rate-out")
	case j.Remote == "" && j.Store == j.RemoteStore && overlap(j.NS, j.RemoteNS, j.MaxDepth):
		return errors.New("source and target are the same, or one lies within the other")
	case j.BurstIn != "" && j.RateIn == "":
		return errors.New("burst-in needs rate-in")
	case j.RemoteNS.Depth()+deref(j.MaxDepth) > naming.MaxDepth || j.NS.Depth()+deref(j.MaxDepth) > naming.MaxDepth:
		return fmt.Errorf("max-depth %d below a namespace is more than %d levels", deref(j.MaxDepth), naming.MaxDepth)
	case Is(j.UnmountOnDone) && !Is(j.RunOnMount):
		return errors.New("unmount-on-done needs run-on-mount")
	}
	for _, s := range j.Sources {
		if node, store, has := strings.Cut(s, ":"); s != AnySource && (node == "" || has && naming.CheckStoreName(store) != nil) {
			return fmt.Errorf("source %q: want NODE, NODE:STORE or %s", s, AnySource)
		}
	}
	return nil
}

// overlap tells whether one of two trees of namespaces lies within the other.
func overlap(a, b naming.Namespace, depth *int) bool {
	if depth != nil && *depth == 0 {
		return a == b
	}
	return a.Contains(b) || b.Contains(a)
}

func deref(n *int) int {
	if n == nil {
		return 0
	}
	return *n
}
