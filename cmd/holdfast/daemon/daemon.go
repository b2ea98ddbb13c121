// Package daemon has what verbs need that ask the daemon of this machine: a
// verb as a row of a table, and tasks that are watched until they end.
//
// A verb is one call of the API: its arguments and flags are the parameters of
// the call, under the same names, so that scripts for proxmox-backup-manager
// fit. It prints the answer, in JSON as it came.
package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/holdfast-mesh/holdfast/cmd/holdfast/cli"
	"github.com/holdfast-mesh/holdfast/node/admin"
)

// A Verb is a command that calls the API once.
type Verb struct {
	Use, Short, Long, Example string

	Method, Path string   // "/access/users/{userid}": arguments and flags fill it
	Args         []string // the parameters that its arguments are
	Flags        []Flag
	Fixed        map[string]string // parameters that are always the same

	Show   []string // what of the answer is printed as text, in order; none: all of an object
	Task   bool     // the answer is the name of a task, which is watched
	Done   string   // else what is printed as text but for -q, with {PARAMETER}: "user {userid} is made"
	Before func(cmd *cobra.Command, params url.Values) error
}

// A Flag is a parameter.
type Flag struct {
	Name, Usage string
	Kind        Kind
	Required    bool
}

// Kind says what the value of a flag is.
type Kind int

// The kinds.
const (
	Text Kind = iota
	Bool
	Int
	List   // given several times, or with commas
	Repeat // given several times; commas are part of the text
)

// Command makes the command of a verb.
func (v Verb) Command(o *cli.Options) *cobra.Command {
	cmd := &cobra.Command{
		Use: v.Use, Short: v.Short, Long: v.Long, Example: v.Example, Args: cli.Exactly(len(v.Args)),
		RunE: func(cmd *cobra.Command, args []string) error {
			params, err := v.params(cmd, args)
			if err != nil {
				return err
			}
			return v.run(cmd.Context(), o, params)
		},
	}
	AddFlags(cmd, v.Flags)
	return cmd
}

// AddFlags adds flags to a command. Their values are asked for by [Given].
func AddFlags(cmd *cobra.Command, flags []Flag) {
	for _, f := range flags {
		switch f.Kind {
		case Bool:
			cmd.Flags().VarPF(new(onOff), f.Name, "", f.Usage).NoOptDefVal = "true"
		case Int:
			cmd.Flags().Int64(f.Name, 0, f.Usage)
		case List:
			cmd.Flags().StringSlice(f.Name, nil, f.Usage)
		case Repeat:
			cmd.Flags().StringArray(f.Name, nil, f.Usage)
		default:
			cmd.Flags().String(f.Name, "", f.Usage)
		}
	}
}

// An onOff is a flag that nodes read in the same words.
type onOff bool

func (b *onOff) String() string { return strconv.FormatBool(bool(*b)) }
func (*onOff) Type() string     { return "bool" }

func (b *onOff) Set(text string) error {
	switch strings.ToLower(text) {
	case "1", "true", "yes", "on":
		*b = true
	case "0", "false", "no", "off":
		*b = false
	default:
		return errors.New("give 1, true, yes or on, or 0, false, no or off")
	}
	return nil
}

// Given returns the flags that were given, as parameters.
func Given(cmd *cobra.Command, flags []Flag) (url.Values, error) {
	params := url.Values{}
	for _, f := range flags {
		given := cmd.Flags().Lookup(f.Name)
		switch {
		case !given.Changed && f.Required:
			return nil, cli.Usage(fmt.Errorf("--%s is missing", f.Name))
		case !given.Changed:
		case f.Kind == List:
			params[f.Name], _ = cmd.Flags().GetStringSlice(f.Name) // its kind is right
		case f.Kind == Repeat:
			params[f.Name], _ = cmd.Flags().GetStringArray(f.Name)
		default:
			params.Set(f.Name, given.Value.String())
		}
	}
	return params, nil
}

func (v Verb) params(cmd *cobra.Command, args []string) (url.Values, error) {
	params, err := Given(cmd, v.Flags)
	if err != nil {
		return nil, err
	}
	for i, name := range v.Args {
		params.Set(name, args[i])
	}
	for name, value := range v.Fixed {
		params.Set(name, value)
	}
	if v.Before != nil {
		return params, v.Before(cmd, params)
	}
	return params, nil
}

func (v Verb) run(ctx context.Context, o *cli.Options, params url.Values) error {
	c := Client(o)
	defer c.Close()
	r, err := Call(ctx, c, v.Method, v.Path, params)
	switch {
	case err != nil:
		return err
	case v.Task:
		return Watch(ctx, o, c, r)
	case v.Done != "":
		warn(o, r)
		return o.Print(r.Data, func(w io.Writer) {
			if !o.Quiet {
				fmt.Fprintln(w, fill(v.Done, params))
			}
		})
	}
	return Print(o, r, v.Show)
}

// warn prints what deserves a look though it was done.
func warn(o *cli.Options, r admin.Result) {
	var told struct {
		Warning string `json:"warning"`
	}
	if json.Unmarshal(r.Data, &told) == nil && told.Warning != "" {
		fmt.Fprintln(o.Err, "warning: "+told.Warning)
	}
}

// Client returns a client of the daemon of this machine.
func Client(o *cli.Options) *admin.Client { return admin.NewClient(o.Data) }

// Call calls the API. What the path names of params is put there, the rest is
// sent.
func Call(ctx context.Context, c *admin.Client, method, path string, params url.Values) (admin.Result, error) {
	rest := url.Values{}
	for name, values := range params {
		if place := "{" + name + "}"; strings.Contains(path, place) {
			path = strings.ReplaceAll(path, place, url.PathEscape(values[0]))
		} else {
			rest[name] = values
		}
	}
	return c.Call(ctx, method, path, rest)
}

// Get calls a method that only reads, and reads the answer into v.
func Get(ctx context.Context, c *admin.Client, path string, params url.Values, v any) error {
	r, err := Call(ctx, c, http.MethodGet, path, params)
	if err != nil {
		return err
	}
	return r.Into(v)
}

func fill(text string, params url.Values) string {
	for name, values := range params {
		text = strings.ReplaceAll(text, "{"+name+"}", strings.Join(values, ","))
	}
	return text
}

// Print prints an answer: as it came, or a list as a table of what show names,
// an object as lines.
func Print(o *cli.Options, r admin.Result, show []string) error {
	var list []map[string]any
	if err := json.Unmarshal(r.Data, &list); err == nil {
		return o.Print(r.Data, func(w io.Writer) { table(w, list, show) })
	}
	var object map[string]any
	if err := json.Unmarshal(r.Data, &object); err == nil {
		return o.Print(r.Data, func(w io.Writer) { lines(w, object, show) })
	}
	return o.Print(r.Data, func(w io.Writer) { fmt.Fprintf(w, "%s\n", r.Data) })
}

// Number is a parameter with a number.
func Number(n int64) []string { return []string{strconv.FormatInt(n, 10)} }
