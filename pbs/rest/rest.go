// Package rest answers the API of a Proxmox Backup Server over HTTP/1.1: paths,
// parameters, envelopes and errors as PBS has them (PBS protocol notes §0).
//
// An [Endpoint] is one method of one path with what its caller needs and the
// function that answers. A [Router] has all of them; it finds out who calls,
// refuses whoever may not, reads the parameters, and writes what the function
// returned. So an endpoint is a line in a table and a function from parameters
// to a value, and the table is what tests walk through.
package rest

import (
	"context"
	"net/http"
	"strings"

	"github.com/holdfast-mesh/holdfast/access"
	"github.com/holdfast-mesh/holdfast/pbs/upgrade"
)

// An Endpoint is one method of one path.
type Endpoint struct {
	Method string // of HTTP
	Path   string // below /api2/json; a component in braces is a parameter: "/admin/datastore/{store}/gc"
	Need   Need   // what the caller needs before the parameters are looked at
	Upload bool   // the body is a file, so that parameters come from the URL alone
	Handle func(ctx context.Context, c *Call) (any, error)
}

// A Need is what a caller needs to be let in. The zero value is to be logged
// in; what else is needed, the function of the endpoint asks for.
type Need struct {
	World bool             // not even that
	Any   access.Privilege // at least one of these
	On    string           // the path that they are needed on: "/datastore/{store}"

	// Self is a parameter of the path that names a user: that one needs no
	// privilege, unlike the user's tokens.
	Self string
}

// LoggedIn lets everybody in who is known. World lets everybody in.
var (
	LoggedIn = Need{}
	World    = Need{World: true}
)

// Any asks for one of several privileges on a path, in which a component in
// braces is the parameter of that name in the path of the endpoint.
func Any(privileges access.Privilege, on string) Need { return Need{Any: privileges, On: on} }

// OrSelf lets the user that a parameter of the path names in as well.
func (n Need) OrSelf(param string) Need {
	n.Self = param
	return n
}

// A Gate knows who somebody is and what they may. [access.Service] is one.
type Gate interface {
	Check(ctx context.Context, c access.Credentials) (access.AuthID, error)
	Require(id access.AuthID, any access.Privilege, path ...string) error
	Privileges(id access.AuthID, path ...string) access.Privilege
	AnyBelow(id access.AuthID, path ...string) access.Privilege
}

// A Call is one request of an endpoint. Its parameters are those of the path,
// the URL and the body; the function reads all it needs, and then asks
// [upgrade.Params.Err] whether they were right.
type Call struct {
	*upgrade.Params
	Who     access.AuthID // "" where nobody needs to have logged in
	Request *http.Request
	Writer  http.ResponseWriter // for answers that are no JSON; see [Written]

	gate Gate
}

// Require fails if the caller has none of the privileges on a path, with the
// words of PBS.
func (c *Call) Require(any access.Privilege, path ...string) error {
	return c.gate.Require(c.Who, any, path...)
}

// May tells whether the caller has one of the privileges on a path.
func (c *Call) May(any access.Privilege, path ...string) bool {
	return c.gate.Privileges(c.Who, path...).HasAny(any)
}

// MayBelow tells whether the caller has one of the privileges on a path or
// somewhere below it.
func (c *Call) MayBelow(any access.Privilege, path ...string) bool {
	return c.gate.AnyBelow(c.Who, path...).HasAny(any)
}

// An Answer is a value with what stands beside it: "total" of a list, "digest"
// of a configuration.
type Answer struct {
	Data   any
	Beside map[string]any
}

// Source returns where the call comes from, as in [http.Request.RemoteAddr].
func (c *Call) Source() string { return c.Request.RemoteAddr }

// Written is what a function returns that has answered by itself, or has taken
// over the connection.
var Written = written{}

type written struct{}

// components splits a path at slashes; empty components do not count.
func components(path string) []string {
	return strings.FieldsFunc(path, func(c rune) bool { return c == '/' })
}
