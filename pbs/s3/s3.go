// Package s3 has the S3 clients of a node: how each store is reached, with the
// secrets that the configuration does not have, and one account for all buckets
// of a client, so that limits and counters hold for them together.
//
// The secrets lie in a file of the mode 0600 that nothing prints. It has the
// node's own key too, with which the keys of encrypted stores are opened.
package s3

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"strconv"
	"strings"
	"sync"

	"filippo.io/age"

	"github.com/holdfast-mesh/holdfast/access/statefile"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/bucket"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/seal"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/usage"
	"github.com/holdfast-mesh/holdfast/pbs/settings"
	"github.com/holdfast-mesh/holdfast/pbs/upgrade"
)

// secrets are what must not be in the configuration.
type secrets struct {
	NodeKey string            `json:"node-key,omitempty"`
	Clients map[string]string `json:"clients"` // secret keys by the ID of the client
}

var kind = statefile.Kind[secrets]{
	Name: "S3 secrets", Version: 1, Limit: 1 << 20,
	New: func() *secrets { return &secrets{Clients: map[string]string{}} },
	Clone: func(s *secrets) *secrets {
		c := &secrets{NodeKey: s.NodeKey, Clients: map[string]string{}}
		for k, v := range s.Clients {
			c.Clients[k] = v
		}
		return c
	},
	Tidy: func(s *secrets) {
		if s.Clients == nil {
			s.Clients = map[string]string{}
		}
	},
	Check: func(*secrets) error { return nil },
	Loss:  "set the secret key of each S3 client again; datastores in buckets are opened with their recovery keys: remove and create them with --reuse-datastore",
}

// Clients are the S3 clients of a node. Methods may be called concurrently.
type Clients struct {
	dir      string
	settings settings.Store
	secrets  *statefile.File[secrets]

	book *usage.Book
	runs *usage.Runs

	mu       sync.Mutex
	open     map[string]*account
	shares   map[string]float64 // of accounts, by their names
	accounts []*account         // also those that were replaced: work may go on with them
	unsaved  error              // why the book could not be written
}

// An account was made of a client as it was then.
type account struct {
	*bucket.Account
	of     settings.S3Client
	secret string
	noted  usage.Count // what the book has of it
}

// Open returns the clients of the settings, with the secrets of a file.
func Open(state settings.Store, file string) (*Clients, error) {
	f, err := statefile.Open(file, kind)
	if err != nil {
		return nil, err
	}
	dir := filepath.Dir(file)
	runs, err := openRuns(dir)
	if err != nil {
		return nil, err
	}
	book, err := openBook(dir, runs)
	if err != nil {
		return nil, err
	}
	return &Clients{dir: dir, settings: state, secrets: f, book: book, runs: runs, open: map[string]*account{}, shares: map[string]float64{}}, nil
}

// Close closes connections that are idle, and writes down what was asked.
func (c *Clients) Close() error {
	err := c.closeBook()
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, a := range c.open {
		a.Close()
	}
	clear(c.open)
	return err
}

// SetSecret keeps the secret key of a client; "" forgets it.
func (c *Clients) SetSecret(ctx context.Context, id, secret string) error {
	return c.secrets.Update(ctx, func(s *secrets) error {
		if s.Clients[id] = secret; secret == "" {
			delete(s.Clients, id)
		}
		return nil
	})
}

// Key returns the node's key, and makes it if there is none.
func (c *Clients) Key(ctx context.Context) (*age.X25519Identity, error) {
	if c.secrets.State().NodeKey == "" {
		err := c.secrets.Update(ctx, func(s *secrets) error {
			if s.NodeKey != "" {
				return nil
			}
			key, err := seal.NewIdentity()
			if err == nil {
				s.NodeKey = key.String()
			}
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	return seal.ParseIdentity(c.secrets.State().NodeKey)
}

// account returns the account of a client.
func (c *Clients) account(id string) (*account, error) {
	client, ok := c.settings.State().S3Client(id)
	if !ok {
		return nil, upgrade.Errorf(http.StatusBadRequest, "no such s3 client '%s'", id)
	}
	secret := c.secrets.State().Clients[id]
	if secret == "" {
		return nil, fmt.Errorf("S3 client %s has no secret key", id)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if a, ok := c.open[id]; ok && reached(a.of) == reached(client) && a.secret == secret {
		return a, nil
	}
	provider, _, err := ProviderOf(client)
	if err != nil {
		return nil, err
	}
	in, err1 := rate(client.RateIn)
	out, err2 := rate(client.RateOut)
	made, err := bucket.NewAccount(bucket.AccountConfig{
		Key: client.AccessKey, Secret: secret, Requests: cmp.Or(float64(client.PutRateLimit), provider.Requests), BytesIn: in, BytesOut: out,
		Fingerprint:     client.Fingerprint,
		DeniedMeansSlow: client.DeniedMeansSlow || provider.DeniedMeansSlow,
	})
	if err := errors.Join(err1, err2, err); err != nil {
		return nil, fmt.Errorf("S3 client %s: %w", id, err)
	}
	if part, shared := c.shares[client.Account()]; shared {
		made.Share(part)
	}
	c.open[id] = &account{Account: made, of: client, secret: secret}
	c.accounts = append(c.accounts, c.open[id])
	return c.open[id], nil
}

// Share has this node use a part of what an account may ask for.
func (c *Clients) Share(name string, part float64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.shares[name] = part
	for _, a := range c.open {
		if a.of.Account() == name {
			a.Account.Share(part)
		}
	}
}

// Asked is how many requests were made with an account since the start.
func (c *Clients) Asked(name string) (n int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, a := range c.accounts {
		if a.of.Account() == name {
			n += a.Stats().Total()
		}
	}
	return n
}

// reached is what of a client an account is made of: a budget is none of it.
func reached(c settings.S3Client) settings.S3Client {
	c.Budget = ""
	return c
}

// host is the host of an endpoint.
func host(endpoint string) string {
	_, rest, ok := strings.Cut(endpoint, "://")
	if !ok {
		rest = endpoint
	}
	host, _, _ := strings.Cut(rest, "/")
	return host
}

func rate(text string) (float64, error) {
	if text == "" {
		return 0, nil
	}
	n, err := settings.ParseSize(text)
	return float64(n), err
}

// Bucket returns a bucket, or the part of one below a prefix.
func (c *Clients) Bucket(id, name, prefix string) (*bucket.Bucket, error) {
	a, err := c.account(id)
	if err != nil {
		return nil, err
	}
	region := a.of.Region
	if region == "" {
		region = "us-east-1"
	}
	return bucket.New(bucket.Config{
		Endpoint: endpoint(a.of), Region: region, Bucket: name, Prefix: prefix, PathStyle: a.of.PathStyle, Account: a.Account,
	})
}

// endpoint puts the port into the endpoint, which has no path behind it then.
func endpoint(c settings.S3Client) string {
	if c.Port == 0 {
		return c.Endpoint
	}
	return strings.TrimSuffix(c.Endpoint, "/") + ":" + strconv.Itoa(c.Port)
}

// Version tells whether a client has changed since somebody asked before.
func (c *Clients) Version(id string) string {
	client, _ := c.settings.State().S3Client(id)
	return settings.Digest([]any{reached(client), c.secrets.State().Clients[id]})
}
