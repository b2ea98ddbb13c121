// Package notify has the verbs about who hears of what.
package notify

import (
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/holdfast-mesh/holdfast/cmd/holdfast/cli"
	"github.com/holdfast-mesh/holdfast/cmd/holdfast/daemon"
)

const (
	get  = http.MethodGet
	post = http.MethodPost
	put  = http.MethodPut
	del  = http.MethodDelete

	base = "/config/notifications"
	ours = "/holdfast/notifications"
	name = "name"
)

// A kind is a kind of targets, and which flags it has.
type kind struct {
	name, short, path string
	flags             []daemon.Flag
	must              []string
	secret            string // the parameter that is one; "": none
	show              []string
	example           string
}

// common are the flags of every target.
var common = []daemon.Flag{
	{Name: "interval", Usage: "least time between messages without errors, which become digests: 1h, 12h, 1d; default: a minute"},
	{Name: "comment", Usage: "what it is for, in one line"},
	{Name: "disable", Usage: "send nothing", Kind: daemon.Bool},
}

var kinds = []kind{
	{
		name: "smtp", short: "mail", path: base + "/endpoints/smtp", must: []string{"server", "mailto", "from-address"}, secret: "password", show: []string{"server", "mode", "mailto", "comment"},
		flags: []daemon.Flag{
			{Name: "server", Usage: "name of the mail server"},
			{Name: "mode", Usage: "tls, starttls or insecure; default: tls"},
			{Name: "port", Usage: "default: that of the mode, 465, 587 or 25", Kind: daemon.Int},
			{Name: "mailto", Usage: "who gets the mail", Kind: daemon.List},
			{Name: "from-address", Usage: "whom it is from"},
			{Name: "author", Usage: "the name beside that; default: Holdfast"},
			{Name: "username", Usage: "for a login, with a password"},
		},
		example: "  HOLDFAST_NOTIFY_SECRET=… holdfast notify target create smtp mail --server mail.example --mode starttls --username op --from-address backup@example.org --mailto op@example.org",
	},
	{
		name: "gotify", short: "Gotify", path: base + "/endpoints/gotify", must: []string{"server"}, secret: "token", show: []string{"server", "comment"},
		flags: []daemon.Flag{{Name: "server", Usage: "its URL"}},
	},
	{
		name: "ntfy", short: "ntfy", path: ours + "/ntfy", must: []string{"server", "topic"}, secret: "password", show: []string{"server", "topic", "comment"},
		flags: []daemon.Flag{
			{Name: "server", Usage: "its URL: https://ntfy.sh, or your own"},
			{Name: "topic", Usage: "the topic"},
			{Name: "username", Usage: "for a login; an access token is a password without a user"},
		},
	},
	{
		name: "webhook", short: "an HTTP request of your own making", path: base + "/endpoints/webhook", must: []string{"url"}, show: []string{"method", "url", "comment"},
		flags: []daemon.Flag{
			{Name: "url", Usage: "{{ title }}, {{ message }}, {{ severity }}, {{ fields.NAME }} and {{ secrets.NAME }} are filled in, here and below"},
			{Name: "method", Usage: "post, put or get; default: post"},
			{Name: "header", Usage: "NAME=VALUE", Kind: daemon.List},
			{Name: "body", Usage: "the body, or @FILE"},
			{Name: "secret", Usage: "NAME=VALUE, of which nothing shows the value", Kind: daemon.List},
		},
		example: `  holdfast notify target create webhook chat --url https://chat.example/hook --header Content-Type=application/json --body '{"text": {{ json message }}}'`,
	},
	{
		name: "service", short: "what a URL names: slack://…, matrix://…, pushover://…", path: ours + "/service", secret: "url", show: []string{"comment"},
		example: "  HOLDFAST_NOTIFY_SECRET='slack://hook:…@webhook' holdfast notify target create service chat",
	},
}

// New returns the verbs.
func New(o *cli.Options) *cobra.Command {
	create, update, remove, show := cli.Group("create", "make a target"), cli.Group("update", "change a target"), cli.Group("remove", "remove a target"), cli.Group("show", "print a target")
	for _, k := range kinds {
		create.AddCommand(k.withSecret(o, k.create(), true))
		update.AddCommand(k.withSecret(o, k.update(), false))
		one := k.path + "/{name}"
		remove.AddCommand(daemon.Verb{Use: k.name + " NAME", Short: "remove a target of the kind " + k.name, Method: del, Path: one, Args: []string{name}, Done: "target {name} is removed"}.Command(o))
		show.AddCommand(daemon.Verb{Use: k.name + " NAME", Short: "print a target of the kind " + k.name, Method: get, Path: one, Args: []string{name}}.Command(o))
	}
	targets := cli.Group("target", "where notifications go", create, update, remove, show,
		daemon.Verb{Use: "list", Short: "list all", Method: get, Path: base + "/targets", Show: []string{"name", "type", "disable", "comment"}}.Command(o))
	return cli.Group("notify", "tell people what happens", targets, matchers(o),
		daemon.Verb{Use: "test TARGET", Short: "send a message to a target, and wait until it is accepted", Method: post, Path: base + "/targets/{name}/test",
			Args: []string{name}, Done: "{name} has accepted a message: look whether it is there"}.Command(o),
		daemon.Verb{Use: "status", Short: "print what waits for each target, and why", Method: get, Path: ours + "/deliveries",
			Show: []string{"target", "waiting", "sent", "tried", "next-retry", "error"}}.Command(o))
}

func (k kind) create() daemon.Verb {
	flags := append([]daemon.Flag{}, k.flags...)
	for i := range flags {
		for _, m := range k.must {
			flags[i].Required = flags[i].Required || flags[i].Name == m
		}
	}
	return daemon.Verb{Use: k.name + " NAME", Short: k.short, Method: post, Path: k.path, Args: []string{name}, Flags: append(flags, common...),
		Done: "target {name} is made; try it with: holdfast notify test {name}", Example: k.example}
}

func (k kind) update() daemon.Verb {
	flags := append([]daemon.Flag{
		{Name: "delete", Usage: "options to be set back to their default", Kind: daemon.List},
		{Name: "digest", Usage: "fail if it was changed since this digest was shown"},
	}, k.flags...)
	return daemon.Verb{Use: k.name + " NAME", Short: k.short, Method: put, Path: k.path + "/{name}", Args: []string{name}, Flags: append(flags, common...), Done: "target {name} is changed"}
}

// withSecret adds the ways to give a secret that no list of processes shows, and
// has the texts of a web hook encoded.
func (k kind) withSecret(o *cli.Options, v daemon.Verb, create bool) *cobra.Command {
	var file string
	v.Before = func(_ *cobra.Command, params url.Values) error {
		if k.name == "webhook" {
			return encode(params)
		}
		secret := o.Getenv("HOLDFAST_NOTIFY_SECRET")
		if file != "" {
			text, err := os.ReadFile(file)
			if err != nil {
				return fmt.Errorf("read the secret: %w", err)
			}
			secret = strings.TrimSpace(string(text))
		}
		if secret != "" {
			params.Set(k.secret, secret)
		}
		if secret == "" && create && (k.name == "gotify" || k.name == "service" || params.Get("username") != "") {
			return cli.Usage(fmt.Errorf("the %s is missing: --secret-file, or HOLDFAST_NOTIFY_SECRET", k.secret))
		}
		return nil
	}
	cmd := v.Command(o)
	if k.secret != "" {
		cmd.Flags().StringVar(&file, "secret-file", "", "file with the "+k.secret+"; or set HOLDFAST_NOTIFY_SECRET")
	}
	return cmd
}

// encode makes of NAME=VALUE what the API takes.
func encode(params url.Values) error {
	for _, list := range []string{"header", "secret"} {
		for i, text := range params[list] {
			name, value, found := strings.Cut(text, "=")
			if !found || name == "" {
				return cli.Usage(fmt.Errorf("--%s is NAME=VALUE", list))
			}
			params[list][i] = "name=" + name + ",value=" + base64.StdEncoding.EncodeToString([]byte(value))
		}
	}
	body := params.Get("body")
	if file, is := strings.CutPrefix(body, "@"); is {
		text, err := os.ReadFile(file)
		if err != nil {
			return fmt.Errorf("read the body: %w", err)
		}
		body = string(text)
	}
	if body != "" {
		params.Set("body", base64.StdEncoding.EncodeToString([]byte(body)))
	}
	return nil
}

// rules are the flags of a matcher.
var rules = []daemon.Flag{
	{Name: "target", Usage: "who hears of what it matches", Kind: daemon.List},
	{Name: "severity", Usage: "info, notice, warning, error or unknown, with commas"},
	{Name: "field", Usage: "exact:FIELD=VALUE[,VALUE] or regex:FIELD=REGEX; fields are type, hostname, site, datastore, job-id; may be given again"},
	{Name: "calendar", Usage: "when it happens: 'mon..fri 8-17'"},
	{Name: "mode", Usage: "all or any of these; default: all"},
	{Name: "invert-match", Usage: "match what these do not", Kind: daemon.Bool},
	{Name: "comment", Usage: "what it is for, in one line"},
	{Name: "disable", Usage: "match nothing", Kind: daemon.Bool},
}

func matchers(o *cli.Options) *cobra.Command {
	const path, one = base + "/matchers", base + "/matchers/{name}"
	verb := func(v daemon.Verb, more ...daemon.Flag) *cobra.Command {
		var fields []string
		for _, f := range rules {
			if f.Name != "field" { // a list in which commas are part of a value
				v.Flags = append(v.Flags, f)
			}
		}
		v.Flags = append(v.Flags, more...)
		v.Before = func(_ *cobra.Command, params url.Values) error {
			for _, short := range []string{"severity", "calendar"} {
				if params.Has(short) {
					params.Set("match-"+short, params.Get(short))
					params.Del(short)
				}
			}
			for _, f := range fields {
				if f == "" {
					return cli.Usage(errors.New("--field is empty"))
				}
				params.Add("match-field", f)
			}
			return nil
		}
		cmd := v.Command(o)
		cmd.Flags().StringArrayVar(&fields, "field", nil, rules[2].Usage)
		return cmd
	}
	return cli.Group("matcher", "who hears of what; without any, nobody hears anything",
		daemon.Verb{Use: "list", Short: "list all", Method: get, Path: path, Show: []string{name, "match-severity", "match-field", "match-calendar", "mode", "invert-match", "target", "disable", "comment"}}.Command(o),
		daemon.Verb{Use: "show NAME", Short: "print one", Method: get, Path: one, Args: []string{name}}.Command(o),
		verb(daemon.Verb{Use: "create NAME", Short: "make one; without a rule it matches everything", Method: post, Path: path, Args: []string{name}, Done: "matcher {name} is made",
			Example: "  holdfast notify matcher create bad --severity warning,error --target mail"}),
		verb(daemon.Verb{Use: "update NAME", Short: "change one", Method: put, Path: one, Args: []string{name}, Done: "matcher {name} is changed"},
			daemon.Flag{Name: "delete", Usage: "options to be set back to their default: match-field, target, …", Kind: daemon.List},
			daemon.Flag{Name: "digest", Usage: "fail if it was changed since this digest was shown"}),
		daemon.Verb{Use: "remove NAME", Short: "remove one", Method: del, Path: one, Args: []string{name}, Done: "matcher {name} is removed"}.Command(o))
}
