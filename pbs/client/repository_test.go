package client_test

import (
	"strings"
	"testing"

	"github.com/holdfast-mesh/holdfast/pbs/client"
)

func TestRepositories(t *testing.T) {
	for _, row := range []struct{ name, in, want string }{
		{"a store alone", "store1", "root@pam@localhost:8007:store1"},
		{"with a host", "backup.example:store1", "root@pam@backup.example:8007:store1"},
		{"with a port", "backup.example:443:store1", "root@pam@backup.example:443:store1"},
		{"with a user", "elsa@pbs@backup.example:store1", "elsa@pbs@backup.example:8007:store1"},
		{"with a token", "elsa@pbs!laptop@10.0.0.1:store1", "elsa@pbs!laptop@10.0.0.1:8007:store1"},
		{"a user with an at sign", "elsa@home@ldap@host:store1", "elsa@home@ldap@host:8007:store1"},
		{"IPv6", "elsa@pbs@[2001:db8::1]:store1", "elsa@pbs@[2001:db8::1]:8007:store1"},
		{"IPv6 with a port", "[::1]:443:store1", "root@pam@[::1]:443:store1"},
	} {
		r, err := client.ParseRepository(row.in)
		if err != nil || r.String() != row.want {
			t.Errorf("%s: got %v, %v, want %s", row.name, r, err, row.want)
		}
	}
}

func TestRepositoriesThatAreNone(t *testing.T) {
	for _, row := range []struct{ name, in, want string }{
		{"nothing", "", "no name of a datastore"},
		{"a store with two letters", "ab", "no name of a datastore"},
		{"a store with a slash", "host:a/bc", "no name of a datastore"},
		{"no store", "root@pam@host", "no name of a datastore"},
		{"no realm", "elsa@host:store1", `"elsa" is no user or API token`},
		{"no host", "elsa@pbs@:store1", `"" is no host`},
		{"a port that is none", "host:http:store1", `"http" is no port`},
		{"port 0", "host:0:store1", `"0" is no port`},
		{"a port that is too large", "host:65536:store1", `"65536" is no port`},
		{"IPv6 without brackets", "2001:db8::1:store1", "is no host"},
		{"IPv4 in brackets", "[10.0.0.1]:store1", "is no IPv6 address"},
		{"an open bracket", "[::1:443:store1", "is no IPv6 address"},
		{"a line break", "ho\nst:store1", "is no host"},
		{"too much", strings.Repeat("a", 600), "has 600 bytes"},
	} {
		_, err := client.ParseRepository(row.in)
		if err == nil || !strings.Contains(err.Error(), row.want) || hint(err) == "" {
			t.Errorf("%s: got %v, want %q", row.name, err, row.want)
		}
	}
}

// What is parsed, written and parsed again is the same.
func FuzzParseRepository(f *testing.F) {
	for _, seed := range []string{"store1", "elsa@pbs!laptop@[2001:db8::1]:443:store1", "a@b@c@host:1:store", "[::1%eth0]:abc", ":::"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, s string) {
		r, err := client.ParseRepository(s)
		if err != nil {
			return
		}
		again, err := client.ParseRepository(r.String())
		if err != nil || again != r {
			t.Errorf("%q is %+v; written as %q it is %+v, %v", s, r, r.String(), again, err)
		}
	})
}

func TestConfigsThatAreNone(t *testing.T) {
	good := config(t, "host:8007", "")
	for _, row := range []struct {
		name   string
		change func(*client.Config)
		want   string
	}{
		{"no store", func(c *client.Config) { c.Repository.Store = "" }, "no name of a datastore"},
		{"a user from elsewhere", func(c *client.Config) { c.Repository.User = "elsa" }, "no user or API token"},
		{"no password", func(c *client.Config) { c.Password = "" }, "there is no password"},
		{"a fingerprint that is none", func(c *client.Config) { c.Fingerprint = "ab:cd" }, "fingerprint of host:8007"},
		{"no room in flight", func(c *client.Config) { c.InFlight = 1 }, "1 bytes in flight"},
	} {
		cfg := good
		row.change(&cfg)
		if _, err := client.New(cfg); err == nil || !strings.Contains(err.Error(), row.want) {
			t.Errorf("%s: got %v, want %q", row.name, err, row.want)
		}
	}
}
