package client

import (
	"cmp"
	"fmt"
	"net"
	"net/netip"
	"regexp"
	"strconv"
	"strings"

	"github.com/holdfast-mesh/holdfast/catalog/naming"
)

// What a repository means where it says nothing.
const (
	DefaultUser = "root@pam"
	DefaultHost = "localhost"
	DefaultPort = 8007
)

// A Repository says where a datastore is and who asks for it. The zero value
// of each field but Store means the default.
type Repository struct {
	User  string // user or API token: "root@pam", "backup@pbs!laptop"
	Host  string // name or address, without brackets
	Port  uint16
	Store string
}

// hostPattern is what a host is called that is no address: labels of letters,
// digits, hyphens and the underscores that some networks have.
var hostPattern = regexp.MustCompile(`^[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?(\.[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?)*\.?$`)

// maxRepository is the longest repository in bytes: a host name of 253, a user
// of 64 and a store of 32 with what stands between them, and some to spare.
const maxRepository = 512

// ParseRepository reads [[USER@REALM[!TOKEN]@]HOST[:PORT]:]STORE, as PBS's
// client does (PBS protocol notes §0.5). An IPv6 address stands in brackets.
func ParseRepository(s string) (Repository, error) {
	var r Repository
	if len(s) > maxRepository {
		return r, &repositoryError{s, fmt.Sprintf("has %d bytes, at most %d are allowed", len(s), maxRepository)}
	}
	where := ""
	r.Store = s
	if i := strings.LastIndexByte(s, ':'); i >= 0 {
		where, r.Store = s[:i], s[i+1:]
		if err := r.parseServer(s, where); err != nil {
			return Repository{}, err
		}
	}
	if err := naming.CheckStoreName(r.Store); err != nil {
		return Repository{}, &repositoryError{s, fmt.Sprintf("%q is no name of a datastore", r.Store)}
	}
	return r.withDefaults(), nil
}

// parseServer reads [USER@]HOST[:PORT].
func (r *Repository) parseServer(s, where string) error {
	r.Host = where
	if i := strings.LastIndexByte(where, '@'); i >= 0 {
		r.User, r.Host = where[:i], where[i+1:]
		if naming.CheckAuthID(r.User) != nil {
			return &repositoryError{s, fmt.Sprintf("%q is no user or API token", r.User)}
		}
	}
	host, port := r.Host, ""
	if i := strings.LastIndexByte(host, ':'); i >= 0 && !strings.HasSuffix(host, "]") {
		host, port = host[:i], host[i+1:]
		n, err := strconv.ParseUint(port, 10, 16)
		if err != nil || n == 0 {
			return &repositoryError{s, fmt.Sprintf("%q is no port", port)}
		}
		r.Port = uint16(n)
	}
	bare, bracketed := strings.CutPrefix(host, "[")
	if bracketed {
		host = strings.TrimSuffix(bare, "]")
		if addr, err := netip.ParseAddr(host); err != nil || !addr.Is6() || len(host) == len(bare) {
			return &repositoryError{s, fmt.Sprintf("%q is no IPv6 address", bare)}
		}
	} else if !hostPattern.MatchString(host) {
		return &repositoryError{s, fmt.Sprintf("%q is no host", host)}
	}
	r.Host = host
	return nil
}

func (r Repository) withDefaults() Repository {
	r.User = cmp.Or(r.User, DefaultUser)
	r.Host = cmp.Or(r.Host, DefaultHost)
	r.Port = cmp.Or(r.Port, uint16(DefaultPort))
	return r
}

// check refuses what ParseRepository would not have returned.
func (r Repository) check() error {
	if _, err := ParseRepository(r.String()); err != nil {
		return err
	}
	return nil
}

// IsToken reports whether User is an API token, which needs no login.
func (r Repository) IsToken() bool { return strings.Contains(r.User, "!") }

// Address returns HOST:PORT, to dial.
func (r Repository) Address() string {
	r = r.withDefaults()
	return net.JoinHostPort(r.Host, strconv.Itoa(int(r.Port)))
}

// String returns the repository in full, as ParseRepository reads it. It has
// no secrets.
func (r Repository) String() string {
	r = r.withDefaults()
	return r.User + "@" + r.Address() + ":" + r.Store
}

// A repositoryError says what is wrong with a repository.
type repositoryError struct{ text, why string }

func (e *repositoryError) Error() string {
	return fmt.Sprintf("repository %.100q: %s", e.text, e.why)
}

// Hint is printed on its own line below the error.
func (e *repositoryError) Hint() string {
	return "write [[USER@REALM[!TOKEN]@]HOST[:PORT]:]STORE, such as root@pam@backup.example:8007:store1; an IPv6 address goes in brackets"
}
