package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/holdfast-mesh/holdfast/catalog"
	"github.com/holdfast-mesh/holdfast/catalog/archive"
	"github.com/holdfast-mesh/holdfast/catalog/manifest"
	"github.com/holdfast-mesh/holdfast/chunks"
	"github.com/holdfast-mesh/holdfast/pbs/client"
)

// DefaultData is where a node keeps its data, unless --data or HOLDFAST_DATA
// says something else.
const DefaultData = "/var/lib/holdfast"

// A Store is what verbs about backups work on: a datastore in a directory, on
// the node of this machine, or on a server.
type Store interface {
	fmt.Stringer

	Lister

	Describe(ctx context.Context, ns catalog.Namespace, s catalog.Snapshot) (catalog.Info, error)
	Notes(ctx context.Context, ns catalog.Namespace, s catalog.Snapshot) (string, error)
	SetNotes(ctx context.Context, ns catalog.Namespace, s catalog.Snapshot, notes string) error
	Protected(ctx context.Context, ns catalog.Namespace, s catalog.Snapshot) (bool, error)
	SetProtected(ctx context.Context, ns catalog.Namespace, s catalog.Snapshot, on bool) error
	Forget(ctx context.Context, ns catalog.Namespace, s catalog.Snapshot) error
	Undo(ctx context.Context, ns catalog.Namespace, s catalog.Snapshot) error
	Trash(ctx context.Context) ([]catalog.Trashed, error)
	Prune(ctx context.Context, opt catalog.PruneOptions) ([]catalog.Pruned, error)
	Groups(ctx context.Context, ns catalog.Namespace) ([]client.Group, error)
	ForgetGroup(ctx context.Context, ns catalog.Namespace, g catalog.Group) error
	ChangeOwner(ctx context.Context, ns catalog.Namespace, g catalog.Group, owner string) error
	Namespaces(ctx context.Context, under catalog.Namespace, depth int) ([]catalog.Namespace, error)
	CreateNamespace(ctx context.Context, ns catalog.Namespace) error
	RemoveNamespace(ctx context.Context, ns catalog.Namespace, groups bool) error

	// Open opens a snapshot for reading, Begin begins one. The owner is that
	// of a new group in a directory; a server knows who is asking.
	Open(ctx context.Context, ns catalog.Namespace, s catalog.Snapshot) (Origin, error)
	Begin(ctx context.Context, ns catalog.Namespace, s catalog.Snapshot, owner string, key *chunks.Key) (Target, error)

	Close() error
}

// An Origin is a snapshot that is read.
type Origin interface {
	archive.Origin
	Close() error
}

// A Target is a snapshot in the making. After Finish, Abort does nothing.
type Target interface {
	archive.Target
	Finish(ctx context.Context, m *manifest.Manifest) error
	Abort() error
}

// WithPlace does fn with the store that a command is about.
func (o *Options) WithPlace(ctx context.Context, p *Place, fn func(Store, catalog.Namespace) error) error {
	ns, err := p.Namespace()
	if err != nil {
		return err
	}
	s, err := o.OpenStore(ctx, p.Store)
	if err != nil {
		return err
	}
	return errors.Join(fn(s, ns), s.Close())
}

// OpenStore returns the store that --repository names: a directory, a datastore
// of a server, or, without it, one of the node on this machine: the one called
// name, or the only one there is.
func (o *Options) OpenStore(ctx context.Context, name string) (Store, error) {
	switch {
	case o.Repository == "":
		return o.localStore(ctx, name)
	case name != "":
		return nil, usageError{errors.New("--store names a datastore of the node on this machine, and --repository another place: give one of them")}
	case strings.HasPrefix(o.Repository, "s3://"):
		return o.bucketStore(ctx)
	case o.isDirectory(ctx, o.Repository):
		return &dirStore{o: o, dir: filepath.Clean(o.Repository)}, nil
	case !strings.ContainsRune(o.Repository, ':'):
		return o.localStore(ctx, o.Repository)
	}
	repo, err := client.ParseRepository(o.Repository)
	if err != nil {
		return nil, usageError{err}
	}
	c, err := o.Client(repo)
	if err != nil {
		return nil, err
	}
	return &server{c}, nil
}

// isDirectory tells the directory of a store from the name of a server's.
func isDirectory(repository string) bool {
	if at := strings.IndexAny(repository, "/:@"); at >= 0 {
		return repository[at] == '/'
	}
	info, err := os.Stat(repository)
	return err == nil && info.IsDir()
}

// isDirectory is isDirectory for whoever may mean a datastore of the node on this
// machine: that of this name comes before a directory that is called so by chance,
// as its own local part is. With ./ in front, a name is always a directory.
func (o *Options) isDirectory(ctx context.Context, repository string) bool {
	if !isDirectory(repository) || strings.Contains(repository, "/") {
		return isDirectory(repository)
	}
	c, err := o.LocalClient("any")
	if err != nil {
		return true
	}
	defer c.Close()
	all, err := c.Stores(ctx)
	return err != nil || !slices.ContainsFunc(all, func(s client.Store) bool { return s.Name == repository })
}

// Named returns the name of the node's datastore that a verb about one is for:
// the argument or --repository if it is no directory, or, if there is neither,
// the only one there is. ok says whether it is one of the node's at all.
func (o *Options) Named(ctx context.Context, args []string) (name string, ok bool, err error) {
	name = o.Repository
	if len(args) > 0 {
		name = args[0]
	}
	switch {
	case name == "":
		name, err = o.onlyStore(ctx)
		return name, true, err
	case o.isDirectory(ctx, name), strings.ContainsAny(name, ":@"):
		return "", false, nil
	}
	return name, true, nil
}

// localStore returns a datastore of the node on this machine.
func (o *Options) localStore(ctx context.Context, name string) (Store, error) {
	if name == "" {
		var err error
		if name, err = o.onlyStore(ctx); err != nil {
			return nil, err
		}
	}
	c, err := o.LocalClient(name)
	if err != nil {
		return nil, err
	}
	return &server{c}, nil
}

// LocalClient returns a client of a datastore of the node on this machine.
func (o *Options) LocalClient(store string) (*client.Client, error) {
	return client.New(client.Config{Repository: client.Repository{Store: store}, Socket: o.Socket(), Log: o.Log()})
}

// Socket returns the path of the control socket of the node on this machine.
func (o *Options) Socket() string { return filepath.Join(o.Data, "admin.sock") }

// onlyStore returns the name of the node's datastore if it has one.
func (o *Options) onlyStore(ctx context.Context) (string, error) {
	c, err := o.LocalClient("any")
	if err != nil {
		return "", err
	}
	defer c.Close()
	all, err := c.Stores(ctx)
	switch {
	case err != nil:
		return "", err
	case len(all) == 0:
		return "", hinted{errors.New("the node on this machine has no datastore"), "make one with: holdfast datastore create NAME --path DIR"}
	case len(all) == 1:
		return all[0].Name, nil
	}
	names := make([]string, len(all))
	for i, s := range all {
		names[i] = s.Name
	}
	return "", usageError{fmt.Errorf("which datastore? give --store with one of %s", strings.Join(names, ", "))}
}

// Client returns a client of a server's datastore, with the password and the
// fingerprint that the environment has, as for proxmox-backup-client.
func (o *Options) Client(repo client.Repository) (*client.Client, error) {
	password, err := o.password(repo)
	if err != nil {
		return nil, err
	}
	return client.New(client.Config{Repository: repo, Password: password, Fingerprint: o.Getenv("PBS_FINGERPRINT"), Log: o.Log()})
}

// password returns what PBS_PASSWORD, PBS_PASSWORD_FILE or PBS_PASSWORD_CMD
// say, or asks on a terminal.
func (o *Options) password(repo client.Repository) (string, error) {
	if text := o.Getenv("PBS_PASSWORD"); text != "" {
		return text, nil
	}
	var text []byte
	var err error
	switch {
	case o.Getenv("PBS_PASSWORD_FILE") != "":
		text, err = os.ReadFile(o.Getenv("PBS_PASSWORD_FILE"))
	case o.Getenv("PBS_PASSWORD_CMD") != "":
		cmd := exec.Command("/bin/sh", "-c", o.Getenv("PBS_PASSWORD_CMD"))
		cmd.Stderr = o.Err
		text, err = cmd.Output()
	case o.Terminal:
		text, err = o.Ask("password of " + repo.User)
	}
	if err != nil {
		return "", fmt.Errorf("read the password of %s: %w", repo.User, err)
	}
	line, _, _ := strings.Cut(string(text), "\n")
	return strings.TrimSuffix(line, "\r"), nil
}
