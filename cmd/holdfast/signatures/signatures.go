// Package signatures has what verbs need that operators sign: their keys, and the
// files in which something waits for those who are elsewhere.
package signatures

import (
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"

	"github.com/holdfast-mesh/holdfast/access/statefile"
	"github.com/holdfast-mesh/holdfast/cmd/holdfast/cli"
	"github.com/holdfast-mesh/holdfast/node"
	"github.com/holdfast-mesh/holdfast/node/keyfile"
	"github.com/holdfast-mesh/holdfast/node/operator"

	"github.com/spf13/cobra"
)

// Flags are those of a verb that operators sign.
type Flags struct {
	Files []string // with keys
	To    string   // file for what other operators are still to sign
}

// Add adds them to a command.
func (f *Flags) Add(cmd *cobra.Command) {
	cmd.Flags().StringSliceVar(&f.Files, "operator-key", nil, "file with an operator's key, may be repeated; default: "+node.OperatorFile+" in the node's directory")
	cmd.Flags().StringVar(&f.To, "sign-to", "", "if more operators have to sign: the file to write for them, see operator sign")
}

// Keys reads the operators' keys.
func (f *Flags) Keys(o *cli.Options) (keys []ed25519.PrivateKey, err error) {
	files := f.Files
	if len(files) == 0 {
		files = []string{filepath.Join(o.Data, node.OperatorFile)}
	}
	for _, file := range files {
		key, err := keyfile.Read(file)
		if errors.Is(err, fs.ErrNotExist) {
			return nil, cli.Hint(fmt.Errorf("the operator's key is not here: %w", err), "bring it back for a moment and name it with --operator-key FILE; `holdfast node init` said where it was")
		}
		if err != nil {
			return nil, err
		}
		keys = append(keys, key)
	}
	return keys, nil
}

// Say prints what is signed.
func Say(o *cli.Options, d operator.Draft, what string) {
	if !o.Quiet {
		fmt.Fprintln(o.Err, "signed with the operator's key: "+d.Named(what))
	}
}

// Unfinished is what others have yet to sign: nothing has been submitted.
type Unfinished struct {
	error
	hint string
}

func (e *Unfinished) Unwrap() error { return e.error }

// Hint says who has to do what.
func (e *Unfinished) Hint() string { return e.hint }

// Pass writes what other operators are to sign, and says so as an error: nothing is
// done yet. Without a file for it there is only the error.
func (f *Flags) Pass(r operator.File, t operator.Tally) error {
	if f.To == "" {
		return &Unfinished{fmt.Errorf("nothing is changed yet: %s", t), "name the other keys with --operator-key, too, or with --sign-to FILE write what their owners sign"}
	}
	if err := Write(f.To, r); err != nil {
		return err
	}
	hint := "each of them: holdfast operator sign " + f.To + " --operator-key KEY; then, on a member: holdfast operator submit " + f.To
	switch {
	case r.Request != "":
		hint = strings.Replace(hint, "on a member", "on this node", 1)
	case t.Enough():
		hint = "so that it counts at once, " + hint[:strings.Index(hint, ";")] + ", or instead of them: holdfast operator sign " + f.To + " --recovery-key" + hint[strings.Index(hint, ";"):]
	}
	return &Unfinished{fmt.Errorf("nothing is changed yet: %s; %s is for the others", Standing(t), f.To), hint}
}

// Standing says who has signed, and what it would mean to submit it as it is.
func Standing(t operator.Tally) string {
	if !t.Enough() || !t.Waits {
		return t.String()
	}
	return fmt.Sprintf("%s; if it is submitted as it is, it counts after seven days, and until then any operator may veto it: not signed by %s", t, strings.Join(t.Missing, ", "))
}

// Write writes a file that only its owner may read: that of an invite has its secret.
func Write(file string, r operator.File) error {
	text, err := json.Marshal(r)
	if err == nil {
		_, err = statefile.WriteSecret(file, text, true)
	}
	return err
}

// maxFile bounds a file in bytes.
const maxFile = 1 << 20

// Read reads a file, and the call that is signed in it.
func Read(file string) (r operator.File, call operator.Call, err error) {
	text, err := statefile.ReadSecret(file, maxFile)
	if err == nil {
		r, call, err = operator.ParseFile(text)
	}
	if err == nil {
		return r, call, nil
	}
	hint := "have it made again, with --sign-to FILE on a member; do not sign or submit this one"
	var open *statefile.Error
	switch {
	case errors.As(err, &open):
		hint = "run: chmod 600 " + file + "; what is in it is checked all the same. Only that of an invite has a secret in it: if others could read that, revoke the invite"
	case errors.Is(err, fs.ErrNotExist):
		hint = "name the file that --sign-to has written"
	}
	return r, call, cli.Hint(fmt.Errorf("read what is to be signed, from %s: %w", file, err), hint)
}
