package datastore

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"text/tabwriter"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/holdfast-mesh/holdfast/cmd/holdfast/cli"
	"github.com/holdfast-mesh/holdfast/cmd/holdfast/daemon"
)

const (
	configPath = "/config/datastore"
	adminPath  = "/admin/datastore/{store}"
	cloudPath  = "/holdfast/datastore/{store}"
)

// byNode has the node do something with one of its datastores, and prints the
// log of the task until it ends. Flags that are not among those that the node
// takes are refused.
func byNode(o *cli.Options, cmd *cobra.Command, err error, method, path string, params url.Values, takes ...string) error {
	if err != nil {
		return err
	}
	allowed := map[string]bool{}
	for _, name := range takes {
		allowed[name] = true
	}
	allowed["store"] = true // it has said which
	for _, name := range given(cmd) {
		if !allowed[name] {
			return cli.Usage(fmt.Errorf("--%s is for a store in a directory that no node has open", name))
		}
		if name != "store" {
			params.Set(name, cmd.Flags().Lookup(name).Value.String())
		}
	}
	c := daemon.Client(o)
	defer c.Close()
	r, err := daemon.Call(cmd.Context(), c, method, path, params)
	if err != nil {
		return err
	}
	return daemon.Watch(cmd.Context(), o, c, r)
}

// given returns the flags of the verb that were given, without those that all
// verbs have.
func given(cmd *cobra.Command) (names []string) {
	cmd.LocalNonPersistentFlags().VisitAll(func(f *pflag.Flag) {
		if f.Changed {
			names = append(names, f.Name)
		}
	})
	return names
}

// do calls the API for a task and watches it.
func do(o *cli.Options, ctx context.Context, method, path string, params url.Values) error {
	c := daemon.Client(o)
	defer c.Close()
	r, err := daemon.Call(ctx, c, method, path, params)
	if err != nil {
		return err
	}
	return daemon.Watch(ctx, o, c, r)
}

func newRemove(o *cli.Options) *cobra.Command {
	v := daemon.Verb{
		Use: "remove NAME", Short: "have the node forget a datastore; its directory stays, unless --destroy-data", Method: http.MethodDelete,
		Path: configPath + "/{name}", Args: []string{"name"}, Task: true,
		Flags: []daemon.Flag{
			{Name: "destroy-data", Usage: "remove all backups in it, for ever", Kind: daemon.Bool},
			{Name: "keep-job-configs", Usage: "keep the jobs on it", Kind: daemon.Bool},
			{Name: "digest", Usage: "fail if it was changed since this digest was shown"},
		},
	}
	return v.Command(o)
}

// A nodeStore is a datastore of the node in a list.
type nodeStore struct {
	Name        string `json:"name"`
	Path        string `json:"path"`
	Comment     string `json:"comment,omitempty"`
	Maintenance string `json:"maintenance-mode,omitempty"`
	GC          string `json:"gc-schedule,omitempty"`
	Total       int64  `json:"total"`
	Avail       int64  `json:"avail"`
	Error       string `json:"error,omitempty"`
}

// listNode lists the datastores of the node with their space.
func listNode(o *cli.Options, ctx context.Context) error {
	c := daemon.Client(o)
	defer c.Close()
	list := []nodeStore{}
	if err := daemon.Get(ctx, c, configPath, nil, &list); err != nil {
		return err
	}
	var usage []struct {
		Store        string
		Total, Avail int64
		Error        string
	}
	if err := daemon.Get(ctx, c, "/status/datastore-usage", nil, &usage); err != nil {
		return err
	}
	for i := range list {
		for _, u := range usage {
			if u.Store == list[i].Name {
				list[i].Total, list[i].Avail, list[i].Error = u.Total, u.Avail, u.Error
			}
		}
	}
	return o.Print(list, func(w io.Writer) {
		tab := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
		fmt.Fprintln(tab, "store\tfree\tof\tpath\tcollected\tstate")
		for _, s := range list {
			state := s.Error
			if state == "" && s.Maintenance != "" {
				state = "maintenance: " + s.Maintenance
			}
			fmt.Fprintf(tab, "%s\t%s\t%s\t%s\t%s\t%s\n", s.Name, cli.Size(s.Avail), cli.Size(s.Total), s.Path, s.GC, state)
		}
		tab.Flush()
	})
}

func newMount(o *cli.Options) *cobra.Command {
	return ofBucket(o, "mount", "mount the removable disk of a datastore, and open it", http.MethodPost, adminPath+"/mount")
}

func newUnmount(o *cli.Options) *cobra.Command {
	return ofBucket(o, "unmount", "close a datastore when nobody works on it any more, and unmount its removable disk", http.MethodPost, adminPath+"/unmount")
}
