package datastore

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"

	"github.com/holdfast-mesh/holdfast/cmd/holdfast/cli"
	"github.com/holdfast-mesh/holdfast/cmd/holdfast/daemon"

	"github.com/spf13/cobra"

	"github.com/holdfast-mesh/holdfast/catalog"
	"github.com/holdfast-mesh/holdfast/catalog/naming"
	"github.com/holdfast-mesh/holdfast/pbs/settings"
)

// updating makes a verb that changes what is said of a datastore, and prints
// what holds then; without a flag it only prints.
func updating[T any](o *cli.Options, use, short string, read func(catalog.Tree) (T, error), add func(*cobra.Command, *[]func(*T) error), write func(*catalog.Datastore, T) error, byName func(*cobra.Command, string) error) *cobra.Command {
	var changes []func(*T) error
	cmd := &cobra.Command{
		Use: use, Short: short, Args: cli.OneDir,
		RunE: func(cmd *cobra.Command, args []string) error {
			if name, ok, err := o.Named(cmd.Context(), args); byName != nil && (ok || err != nil) {
				if err != nil {
					return err
				}
				return byName(cmd, name)
			}
			dir, err := o.Dir(args)
			if err != nil {
				return err
			}
			t, err := cli.TreeOf(dir)
			if err != nil {
				return err
			}
			now, err := read(t)
			if err != nil {
				return err
			}
			if len(changes) > 0 {
				for _, change := range changes {
					if err := change(&now); err != nil {
						return cli.Usage(err)
					}
				}
				if err := o.WithDatastore(cmd.Context(), dir, func(d *catalog.Datastore) error { return write(d, now) }); err != nil {
					return err
				}
			}
			return o.Print(now, func(w io.Writer) {
				b, _ := json.MarshalIndent(now, "", "  ") // a value that was read from JSON
				fmt.Fprintf(w, "%s\n", b)
			})
		},
	}
	add(cmd, &changes)
	return cmd
}

// nodeFlags are what can be said of a datastore of the node only.
var nodeFlags = []daemon.Flag{
	{Name: "gc-schedule", Usage: "when garbage is collected, as a calendar event: daily, 'sat 04:00'"},
	{Name: "expected-age", Usage: "tell when a group's newest snapshot is older: 36h, 8d"},
	{Name: "verify-new", Usage: "verify each backup when it is finished", Kind: daemon.Bool},
	{Name: "cache-size", Usage: "of a datastore with a bucket: bytes that copies of chunks take at most, from 64MiB on, or 0 for none; holds at once"},
	{Name: "offload-after", Usage: "of a datastore with a bucket: how old backups are when they leave the disk: 0, 7d, 28d"},
	{Name: "offload-schedule", Usage: "of a datastore with a bucket: when it is looked for what is old enough: hourly, '06:00'"},
	{Name: "object-lock", Usage: "of a datastore with a bucket: nobody can delete an object for so long: " + lockWords},
	{Name: "confirm-compliance", Usage: confirmWords},
	{Name: "delete", Usage: "settings to be set back to their default", Kind: daemon.List},
	{Name: "digest", Usage: "fail if it was changed since this digest was shown"},
}

// A said is a flag that was given, with its value, for the API.
type said struct{ name, value string }

func newUpdate(o *cli.Options) *cobra.Command {
	var given []said
	cmd := updating(o, "update [NAME|DIR]", "change the settings of a store, or print them",
		catalog.Tree.Settings,
		func(cmd *cobra.Command, changes *[]func(*catalog.Settings) error) {
			on := func(name, usage string, set func(*catalog.Settings, string) error) {
				cmd.Flags().Func(name, usage, func(v string) error {
					given = append(given, said{name, v})
					*changes = append(*changes, func(s *catalog.Settings) error { return set(s, v) })
					return nil
				})
			}
			on("comment", "what the store is for, in one line", func(s *catalog.Settings, v string) error {
				s.Comment = v
				return nil
			})
			on("trash-delay", "how long forgotten snapshots can be taken back: 24h, 20d, 0 for not at all, or default", setTrashDelay)
		}, (*catalog.Datastore).SetSettings,
		func(cmd *cobra.Command, name string) error { return updateNamed(o, cmd, name, given) })
	daemon.AddFlags(cmd, nodeFlags)
	return cmd
}

func setTrashDelay(s *catalog.Settings, v string) error {
	if v == "default" {
		s.TrashDelay = nil
		return nil
	}
	d, err := settings.ParseAge(v)
	delay := catalog.Duration(d)
	s.TrashDelay = &delay
	return err
}

// updateNamed changes a datastore of the node, or prints what is set up of it.
func updateNamed(o *cli.Options, cmd *cobra.Command, name string, given []said) error {
	params, err := daemon.Given(cmd, nodeFlags)
	if err != nil {
		return err
	}
	for _, s := range given {
		if s.name == "trash-delay" && s.value == "default" {
			params.Add("delete", s.name)
			continue
		}
		params.Set(s.name, s.value)
	}
	if params.Has("cache-size") { // as PBS calls it
		params.Set("max-cache-size", params.Get("cache-size"))
		params.Del("cache-size")
	}
	return setNamed(o, cmd, name, params)
}

// setNamed sends changes, if there are any, and prints what holds then.
func setNamed(o *cli.Options, cmd *cobra.Command, name string, params url.Values) error {
	c := daemon.Client(o)
	defer c.Close()
	if len(params) > 0 {
		params.Set("name", name)
		if _, err := daemon.Call(cmd.Context(), c, http.MethodPut, configPath+"/{name}", params); err != nil {
			return err
		}
	}
	r, err := daemon.Call(cmd.Context(), c, http.MethodGet, configPath+"/{name}", url.Values{"name": {name}})
	if err != nil {
		return err
	}
	return daemon.Print(o, r, nil)
}

func newMaintenance(o *cli.Options) *cobra.Command {
	var mode, message *string
	return updating(o, "maintenance [NAME|DIR]", "close a store for writing, or for everything",
		catalog.Tree.Settings,
		func(cmd *cobra.Command, changes *[]func(*catalog.Settings) error) {
			cmd.Flags().Func("mode", "read-only, offline, or off to end it", func(v string) error {
				if v == "off" {
					v = ""
				}
				mode = &v
				*changes = append(*changes, func(s *catalog.Settings) error {
					s.Maintenance.Mode = catalog.Mode(v)
					if v == "" {
						s.Maintenance.Message = ""
					}
					return s.Maintenance.Check()
				})
				return nil
			})
			cmd.Flags().Func("message", "for whoever is refused", func(v string) error {
				message = &v
				*changes = append(*changes, func(s *catalog.Settings) error {
					s.Maintenance.Message = v
					return nil
				})
				return nil
			})
		}, (*catalog.Datastore).SetSettings,
		func(cmd *cobra.Command, name string) error { return maintainNamed(o, cmd, name, mode, message) })
}

// maintainNamed sets the maintenance of a datastore of the node.
func maintainNamed(o *cli.Options, cmd *cobra.Command, name string, mode, message *string) error {
	params := url.Values{}
	switch {
	case mode != nil && *mode == "":
		params.Set("delete", "maintenance-mode")
	case mode != nil:
		text := *mode
		if message != nil {
			text += ",message=" + strconv.Quote(*message)
		}
		params.Set("maintenance-mode", text)
	case message != nil:
		return cli.Usage(errors.New("--message goes with --mode"))
	}
	return setNamed(o, cmd, name, params)
}

func newGuard(o *cli.Options) *cobra.Command {
	cmd := updating(o, "guard [DIR]", "say what nobody may remove from a store, whoever asks",
		catalog.Tree.Guard,
		func(cmd *cobra.Command, changes *[]func(*catalog.Guard) error) {
			delay := func(name, usage string, field func(*catalog.Guard) *catalog.Duration) {
				cmd.Flags().Func(name, usage, func(v string) error {
					*changes = append(*changes, func(g *catalog.Guard) error {
						return field(g).UnmarshalText([]byte(v))
					})
					return nil
				})
			}
			delay("min-retention", "keep every snapshot for so long: 720h, by a clock of the node that does not jump", func(g *catalog.Guard) *catalog.Duration { return &g.MinRetention })
			delay("deletion-delay", "keep forgotten snapshots in the trash for so long at least, also from gc --empty-trash: 168h", func(g *catalog.Guard) *catalog.Duration { return &g.DeletionDelay })
			cmd.Flags().Func("frozen", "remove nothing of groups like type:vm, group:vm/100, regex:RE; none to end it", func(v string) error {
				*changes = append(*changes, func(g *catalog.Guard) error {
					if v == "none" {
						g.Frozen = nil
						return nil
					}
					f, err := naming.ParseFilter(v)
					g.Frozen = append(g.Frozen, f)
					return err
				})
				return nil
			})
		}, (*catalog.Datastore).SetGuard, nil)
	cmd.Long = `The guard holds whatever is asked for, by whomever: prune, forget, another site,
or an administrator of the cluster. It is a file in the store, guard.json, that
only this command on this machine changes.`
	return cmd
}
