// Package account has the verbs about who may do what: users, API tokens, and
// the access control list.
package account

import (
	"net/http"
	"net/url"

	"github.com/spf13/cobra"

	"github.com/holdfast-mesh/holdfast/cmd/holdfast/cli"
	"github.com/holdfast-mesh/holdfast/cmd/holdfast/daemon"
)

const (
	get  = http.MethodGet
	post = http.MethodPost
	put  = http.MethodPut
	del  = http.MethodDelete

	usersPath = "/access/users"
	userPath  = usersPath + "/{userid}"
	tokenPath = userPath + "/token/{token-name}"
)

// common are the flags of users, those of tokens come first.
var common = []daemon.Flag{
	{Name: "comment", Usage: "who or what it is for, in one line"},
	{Name: "enable", Usage: "--enable=false shuts it out", Kind: daemon.Bool},
	{Name: "expire", Usage: "Unix time in seconds from which on it is shut out; 0: never", Kind: daemon.Int},
	{Name: "digest", Usage: "fail if accounts were changed since this digest was shown"},
	{Name: "email", Usage: "address of the user"},
	{Name: "firstname", Usage: "first name"},
	{Name: "lastname", Usage: "last name"},
}

const tokenFlags = 4 // of common

// NewUser returns the verbs about users.
func NewUser(o *cli.Options) *cobra.Command {
	created := append([]daemon.Flag{{Name: "password", Usage: "seen by who lists processes: user passwd asks for one instead"}}, common...)
	verbs := []daemon.Verb{
		{Use: "list", Short: "list users", Method: get, Path: usersPath, Show: []string{"userid", "enable", "expire", "firstname", "lastname", "email", "comment"},
			Flags: []daemon.Flag{{Name: "include_tokens", Usage: "with their API tokens", Kind: daemon.Bool}}},
		{Use: "show USERID", Short: "print a user", Method: get, Path: userPath, Args: []string{"userid"}},
		{Use: "create USERID", Short: "make a user of the realm pbs, such as backup@pbs", Method: post, Path: usersPath, Args: []string{"userid"}, Flags: created,
			Long: "A new user may do nothing: `holdfast acl update` gives it a role.\nWithout a password only API tokens of the user can be used.",
			Done: "user {userid} is made, and may do nothing yet\n  next: holdfast acl update /datastore/STORE DatastoreBackup --auth-id {userid}\n        holdfast user generate-token {userid} TOKEN"},
		{Use: "update USERID", Short: "change a user", Method: put, Path: userPath, Args: []string{"userid"}, Flags: common, Done: "user {userid} is changed"},
		{Use: "remove USERID", Short: "remove a user, with tokens and rights", Method: del, Path: userPath, Args: []string{"userid"}, Done: "user {userid} is removed"},
		{Use: "list-tokens USERID", Short: "list the API tokens of a user", Method: get, Path: userPath + "/token", Args: []string{"userid"},
			Show: []string{"tokenid", "enable", "expire", "comment"}},
		{Use: "generate-token USERID TOKEN", Short: "make an API token and print its secret, this once", Method: post, Path: tokenPath, Args: []string{"userid", "token-name"},
			Flags: common[:tokenFlags], Show: []string{"tokenid", "value", "note"},
			Long: "A new token may do nothing, and never more than its user: give both a role with\n`holdfast acl update`."},
		{Use: "delete-token USERID TOKEN", Short: "remove an API token", Method: del, Path: tokenPath, Args: []string{"userid", "token-name"}, Done: "token {userid}!{token-name} is removed"},
		{Use: "permissions AUTHID", Short: "print what a user or token may do, and where", Method: get, Path: "/access/permissions", Args: []string{"auth-id"},
			Flags: []daemon.Flag{{Name: "path", Usage: "on this path only, such as /datastore/main"}}},
		passwd(o),
	}
	cmd := cli.Group("user", "make and change users and API tokens")
	for _, v := range verbs {
		cmd.AddCommand(v.Command(o))
	}
	cmd.AddCommand(newTFA(o))
	return cmd
}

func passwd(o *cli.Options) daemon.Verb {
	return daemon.Verb{
		Use: "passwd USERID", Short: "give a user a password", Method: put, Path: "/access/password", Args: []string{"userid"},
		Long: "It asks on a terminal, or reads the password from where HOLDFAST_PASSWORD_FILE,\nHOLDFAST_PASSWORD_FD or HOLDFAST_PASSWORD_CMD say, or from HOLDFAST_PASSWORD.",
		Done: "user {userid} has a new password",
		Before: func(_ *cobra.Command, params url.Values) error {
			password, err := o.NewPassword("HOLDFAST_PASSWORD", "password")
			params.Set("password", string(password))
			return err
		},
	}
}
