package member

import (
	"net/http"

	"github.com/spf13/cobra"

	"github.com/holdfast-mesh/holdfast/cmd/holdfast/cli"
	"github.com/holdfast-mesh/holdfast/cmd/holdfast/daemon"
)

// NewDraft returns the verbs about changes that wait for a quorum.
func NewDraft(o *cli.Options) *cobra.Command {
	const path = "/holdfast/drafts"
	show := []string{"draft", "made", "by", "what", "state", "why"}
	return cli.Group("draft", "look at changes that were made without a quorum, and drop them",
		daemon.Verb{
			Use: "list", Short: "list the changes that wait for a quorum on this node", Method: http.MethodGet, Path: path, Show: show,
			Long: `What is changed while there is no quorum (users, tokens, rights, datastores, jobs,
remotes) is kept on this node, and applied in its order when there is one. A change
that does not fit any more, since somebody else has changed the same, stays in the
list with the reason until it is discarded.`,
		}.Command(o),
		daemon.Verb{Use: "submit", Short: "submit them now, instead of within seconds after the quorum is back", Method: http.MethodPost, Path: path, Show: show}.Command(o),
		daemon.Verb{
			Use: "discard DRAFT", Short: "drop a change that waits, or was not applied", Method: http.MethodDelete, Path: path + "/{draft}", Args: []string{"draft"},
			Done: "draft {draft} is dropped",
		}.Command(o))
}
