// Package remotes lets this node pull from a Proxmox Backup Server, or from a
// node of another cluster, over the protocol of its clients: a [Source] is one
// datastore there, as package replication wants it.
//
// Nothing is done there but to log in, to list, and to open snapshots for
// reading; a server sees one reader for each snapshot. A chunk is asked for on
// the connection on which an index was read that names it, since a server gives
// out no other (PBS protocol notes §6.2, §6.7).
package remotes

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"time"

	"github.com/holdfast-mesh/holdfast/catalog/listing"
	"github.com/holdfast-mesh/holdfast/catalog/manifest"
	"github.com/holdfast-mesh/holdfast/catalog/naming"
	"github.com/holdfast-mesh/holdfast/catalog/roots"
	"github.com/holdfast-mesh/holdfast/chunks"
	"github.com/holdfast-mesh/holdfast/pbs/client"
	"github.com/holdfast-mesh/holdfast/pbs/settings"
	"github.com/holdfast-mesh/holdfast/replication"
	"github.com/holdfast-mesh/holdfast/replication/plan"
	"github.com/holdfast-mesh/holdfast/replication/rate"
	"github.com/holdfast-mesh/holdfast/replication/wire"
)

// Config says which datastore of which server.
type Config struct {
	Remote   settings.Remote
	Password string       // of the user, or the token's secret
	Store    string       // there
	In       *rate.Bucket // nil: no limit
}

// Pace are the limits of connections; nil: none.
type Pace struct{ In, Out *rate.Bucket }

// inFlight bounds the chunks on their way from one server, in bytes.
const inFlight = 64 << 20

// A Source is a datastore of a server. Its methods may be called concurrently.
type Source struct {
	name   string
	client *client.Client
	open   sessions
}

var _ replication.Source = (*Source)(nil)

// Client returns a client of a datastore of a remote.
func Client(r settings.Remote, password, store string, pace Pace) (*client.Client, error) {
	c := client.Config{
		Repository: client.Repository{User: r.AuthID, Host: r.Host, Port: uint16(r.Port), Store: store},
		Password:   password, Fingerprint: r.Fingerprint, InFlight: inFlight,
	}
	if pace != (Pace{}) {
		d := net.Dialer{Timeout: 10 * time.Second, KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: time.Minute, Interval: 15 * time.Second, Count: 4}}
		c.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
			conn, err := d.DialContext(ctx, network, address)
			if err != nil {
				return nil, err
			}
			return &slowConn{conn, pace}, nil
		}
	}
	return client.New(c)
}

// slowConn reads and writes no faster than buckets let it.
type slowConn struct {
	net.Conn
	Pace
}

func (c *slowConn) Read(p []byte) (int, error) {
	return (&rate.Reader{Ctx: context.Background(), R: c.Conn, Bucket: c.In}).Read(p)
}

func (c *slowConn) Write(p []byte) (int, error) {
	return (&rate.Writer{Ctx: context.Background(), W: c.Conn, Bucket: c.Out}).Write(p)
}

// New returns a source. It does not connect yet.
func New(cfg Config) (*Source, error) {
	c, err := Client(cfg.Remote, cfg.Password, cfg.Store, Pace{In: cfg.In})
	if err != nil {
		return nil, fmt.Errorf("remote %s: %w", cfg.Remote.Name, err)
	}
	s := &Source{name: cfg.Remote.Name + ":" + cfg.Store, client: c}
	s.open.client = c
	return s, nil
}

// Name names the remote and its datastore.
func (s *Source) Name() string { return s.name }

// Close closes all connections.
func (s *Source) Close() {
	s.open.close()
	s.client.Close()
}

// Catalog lists a namespace and those below it, as far as the user there may
// see them. A server from before there were namespaces has the root alone.
func (s *Source) Catalog(ctx context.Context, ns naming.Namespace, depth int) (side plan.Side, err error) {
	if side.Namespaces, err = s.namespaces(ctx, ns, depth); err != nil {
		return plan.Side{}, err
	}
	for _, in := range side.Namespaces {
		groups, err := s.client.Groups(ctx, in)
		if err != nil {
			return plan.Side{}, err
		}
		all, err := s.client.Snapshots(ctx, in, naming.Group{})
		if err != nil {
			return plan.Side{}, err
		}
		by := map[naming.Group][]plan.Snapshot{}
		for _, i := range all {
			if i.Finished() {
				g := i.Snapshot().Group
				by[g] = append(by[g], described(i))
			}
		}
		for _, g := range groups {
			side.Groups = append(side.Groups, plan.Group{Namespace: in, Group: g.Group(), Owner: g.Owner, Snapshots: by[g.Group()]})
		}
	}
	return side, nil
}

// namespaces lists what is to be looked at. What an old server cannot say is
// refused only where it matters (features rows 49 to 51).
func (s *Source) namespaces(ctx context.Context, ns naming.Namespace, depth int) ([]naming.Namespace, error) {
	if ns == "" && depth == 0 {
		return []naming.Namespace{""}, nil
	}
	all, err := s.client.Namespaces(ctx, ns, depth)
	var refused *client.APIError
	if errors.As(err, &refused) && refused.Status == http.StatusNotFound {
		if ns == "" && depth < 0 {
			return []naming.Namespace{""}, nil
		}
		return nil, &hinted{fmt.Errorf("%s has no namespaces: %w", s.name, err), "it is from before version 2.2: upgrade it, or leave out remote-ns and max-depth"}
	}
	return all, err
}

func described(i listing.Info) plan.Snapshot {
	s := plan.Snapshot{Time: i.Time, Size: *i.Size, Protected: i.Protected}
	if i.Verification != nil {
		s.Verified = i.Verification.State
	}
	for _, f := range i.Files {
		if f.Name == manifest.Name || f.Name == manifest.LogName {
			continue
		}
		if s.Encrypted = f.CryptMode == manifest.Encrypt; !s.Encrypted {
			break
		}
	}
	return s
}

// Files calls fn with the files of each snapshot. One that was removed since it
// was listed has none.
func (s *Source) Files(ctx context.Context, list []wire.Snapshot, fn func(i int, files []wire.File) error) error {
	for i, snap := range list {
		files, err := s.files(ctx, snap)
		if err != nil {
			err = fmt.Errorf("read %s of %s: %w", snap, s.name, err)
			if !broken(err) {
				err = &replication.Refusal{Err: err}
			}
			return err
		}
		if err := fn(i, files); err != nil {
			return err
		}
	}
	return nil
}

// broken tells whether it is the connection that failed, and not something about a
// snapshot.
func broken(err error) bool {
	var refused *client.APIError
	var failed net.Error
	return !errors.As(err, &refused) && (errors.As(err, &failed) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, context.Canceled))
}

func (s *Source) files(ctx context.Context, snap wire.Snapshot) ([]wire.File, error) {
	r, err := s.client.OpenSnapshot(ctx, snap.Namespace, snap.Snapshot)
	if vanished(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	keep := false
	defer func() {
		if !keep {
			r.Close()
		}
	}()
	blob, err := r.Blob(manifest.Name)
	if err != nil {
		return nil, err
	}
	files, indexes := []wire.File{{Name: manifest.Name, Data: blob}}, map[string]chunks.Index{}
	for _, f := range r.Manifest().Files {
		data, err := r.File(f.Name)
		if err != nil {
			return nil, err
		}
		files = append(files, wire.File{Name: f.Name, Data: data})
		if !roots.IsIndex(f.Name) {
			continue
		}
		if indexes[f.Name], err = chunks.ParseIndex(data); err != nil {
			return nil, fmt.Errorf("%s: %w", f.Name, err)
		}
	}
	log, err := r.Blob(manifest.LogName)
	switch {
	case err == nil:
		files = append(files, wire.File{Name: manifest.LogName, Data: log})
	case !errors.Is(err, fs.ErrNotExist):
		return nil, err
	}
	keep = s.open.add(snap, r, indexes)
	return files, nil
}

// vanished tells the refusal of a snapshot that is not there any more.
func vanished(err error) bool {
	var refused *client.APIError
	return errors.Is(err, fs.ErrNotExist) || errors.As(err, &refused) && (refused.Status == http.StatusNotFound || refused.Status == http.StatusBadRequest && refusedAsGone(refused.Error()))
}

// Have says which chunks could be asked for: those of indexes that were read.
func (s *Source) Have(_ context.Context, ds []chunks.Digest) ([]bool, error) {
	have := make([]bool, len(ds))
	for i, d := range ds {
		have[i] = s.open.holder(d) != nil
	}
	return have, nil
}

// A hinted error has a known cure.
type hinted struct {
	error
	cure string
}

func (e *hinted) Unwrap() error { return e.error }

// Hint is printed on its own line below the error.
func (e *hinted) Hint() string { return e.cure }
