package account

import (
	"cmp"
	"crypto/rand"
	"encoding/base32"
	"errors"
	"fmt"
	"io"
	"net/url"
	"strings"

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
	cmd := cli.Group("tfa", "set up second factors", newAddTFA(o), newSecretTFA(o))
	for _, v := range verbs {
		cmd.AddCommand(v.Command(o))
	}
	return cmd
}

// secretVar is the variable with the secret of an authenticator.
const secretVar = "HOLDFAST_TOTP_SECRET"

// newAddTFA sets an authenticator up: it shows the secret, and has a code made
// of it before it counts.
func newAddTFA(o *cli.Options) *cobra.Command {
	var secret, code string
	v := daemon.Verb{
		Use: "add USERID", Short: "ask for a one-time code beside the password from now on", Method: post, Path: tfaPath, Args: []string{"userid"},
		Fixed: map[string]string{"type": "totp"}, Show: []string{"recovery"},
		Long: `It shows a QR code to be scanned with an authenticator, asks for what that makes
of it, and prints recovery keys: keep them on paper.

A script says --code. What the code was made of comes from tfa secret, in the
variable ` + secretVar + `, or in the file that ` + secretVar + `_FILE names.`,
		Example: `  holdfast user tfa add admin@pbs
  HOLDFAST_TOTP_SECRET_FILE=secret holdfast user tfa add admin@pbs --code 123456`,
		Before: func(_ *cobra.Command, params url.Values) (err error) {
			if secret == "" {
				from, err := o.Secret(secretVar)
				if err != nil {
					return err
				}
				secret = string(from)
			}
			uri := otpURI(params.Get("userid"), cmp.Or(secret, newSecret()))
			switch {
			case code != "" && secret == "":
				return cli.Usage(errors.New("of what was --code made? Set " + secretVar + " to what `holdfast user tfa secret` printed"))
			case code == "":
				code, err = askCode(o, uri)
			}
			params.Set("totp", uri)
			params.Set("value", code)
			params.Set("description", "authenticator")
			return err
		},
	}
	cmd := v.Command(o)
	cmd.Flags().StringVar(&secret, "secret", "", "of the authenticator, or its otpauth:// address; seen by who lists processes: "+secretVar+" is not")
	cmd.Flags().StringVar(&code, "code", "", "what the authenticator shows now; default: ask on the terminal")
	return cmd
}

// askCode shows a secret on the terminal and asks for a code that is made of it.
func askCode(o *cli.Options, uri string) (string, error) {
	code, err := qr.Encode(uri, qr.L)
	if err != nil {
		return "", err
	}
	if !o.Asks() {
		return "", cli.Usage(errors.New("there is no terminal to ask for the code: give --code, and the secret in " + secretVar))
	}
	drawQR(o.Err, code)
	fmt.Fprintln(o.Err, uri)
	answer, err := o.Ask("code that the authenticator shows: ")
	return string(answer), err
}

// newSecretTFA prints a secret, for those who set an authenticator up by script.
func newSecretTFA(o *cli.Options) *cobra.Command {
	return &cobra.Command{
		Use: "secret USERID", Short: "make up the secret of an authenticator and print it; tfa add sets it up", Args: cli.Exactly(1),
		Long:    "It changes nothing. With -q it prints the secret alone.",
		Example: "  holdfast user tfa secret admin@pbs --output-format json",
		RunE: func(_ *cobra.Command, args []string) error {
			secret := newSecret()
			made := map[string]string{"userid": args[0], "secret": secret, "uri": otpURI(args[0], secret)}
			return o.Print(made, func(w io.Writer) {
				if o.Quiet {
					fmt.Fprintln(w, secret)
					return
				}
				fmt.Fprintf(w, "secret  %s\nuri     %s\n", secret, made["uri"])
			})
		},
	}
}

// newSecret makes a secret up: as long as the hash, which RFC 4226 recommends.
func newSecret() string {
	secret := make([]byte, 20)
	_, _ = rand.Read(secret) // never fails
	return base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(secret)
}

// otpURI writes a secret as authenticators read it. It may be so already.
func otpURI(user, secret string) string {
	if strings.HasPrefix(secret, "otpauth://") {
		return secret
	}
	secret = strings.ToUpper(strings.ReplaceAll(secret, " ", "")) // some show it in groups
	q := url.Values{"secret": {secret}, "issuer": {"Holdfast"}, "algorithm": {"SHA1"}, "digits": {"6"}, "period": {"30"}}
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
