package sync

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"math"
	"slices"
	"strings"

	"github.com/holdfast-mesh/holdfast/access"
	"github.com/holdfast-mesh/holdfast/catalog/naming"
	"github.com/holdfast-mesh/holdfast/jobs"
	"github.com/holdfast-mesh/holdfast/pbs/settings"
	"github.com/holdfast-mesh/holdfast/pbs/traffic"
	"github.com/holdfast-mesh/holdfast/pbs/upgrade"
)

// onChange is the schedule of a job that runs when something is new.
const onChange = "on-change"

// set sets the options that came, and takes back those that are to be deleted.
func set(p *upgrade.Params, j *settings.SyncJob) {
	for _, name := range p.Texts("delete") {
		if !reset(j, name) {
			p.Fail("delete", "value '%s' is not defined in the enumeration.", name)
		}
	}
	setPlaces(p, j)
	for name, to := range flags(j) {
		if p.Has(name) {
			*to = upgrade.Maybe(p, name, p.Bool)
		}
	}
	if p.Has("max-depth") {
		j.MaxDepth = upgrade.Maybe(p, "max-depth", func(name string) int { return int(p.Int(name, 0, naming.MaxDepth)) })
	}
	if p.Has("transfer-last") {
		j.TransferLast = int(p.Int("transfer-last", 1, math.MaxInt32))
	}
	if p.Has("worker-threads") {
		j.WorkerThreads = int(p.Int("worker-threads", 1, settings.MaxWorkers))
	}
	for name, to := range map[string]*string{"rate-in": &j.RateIn, "burst-in": &j.BurstIn, "rate-out": &j.RateOut, "burst-out": &j.BurstOut} {
		if p.Has(name) {
			*to = upgrade.Parsed(p, name, amount)
		}
	}
	if p.Has("group-filter") {
		j.GroupFilter = filters(p)
	}
	if p.Has("schedule") {
		setSchedule(p, j)
	}
	if p.Has("comment") {
		j.Comment = upgrade.Parsed(p, "comment", line)
	}
	if p.Has("disable") {
		j.Disable = p.Bool("disable")
	}
	if p.Has("on-change") {
		j.OnChange = p.Bool("on-change")
	}
	if p.Has("sync-direction") {
		j.SyncDirection = upgrade.Parsed(p, "sync-direction", direction)
	}
	if p.Has("sources") {
		j.Sources = slices.Clone(p.Texts("sources"))
	}
	setKeys(p, j)
	setPace(p, j)
}

// setKeys sets what a job encrypts and decrypts with.
func setKeys(p *upgrade.Params, j *settings.SyncJob) {
	var active *string
	var associated *[]string
	if p.Has("active-encryption-key") {
		name := upgrade.Parsed(p, "active-encryption-key", upgrade.ParseStore)
		active = &name
	}
	if p.Has("associated-key") {
		list := []string{}
		for _, name := range p.Texts("associated-key") {
			if name == "" {
				continue // how a client says that there are none
			}
			if _, err := upgrade.ParseStore(name); err != nil {
				p.Fail("associated-key", "%v", err)
			}
			list = append(list, name)
		}
		associated = &list
	}
	j.SetKeys(active, associated)
}

// setPace sets how fast a job is, at what time.
func setPace(p *upgrade.Params, j *settings.SyncJob) {
	if p.Has("max-delay") {
		j.MaxDelay = upgrade.Parsed(p, "max-delay", func(text string) (string, error) {
			_, err := settings.ParseDelay(text)
			return text, err
		})
	}
	if !p.Has("rate-times") {
		return
	}
	j.RateTimes = nil
	for _, text := range p.Texts("rate-times") {
		if text == "" {
			continue // how a client says that there are none
		}
		if _, _, err := traffic.ParseTimed(text); err != nil {
			p.Fail("rate-times", "%v", err)
		}
		j.RateTimes = append(j.RateTimes, text)
	}
}

// setPlaces sets from where a job copies, to where, and whose the copies are.
func setPlaces(p *upgrade.Params, j *settings.SyncJob) {
	if p.Has("store") {
		j.Store = p.Store()
	}
	if p.Has("remote-store") {
		j.RemoteStore = upgrade.Parsed(p, "remote-store", upgrade.ParseStore)
	}
	if p.Has("ns") {
		j.NS = p.Namespace()
	}
	if p.Has("remote-ns") {
		j.RemoteNS = upgrade.Parsed(p, "remote-ns", naming.ParseNamespace)
	}
	if p.Has("remote") {
		j.Remote = upgrade.Parsed(p, "remote", line)
	}
	if p.Has("owner") {
		j.Owner = upgrade.Parsed(p, "owner", func(text string) (string, error) {
			id, err := access.ParseAuthID(text)
			return string(id), err
		})
	}
}

// flags are the options that are on or off.
func flags(j *settings.SyncJob) map[string]**bool {
	return map[string]**bool{
		"remove-vanished": &j.RemoveVanished, "verified-only": &j.VerifiedOnly, "encrypted-only": &j.EncryptedOnly,
		"resync-corrupt": &j.ResyncCorrupt, "run-on-mount": &j.RunOnMount, "unmount-on-done": &j.UnmountOnDone,
	}
}

// reset gives an option its default, and reports whether there is one of that
// name that has one.
func reset(j *settings.SyncJob, name string) bool {
	if flag := flags(j)[name]; flag != nil {
		*flag = nil
		return true
	}
	texts := map[string]*string{
		"remote": &j.Remote, "owner": &j.Owner, "comment": &j.Comment, "rate-in": &j.RateIn, "burst-in": &j.BurstIn, "rate-out": &j.RateOut, "burst-out": &j.BurstOut, "sync-direction": &j.SyncDirection, "max-delay": &j.MaxDelay,
	}
	if text := texts[name]; text != nil {
		*text = ""
		if name == "rate-in" {
			j.BurstIn = "" // which is none without a rate
		}
		if name == "rate-out" {
			j.BurstOut = ""
		}
		return true
	}
	switch name {
	case "active-encryption-key":
		j.SetKeys(new(string), nil)
	case "associated-key":
		j.SetKeys(nil, new([]string))
	case "ns":
		j.NS = ""
	case "remote-ns":
		j.RemoteNS = ""
	case "max-depth":
		j.MaxDepth = nil
	case "group-filter":
		j.GroupFilter = nil
	case "schedule":
		j.Schedule = ""
	case "transfer-last":
		j.TransferLast = 0
	case "worker-threads":
		j.WorkerThreads = 0
	case "disable":
		j.Disable = false
	case onChange:
		j.OnChange = false
	case "sources":
		j.Sources = nil
	case "rate-times":
		j.RateTimes = nil
	default:
		return false
	}
	return true
}

// setSchedule reads a calendar event, or that the job runs when something is
// new at its source.
func setSchedule(p *upgrade.Params, j *settings.SyncJob) {
	if text := p.Text("schedule"); text == onChange {
		j.Schedule, j.OnChange = "", true
		return
	}
	j.Schedule = upgrade.Parsed(p, "schedule", func(text string) (string, error) {
		if text == "" {
			return "", nil
		}
		_, err := jobs.ParseEvent(text)
		return text, err
	})
}

// filters reads the group filters, each of which is checked by itself.
func filters(p *upgrade.Params) []string {
	var list []string
	for _, text := range p.Texts("group-filter") {
		if text == "" {
			continue // how a client says that there are none
		}
		f, err := naming.ParseFilter(text)
		if err != nil {
			p.Fail("group-filter", "%v", err)
			return nil
		}
		list = append(list, f.String())
	}
	return list
}

func direction(text string) (string, error) {
	switch text {
	case "pull", "push":
		return text, nil
	}
	return "", errors.New("value '" + text + "' is not defined in the enumeration.")
}

// amount reads a number of bytes, which stays as it was written.
func amount(text string) (string, error) {
	n, err := traffic.ParseBytes(text)
	if err == nil && n < 1 {
		err = errors.New("value must be at least 1")
	}
	return text, err
}

// line reads a line of text.
func line(text string) (string, error) {
	switch {
	case len([]rune(text)) > 128:
		return "", errors.New("value may only be 128 characters long")
	case strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r == 0x7f }):
		return "", errors.New("value does not match the regex pattern")
	}
	return text, nil
}

// digestParam reads the digest of what the caller wants to change, if it came.
func digestParam(p *upgrade.Params) string {
	if !p.Has("digest") {
		return ""
	}
	return upgrade.Parsed(p, "digest", func(text string) (string, error) {
		if b, err := hex.DecodeString(text); err != nil || len(b) != sha256.Size {
			return "", errors.New("value does not match the regex pattern")
		}
		return text, nil
	})
}
