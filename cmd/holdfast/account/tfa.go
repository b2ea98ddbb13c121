package account

import (
	"crypto/rand"
	"encoding/base32"
	"fmt"
	"io"
	"net/url"

	"github.com/spf13/cobra"
	"rsc.io/qr"

	"github.com/holdfast-mesh/holdfast/cmd/holdfast/cli"
	"github.com/holdfast-mesh/holdfast/cmd/holdfast/daemon"
)

const tfaPath = "/access/tfa/{userid}"

// newTFA returns the verbs about second factors.
func newTFA(o *cli.Options) *cobra.Command {
	user := []string{"userid"}
	verbs := []daemon.Verb{
		{Use: "list USERID", Short: "list the second factors of a user", Method: get, Path: tfaPath, Args: user, Show: []string{"id", "type", "enable", "description"}},
		{Use: "delete USERID ID", Short: "make the password enough again", Method: del, Path: tfaPath + "/{id}", Args: []string{"userid", "id"}, Done: "second factor {id} of {userid} is removed"},
		{Use: "unlock USERID", Short: "let one-time codes be tried again, after too many wrong ones", Method: put, Path: userPath + "/unlock-tfa", Args: user, Done: "{userid} may try again"},
		{Use: "recovery USERID", Short: "make new recovery keys and print them, this once", Method: post, Path: tfaPath, Args: user, Fixed: map[string]string{"type": "recovery"}, Show: []string{"recovery"}},
	}
	cmd := cli.Group("tfa", "set up second factors", newAddTFA(o))
	for _, v := range verbs {
		cmd.AddCommand(v.Command(o))
	}
	return cmd
}

// newAddTFA sets an authenticator up: it shows the secret, and has a code made
// of it before it counts.
func newAddTFA(o *cli.Options) *cobra.Command {
	v := daemon.Verb{
		Use: "add USERID", Short: "ask for a one-time code beside the password from now on", Method: post, Path: tfaPath, Args: []string{"userid"},
		Fixed: map[string]string{"type": "totp"}, Show: []string{"recovery"},
		Long: "It shows a code to be scanned with an authenticator, asks for what that makes of\nit, and prints recovery keys: keep them on paper.",
		Before: func(_ *cobra.Command, params url.Values) error {
			uri := newOTP(params.Get("userid"))
			code, err := qr.Encode(uri, qr.L)
			if err != nil {
				return err
			}
			drawQR(o.Err, code)
			fmt.Fprintln(o.Err, uri)
			answer, err := o.Ask("code that the authenticator shows: ")
			params.Set("totp", uri)
			params.Set("value", string(answer))
			params.Set("description", "authenticator")
			return err
		},
	}
	return v.Command(o)
}

// newOTP makes a secret, as authenticators read it.
func newOTP(user string) string {
	secret := make([]byte, 20) // as long as the hash, which RFC 4226 recommends
	_, _ = rand.Read(secret)   // never fails
	q := url.Values{"secret": {base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(secret)}, "issuer": {"Holdfast"}, "algorithm": {"SHA1"}, "digits": {"6"}, "period": {"30"}}
	return "otpauth://totp/Holdfast:" + url.PathEscape(user) + "?" + q.Encode()
}

// drawQR draws a QR code for a dark terminal, two rows in a line.
func drawQR(w io.Writer, code *qr.Code) {
	const quiet = 2 // the empty border that readers want
	for y := -quiet; y < code.Size+quiet; y += 2 {
		for x := -quiet; x < code.Size+quiet; x++ {
			fmt.Fprint(w, halves[code.Black(x, y)][code.Black(x, y+1)])
		}
		fmt.Fprintln(w)
	}
}

// halves are what stands for an upper and a lower square: what is black stays
// dark.
var halves = map[bool]map[bool]string{
	true:  {true: " ", false: "▄"},
	false: {true: "▀", false: "█"},
}
