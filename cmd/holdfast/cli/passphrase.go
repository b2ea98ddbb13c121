package cli

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"

	"golang.org/x/term"

	"github.com/holdfast-mesh/holdfast/chunks/keys"
)

// maxPassphrase bounds in bytes what is read from a file or a program.
const maxPassphrase = 4096

// Secret looks for a passphrase where the real client does: in the variable
// name, in the file descriptor, file or output of a command that variables
// beside it name. It returns nil if none is set.
func (o *Options) Secret(name string) ([]byte, error) {
	if v := o.Getenv(name); v != "" {
		return []byte(v), nil
	}
	var from io.Reader
	switch fd, file, command := o.Getenv(name+"_FD"), o.Getenv(name+"_FILE"), o.Getenv(name+"_CMD"); {
	case fd != "":
		n, err := strconv.ParseUint(fd, 10, 16)
		if err != nil {
			return nil, fmt.Errorf("read passphrase: %s_FD: %w", name, err)
		}
		f := os.NewFile(uintptr(n), name+"_FD")
		defer f.Close() // it was only read
		from = f
	case file != "":
		f, err := os.Open(file)
		if err != nil {
			return nil, fmt.Errorf("read passphrase: %w", err)
		}
		defer f.Close() // it was only read
		from = f
	case command != "":
		out, err := exec.Command("/bin/sh", "-c", command).Output()
		if err != nil {
			return nil, fmt.Errorf("run %s_CMD: %w", name, err)
		}
		from = bytes.NewReader(out)
	default:
		return nil, nil
	}
	b, err := io.ReadAll(io.LimitReader(from, maxPassphrase+1))
	if err != nil {
		return nil, fmt.Errorf("read passphrase: %w", err)
	}
	if len(b) > maxPassphrase {
		return nil, fmt.Errorf("read passphrase: more than %d bytes", maxPassphrase)
	}
	line, _, _ := bytes.Cut(b, []byte("\n"))
	return line, nil
}

// PassphraseVar is the variable with the passphrase of a key file.
const PassphraseVar = "PBS_ENCRYPTION_PASSWORD"

// Prompt returns the passphrase of a key that exists: from the environment,
// else from the terminal, else there is nobody to ask.
func (o *Options) Prompt(what string) keys.Prompt {
	return func() ([]byte, error) {
		b, err := o.Secret(PassphraseVar)
		if b != nil || err != nil {
			return b, err
		}
		return o.Ask(what)
	}
}

// NewPassphrase is the same for a key that is made: a terminal is asked twice.
func (o *Options) NewPassphrase() ([]byte, error) {
	b, err := o.Secret(PassphraseVar)
	if b != nil || err != nil {
		return b, err
	}
	first, err := o.Ask("New passphrase: ")
	if err != nil {
		return nil, err
	}
	again, err := o.Ask("The same again: ")
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(first, again) {
		return nil, errors.New("the two passphrases differ")
	}
	return first, nil
}

// Asks reports whether there is a terminal to ask on.
func (o *Options) Asks() bool { return term.IsTerminal(int(os.Stdin.Fd())) }

// Ask reads a passphrase from the terminal without showing it.
func (o *Options) Ask(what string) ([]byte, error) {
	fd := int(os.Stdin.Fd())
	if !term.IsTerminal(fd) {
		return nil, keys.ErrPassphraseNeeded
	}
	fmt.Fprint(o.Err, what)
	b, err := term.ReadPassword(fd)
	fmt.Fprintln(o.Err)
	return b, err
}

// NewPassword returns a new password: from the environment, under name and the
// names beside it that [Options.Secret] knows, else a terminal is asked twice.
func (o *Options) NewPassword(name, what string) ([]byte, error) {
	b, err := o.Secret(name)
	if b != nil || err != nil {
		return b, err
	}
	if !term.IsTerminal(int(os.Stdin.Fd())) {
		return nil, usageError{fmt.Errorf("there is no terminal to ask for the %s: set %s_FILE", what, name)}
	}
	first, err := o.Ask("new " + what + ": ")
	if err != nil {
		return nil, err
	}
	again, err := o.Ask("the same again: ")
	if err == nil && !bytes.Equal(first, again) {
		err = fmt.Errorf("the two %ss differ", what)
	}
	return first, err
}
