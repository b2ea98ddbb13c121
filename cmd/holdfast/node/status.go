package node

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/holdfast-mesh/holdfast/cmd/holdfast/cli"
	"github.com/holdfast-mesh/holdfast/cmd/holdfast/daemon"
	"github.com/holdfast-mesh/holdfast/node/admin"
)

// watchEvery is how often --watch looks.
const watchEvery = 2 * time.Second

// NewStatus returns the verb that shows how the mesh is.
func NewStatus(o *cli.Options) *cobra.Command {
	var watch, all bool
	cmd := &cobra.Command{
		Use: "status", Short: "print how every site is: reached how, space, snapshots, lag, running work, warnings", Args: cli.NoArgs,
		Long: "It works without a quorum, says in its first line whether there is one and how\nold the facts are, and fails if this site is not ready.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			c := daemon.Client(o)
			defer c.Close()
			v := &viewer{o: o, client: c, all: all}
			if !watch {
				return v.show(cmd.Context())
			}
			return v.watch(cmd.Context())
		},
	}
	cmd.Flags().BoolVar(&watch, "watch", false, "again every two seconds, until interrupted")
	cmd.Flags().BoolVar(&all, "all", false, "all groups and warnings, not only those that somebody should look at first")
	return cmd
}

// A viewer shows the status.
type viewer struct {
	o      *cli.Options
	client *admin.Client
	all    bool
}

// size is that of the terminal; ok is false if it is none.
func (v *viewer) size() (width, height int, ok bool) {
	f, is := v.o.Out.(*os.File)
	if !is || !term.IsTerminal(int(f.Fd())) {
		return 0, 0, false
	}
	width, height, err := term.GetSize(int(f.Fd()))
	return width, height, err == nil && width > 0
}

// watch shows it again and again: on a terminal in the same place.
func (v *viewer) watch(ctx context.Context) error {
	out := v.o.Out
	defer func() { v.o.Out = out }()
	for first := true; ; first = false {
		width, height, terminal := v.size()
		var page bytes.Buffer
		v.o.Out = &page
		err := v.showAt(ctx, width)
		v.o.Out = out
		if err != nil {
			fmt.Fprintln(&page, err)
		}
		switch {
		case terminal && v.o.Format == "text":
			_, err = io.WriteString(out, redraw(page.String(), height))
		case !first && v.o.Format == "text":
			_, err = fmt.Fprintf(out, "\n%s\n%s", time.Now().Format(time.DateTime), page.Bytes())
		default:
			_, err = out.Write(page.Bytes())
		}
		if err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(watchEvery):
		}
	}
}

// redraw puts a page over the one before, without flicker: home, each line with
// what was behind it removed, and then what was below.
func redraw(page string, height int) string {
	lines := strings.Split(strings.TrimSuffix(page, "\n"), "\n")
	if height > 1 && len(lines) >= height {
		lines = append(lines[:height-2], "…")
	}
	return "\x1b[H" + strings.Join(lines, "\x1b[K\n") + "\x1b[K\n\x1b[J"
}

func (v *viewer) show(ctx context.Context) error {
	width, _, _ := v.size()
	return v.showAt(ctx, width)
}

// showAt shows it in lines of at most width; 0: of any length.
func (v *viewer) showAt(ctx context.Context, width int) error {
	var raw json.RawMessage
	if err := daemon.Get(ctx, v.client, "/holdfast/status", nil, &raw); err != nil {
		return err
	}
	var s status
	if err := json.Unmarshal(raw, &s); err != nil {
		return fmt.Errorf("%s holdfast/status: %w", http.MethodGet, err)
	}
	if err := v.o.Print(raw, func(w io.Writer) { s.print(w, time.Now(), width, v.all) }); err != nil {
		return err
	}
	for _, m := range s.Members {
		if m.Path == "local" && !m.Ready {
			return fmt.Errorf("site %s is not ready: %s", m.Site, m.Why)
		}
	}
	return nil
}
