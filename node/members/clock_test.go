package members

import (
	"errors"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-mesh/holdfast/consensus/ledger"
	"github.com/holdfast-mesh/holdfast/node/operator"
)

// The clock of a node was ten days ahead for one command, and nobody could be invited for
// ten days: the refusal named no clock, and there was no way out.
func TestSetClock(t *testing.T) {
	w := newWorld(t)
	invite := func() error {
		return w.sign(operator.Invite, http.MethodPost, "/invites", url.Values{"role": {"full"}}, nil)
	}
	if err := w.call(http.MethodPut, "/clock", nil, nil); err == nil || !strings.Contains(err.Error(), "is not ahead") || strings.Contains(err.Error(), "agree") {
		t.Errorf("while it is right: %v", err)
	}
	// Most clocks were three years ahead, and it was said that the one of the ledger is not.
	w.clocks = map[string]time.Duration{"a": time.Second, "b": 26280 * time.Hour, "c": -time.Hour}
	if err := w.call(http.MethodPut, "/clock", nil, nil); err == nil || !strings.Contains(err.Error(), "is not ahead") ||
		!strings.Contains(err.Error(), "that of b is 3 years ahead, that of c is 1h0m behind") {
		t.Errorf("while clocks are wrong: %v", err)
	}
	if list := Clock(w.cluster, "home"); len(list) != 0 {
		t.Errorf("%+v", list)
	}
	w.ahead.Store(int64(10 * 24 * time.Hour))
	if err := w.call(http.MethodPut, "/clock", nil, nil); err == nil { // any command
		t.Error("it was set to the wrong clock")
	}
	w.ahead.Store(0)
	if err := invite(); err == nil || !strings.Contains(err.Error(), "for the ledger") {
		t.Errorf("an invite: %v", err)
	}
	if list := Clock(w.cluster, "home"); len(list) != 1 || list[0].Level != "critical" || !strings.Contains(list[0].Text, "10 days ahead: that of a node that led was wrong") || !strings.Contains(list[0].Hint, "member set-clock") {
		t.Errorf("%+v", list)
	}
	w.own.Store(int64(10 * 24 * time.Hour)) // most clocks were set back, and this node's is right
	if list := Clock(w.cluster, "home"); len(list) != 1 || !strings.Contains(list[0].Text, "10 days ahead: it agrees with this node's own") {
		t.Errorf("%+v", list)
	}
	w.own.Store(0)
	if age := w.cluster.LedgerAge(); age > time.Minute { // it leads
		t.Errorf("the ledger was heard of %v ago", age)
	}
	if err := w.call(http.MethodPut, "/clock", nil, nil); err != nil {
		t.Fatal(err)
	}
	if list := Clock(w.cluster, "home"); len(list) != 0 {
		t.Errorf("%+v", list)
	}
	if err := invite(); err != nil {
		t.Error(err)
	}
}

// In a cluster that has not come to the level, people are told what it waits for.
func TestSetClockTooEarly(t *testing.T) {
	w := newWorld(t)
	err := tooOld(t.Context(), w.cluster, ledger.Level+1) // as of a version after this one
	var hint interface{ Hint() string }
	if !errors.As(err, &hint) || !strings.Contains(err.Error(), "10 to 12 minutes after") || !strings.Contains(hint.Hint(), "again 12 minutes later") {
		t.Errorf("alone: %v", err)
	}
}
