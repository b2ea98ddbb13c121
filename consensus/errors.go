package consensus

import (
	"errors"
	"fmt"

	"github.com/holdfast-mesh/holdfast/consensus/wire"
)

// What callers can expect to go wrong. Match them with errors.Is.
var (
	// ErrNoLeader: nobody could take the command, and it was not applied.
	ErrNoLeader = errors.New("no leader")

	// ErrUnknown: the command may have been applied or may yet be. Submitting
	// the same bytes again is harmless and gives the result.
	ErrUnknown = errors.New("outcome unknown")

	// ErrStopped: the Raft part of this node does not run.
	ErrStopped = errors.New("consensus is stopped on this node")

	// ErrNeedsUpgrade: this program met a command or a state that it does not know.
	ErrNeedsUpgrade = errors.New("this node runs an older version of Holdfast than its ledger was written by")

	// ErrRefused: the other side is not who it would have to be.
	ErrRefused = wire.ErrRefused
)

// errSuperseded ends a group whose cluster was recovered without it.
var errSuperseded = errors.New("the cluster was recovered without this node")

// An Error is an error with a known cure.
type Error struct {
	Err  error
	Cure string
}

func (e *Error) Error() string { return e.Err.Error() }
func (e *Error) Unwrap() error { return e.Err }

// Hint says what an operator can do about it.
func (e *Error) Hint() string { return e.Cure }

// cured adds a cure to an error that has none.
func cured(err error, cure string) error {
	if hinted := interface{ Hint() string }(nil); errors.As(err, &hinted) && hinted.Hint() != "" {
		return err
	}
	return &Error{err, cure}
}

func noLeader(why string) error {
	return &Error{
		fmt.Errorf("%w: %s", ErrNoLeader, why),
		"backups and restores go on; `holdfast status` names the voters that are missing; if they are lost for good: `holdfast member recover-quorum`",
	}
}

func unknown(err error) error {
	return &Error{fmt.Errorf("%w: %w", ErrUnknown, err), "look at what is there before you repeat the command"}
}
