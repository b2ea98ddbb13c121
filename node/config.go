package node

import (
	"bytes"
	"cmp"
	"crypto/ed25519"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"github.com/BurntSushi/toml"

	"github.com/holdfast-mesh/holdfast/jobs"
	"github.com/holdfast-mesh/holdfast/node/certificate"
	"github.com/holdfast-mesh/holdfast/node/members"
	"github.com/holdfast-mesh/holdfast/node/memory"
	"github.com/holdfast-mesh/holdfast/node/peers"
)

// Config is what the operator has written into node.toml, which nothing but
// this package reads, and what the process adds.
type Config struct {
	Name          string `toml:"name"` // of the node, as in tasks
	Site          string `toml:"site"`
	Listen        string `toml:"listen"`         // address of the API
	MeshListen    string `toml:"mesh-listen"`    // address for other sites, UDP and TCP; "": there are none
	MetricsListen string `toml:"metrics-listen"` // address of /metrics and /health without login; "": none
	TLS           TLS    `toml:"tls"`
	Logging       Log    `toml:"log"`
	Limits        Limits `toml:"limits"`

	Dir      string              `toml:"-"` // the directory of the node
	Version  string              `toml:"-"` // of the program
	Recovery ed25519.PublicKey   `toml:"-"` // of the cluster that Init founds; nil: there is none
	Log      *slog.Logger        `toml:"-"` // default: discard
	Getenv   func(string) string `toml:"-"` // default: an empty environment
	level    *slog.LevelVar      // of Log, where NewLogger made it
}

// TLS says which certificate clients see.
type TLS struct {
	Certificate string `toml:"certificate"` // file in PEM; "": the one that init made
	Key         string `toml:"key"`
	MinVersion  string `toml:"min-version"` // "1.3" or "1.2"
}

// Log says what is logged, and how.
type Log struct {
	Level  string `toml:"level"`  // debug, info, warn or error
	Format string `toml:"format"` // text or json
}

// Limits say how much the node takes on. 0 is the default.
type Limits struct {
	Connections          int `toml:"connections"`
	ConnectionsPerSource int `toml:"connections-per-source"`
	Backups              int `toml:"backups"`            // sessions at the same time
	Restores             int `toml:"restores"`           // likewise
	SessionMemory        int `toml:"session-memory-mib"` // of all sessions together

	Copies        int `toml:"copies-per-datastore"`        // pulls, pushes, offloads and exports that run at once
	Verifications int `toml:"verifications-per-datastore"` // likewise

	PullRateIn  string `toml:"pull-rate-in"`  // bytes a second of all sync jobs: "20MiB"
	PullRateOut string `toml:"pull-rate-out"` // of all that other nodes pull from this one
}

// memory is how many bytes all sessions together may take: half of what this
// process may have, unless it is set. The other half is for what is not counted
// and for the cache of the disk, without which everything is slow.
func (l Limits) memory() int64 {
	if l.SessionMemory > 0 {
		return int64(l.SessionMemory) << 20
	}
	return memory.Limit(os.DirFS("/")) / 2
}

// turns are those of jobs on one datastore.
func (l Limits) turns() jobs.Turns {
	return jobs.PerStore(cmp.Or(l.Copies, 4), cmp.Or(l.Verifications, 1))
}

// The names in the directory of a node.
const (
	ConfigFile    = "node.toml"
	settingsFile  = "settings.json"
	cloudFile     = "s3-secrets.json"
	secretsFile   = "secrets.json"
	noticesFile   = "notices"
	accountsFile  = "accounts.json"
	ticketKeyFile = "ticket.key"
	identityFile  = "identity.key"
	OperatorFile  = "operator.key"
	clusterDir    = "cluster"
	certFile      = "tls/cert.pem"
	certKeyFile   = "tls/key.pem"
	feedsFile     = "feeds.db"
	alarmsFile    = "alarms.json"
	tasksDir      = "tasks"
	schedulesFile = "schedules.json"
	historyDir    = "history"
	figuresFile   = "history/figures"
)

// maxConfig bounds the file in bytes.
const maxConfig = 1 << 20

// ReadConfig reads the configuration of the node in dir.
func ReadConfig(dir string) (Config, error) {
	path := filepath.Join(dir, ConfigFile)
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return Config{}, &hinted{fmt.Errorf("%s is no directory of a node: %w", dir, err), "make it one with `holdfast node init --data " + dir + " --name NAME --site SITE`, or name another with --data"}
	}
	if err != nil {
		return Config{}, fmt.Errorf("read configuration: %w", err)
	}
	defer f.Close() // it was only read
	text, err := io.ReadAll(io.LimitReader(f, maxConfig))
	if err != nil {
		return Config{}, fmt.Errorf("read configuration %s: %w", path, err)
	}
	c, err := parseConfig(text)
	if err != nil {
		return Config{}, fmt.Errorf("read configuration %s: %w", path, err)
	}
	c.Dir = dir
	return c, nil
}

func parseConfig(text []byte) (Config, error) {
	c := Config{}
	meta, err := toml.NewDecoder(bytes.NewReader(text)).Decode(&c)
	if err != nil {
		return Config{}, err
	}
	if unknown := meta.Undecoded(); len(unknown) > 0 {
		return Config{}, &hinted{fmt.Errorf("there is no option %q", unknown[0].String()), "is it misspelt, or from a newer holdfast? Every option is in docs/node.md"}
	}
	c.Listen = cmp.Or(c.Listen, ":8007")
	c.TLS.MinVersion = cmp.Or(c.TLS.MinVersion, "1.3")
	c.Logging.Level = cmp.Or(c.Logging.Level, "info")
	c.Logging.Format = cmp.Or(c.Logging.Format, "text")
	return c, c.check()
}

func checkName(what, name string) error {
	if !members.NamePattern.MatchString(name) {
		return fmt.Errorf("%s is %q, want letters, digits and hyphens, at most 63", what, name)
	}
	if peers.LooksLikeID(name) {
		return fmt.Errorf("%s is %q, which looks like the ID of a node", what, name)
	}
	return nil
}

// check says what is wrong with a configuration.
func (c *Config) check() error {
	if err := errors.Join(checkName("name", c.Name), checkName("site", c.Site)); err != nil {
		return err
	}
	for what, addr := range map[string]string{"listen": c.Listen, "mesh-listen": c.MeshListen, "metrics-listen": c.MetricsListen} {
		host, port, err := net.SplitHostPort(addr)
		_, err2 := net.LookupPort("udp", port)
		if addr != "" && (err != nil || err2 != nil || port == "") {
			return fmt.Errorf("%s is %q, want ADDRESS:PORT or :PORT, and a port from 0 to 65535", what, addr)
		}
		if _, err := netip.ParseAddr(host); what == "mesh-listen" && host != "" && err != nil {
			return fmt.Errorf("%s is %q, want the IP address of an interface of this machine, or :PORT", what, addr)
		}
	}
	switch l := c.Limits; {
	case (c.TLS.Certificate == "") != (c.TLS.Key == ""):
		return errors.New("tls: a certificate and its key come together")
	case c.TLS.MinVersion != "1.2" && c.TLS.MinVersion != "1.3":
		return fmt.Errorf("tls: min-version is %q, want 1.3 or 1.2", c.TLS.MinVersion)
	case c.Logging.Format != "text" && c.Logging.Format != "json":
		return fmt.Errorf("log: format is %q, want text or json", c.Logging.Format)
	case min(l.Connections, l.ConnectionsPerSource, l.Backups, l.Restores, l.SessionMemory, l.Copies, l.Verifications) < 0:
		return errors.New("limits: none can be negative")
	}
	for option, text := range map[string]string{"pull-rate-in": c.Limits.PullRateIn, "pull-rate-out": c.Limits.PullRateOut} {
		if _, err := limit(option, text); err != nil {
			return err
		}
	}
	return new(slog.LevelVar).UnmarshalText([]byte(c.Logging.Level))
}

// Files returns where the certificate is.
func (c *Config) Files() certificate.Files {
	if c.TLS.Certificate != "" {
		return certificate.Files{Chain: c.at(c.TLS.Certificate), Key: c.at(c.TLS.Key)}
	}
	return certificate.Files{Chain: c.at(certFile), Key: c.at(certKeyFile)}
}

// at returns the path of something in the directory of the node.
func (c *Config) at(name string) string {
	if filepath.IsAbs(name) {
		return name
	}
	return filepath.Join(c.Dir, name)
}

func (c *Config) minVersion() uint16 {
	if c.TLS.MinVersion == "1.2" {
		return tls.VersionTLS12
	}
	return tls.VersionTLS13
}

// LogTo makes the logger that the configuration asks for. [Node.Reload] changes
// its level.
func (c *Config) LogTo(w io.Writer) {
	c.level = &slog.LevelVar{}
	_ = c.level.UnmarshalText([]byte(c.Logging.Level)) // checked
	opt := &slog.HandlerOptions{Level: c.level}
	if c.Logging.Format == "json" {
		c.Log = slog.New(slog.NewJSONHandler(w, opt))
		return
	}
	c.Log = slog.New(slog.NewTextHandler(w, opt))
}

// template is the file that Init writes.
const template = `# The configuration of this Holdfast node. Only what differs from the default
# needs to be here. After a change: systemctl reload holdfast for the log level
# and the certificate, systemctl restart holdfast for the rest.

name = NAME # in tasks and in the list of members
site = SITE # what fails together: one building, one rack

# Where clients of Proxmox Backup Server reach the node.
listen = LISTEN

# Where other sites reach the node: UDP, and TCP where UDP is blocked. With an IP
# address, only that one is bound and told to others.
mesh-listen = MESH

# /metrics and /health without a login, for a monitor on this machine. They are
# also served at the address above, where /metrics wants a login.
#metrics-listen = "127.0.0.1:9807"

[tls]
# Your own certificate instead of the one that init made: files in PEM. They are
# watched, so a renewed certificate is used within a minute.
#certificate = "/etc/ssl/backup.example.pem"
#key = "/etc/ssl/private/backup.example.key"
#min-version = "1.3" # or "1.2", for clients from before 2019

[log]
#level = "info"  # debug, info, warn, error
#format = "text" # or json

[limits]
#connections = 4096
#connections-per-source = 1024
#backups = 128             # sessions at the same time
#restores = 512
#session-memory-mib = 4096 # of all sessions together; default: half of the machine's
#copies-per-datastore = 4  # pulls, pushes, offloads and exports that run at once; others wait
#verifications-per-datastore = 1
#pull-rate-in = "20MiB"    # a second, of all copies that come from other sites
#pull-rate-out = "20MiB"   # a second, of all copies that other sites fetch here
`

// text returns a new file for c.
func (c *Config) text() string {
	quote := func(s string) string { return `"` + s + `"` } // checked: nothing in it needs escaping
	return strings.NewReplacer("NAME", quote(c.Name), "SITE", quote(c.Site), "LISTEN", quote(c.Listen), "MESH", quote(c.MeshListen)).Replace(template)
}

// A hinted error has a known cure.
type hinted struct {
	error
	cure string
}

func (e *hinted) Unwrap() error { return e.error }
func (e *hinted) Hint() string  { return e.cure }
