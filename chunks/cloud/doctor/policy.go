package doctor

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/holdfast-mesh/holdfast/chunks/cloud/bucket"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/bucket/rules"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/layout"
)

// unreadable are the classes whose objects cannot be read until they have been
// restored, which takes hours. Instant retrieval is not one of them.
var unreadable = []string{"GLACIER", "DEEP_ARCHIVE"}

// readable are the classes of which it is known that they can be read at once.
var readable = []string{"STANDARD", "STANDARD_IA", "ONEZONE_IA", "INTELLIGENT_TIERING", "REDUCED_REDUNDANCY", "GLACIER_IR", "EXPRESS_ONEZONE"}

// heads are what the keys of stores begin with.
func (x *exam) heads() []string { return []string{x.prefix + layout.Root} }

// all are what all our keys begin with: what we try the bucket with is removed at once,
// and nothing that a rule does to it harms.
func (x *exam) all() []string { return append(x.heads(), x.prefix+"probe/") }

// safeRules is the command after which the rules do no harm: those of others stay.
func (x *exam) safeRules() string {
	own := rules.Own{OldExpires: x.policy.Versioning != "" && !x.oldGo()}
	if !x.aborts() {
		own.Aborts = x.all()
	}
	if slices.ContainsFunc(x.policy.Uploads, func(u bucket.Upload) bool { return !rules.Any(u.Key).Meets(x.all()) }) {
		own.Aborts = []string{x.prefix} // others begin uploads, and do not end them
	}
	c, err := rules.Harmless(x.policy.Rules, x.all(), own)
	switch {
	case err != nil:
		return "look at the rules: " + x.aws("get-bucket-lifecycle-configuration")
	case c.JSON == `{"Rules":[]}`:
		return x.aws("delete-bucket-lifecycle") + comment(c.Took)
	}
	return x.aws("put-bucket-lifecycle-configuration", "--lifecycle-configuration", c.JSON) + comment(c.Took)
}

// comment says behind a command what it takes away.
func comment(took []string) string {
	if len(took) == 0 {
		return ""
	}
	return " # takes out " + strings.Join(took, "; ") + "; all other rules stay. Make what is taken out again for the prefixes that it is needed for"
}

// aws is a command about the bucket that can be pasted into a shell.
func (x *exam) aws(args ...string) string {
	list := append([]string{"aws", "s3api", args[0], "--bucket", x.name}, args[1:]...)
	if host, _, _ := strings.Cut(x.endpoint, ":"); !strings.HasSuffix(host, "amazonaws.com") {
		list = append(list, "--endpoint-url", strings.Replace(x.b.URL(), "//"+x.name+".", "//", 1))
	}
	for i, arg := range list {
		if strings.Trim(arg, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._:/=,") != "" || arg == "" {
			list[i] = "'" + strings.ReplaceAll(arg, "'", `'\''`) + "'"
		}
	}
	return strings.Join(list, " ")
}

// covered reports whether for each of our keys there is a rule that is good.
func (x *exam) covered(good func(rules.Rule) bool) bool {
	for _, head := range x.all() {
		if !slices.ContainsFunc(x.policy.Rules, func(r rules.Rule) bool { return r.Enabled && r.Covers(head) && good(r) }) {
			return false
		}
	}
	return true
}

// aborts reports whether unfinished uploads end.
func (x *exam) aborts() bool { return x.covered(func(r rules.Rule) bool { return r.AbortsMPU > 0 }) }

// lifecycle looks for rules that move or delete what is ours.
func lifecycle(_ context.Context, x *exam) {
	if !x.asked("rules", "s3:GetLifecycleConfiguration") {
		return
	}
	for _, r := range x.policy.Rules {
		if !r.Enabled || !r.Near(x.heads()) {
			continue
		}
		if !r.Meets(x.heads()) {
			if len(r.Moves) > 0 || r.Expires > 0 || !r.ExpiresOn.IsZero() {
				x.find(Note, fmt.Sprintf("rule %q moves or deletes objects%s", r.ID, r.Filter), "What we write has no tags, so it is about none of ours, unless somebody tags them.", "")
			}
			continue
		}
		for _, m := range r.Moves {
			x.move(r, m)
		}
		if r.Expires > 0 || !r.ExpiresOn.IsZero() {
			x.find(Critical, fmt.Sprintf("rule %q deletes objects%s %s", r.ID, r.Filter, when(r.Expires, r.ExpiresOn)), "It will delete your backups: packs are needed for as long as any snapshot has a chunk in them.", x.safeRules())
		}
	}
	if (len(x.policy.Uploads) > 0 || len(x.policy.Rules) == 0) && !x.aborts() {
		x.find(Note, "no rule ends uploads that were never finished", "Their parts are billed for ever. We begin none: other programs with the same bucket may.", x.safeRules())
	}
}

// when says after how many days, or on which date.
func when(days int, on time.Time) string {
	if !on.IsZero() {
		return "on " + on.UTC().Format(time.DateOnly)
	}
	return fmt.Sprintf("after %d days", days)
}

func (x *exam) move(r rules.Rule, m rules.Move) {
	what, class := fmt.Sprintf("rule %q moves objects%s to %s %s", r.ID, r.Filter, m.Class, when(m.Days, m.On)), strings.ToUpper(m.Class)
	switch {
	case slices.Contains(unreadable, class):
		x.find(Critical, what, "What is in that class cannot be read until it was restored, for hours and for money: restore, verification and garbage collection fail.", x.safeRules())
	case class == "GLACIER_IR":
		x.find(Warning, what, "It can be read at once, but every read is billed by the gigabyte, and every object for at least 90 days.", x.safeRules())
	case class == "INTELLIGENT_TIERING":
		x.find(Note, what, "The move is billed per object; what is young is small and lies on the local disk anyway.", x.safeRules())
	case !slices.Contains(readable, class):
		x.find(Warning, what, "That class is not known here: whether what is in it can be read at once, and what a read costs, the provider has to tell.", x.safeRules())
	default:
		x.find(Warning, what, "Classes for infrequent access bill every read by the gigabyte, and every object for at least 30 days.", x.safeRules())
	}
}

// tiering looks for the archive tiers of intelligent tiering.
func tiering(_ context.Context, x *exam) {
	if !x.asked("archives", "s3:GetIntelligentTieringConfiguration") {
		return
	}
	var tiers, cures []string
	for _, t := range x.policy.Tierings {
		if !t.Enabled || len(t.Tiers) == 0 || !t.Meets(x.heads()) {
			continue
		}
		for _, tier := range t.Tiers {
			if !slices.Contains(tiers, tier) {
				tiers = append(tiers, tier)
			}
		}
		cures = append(cures, x.aws("delete-bucket-intelligent-tiering-configuration", "--id", t.ID))
	}
	if len(tiers) > 0 {
		x.find(Critical, "intelligent tiering moves objects to "+strings.Join(tiers, " and "),
			"What nobody has read for months cannot be read until it was restored (RestoreObject without days), for hours.", strings.Join(cures, " && "))
	}
}

var errEnough = fmt.Errorf("enough")

// restored marks, in what is counted, archived objects of which there is a copy that can
// be read.
const restored = " (restored)"

// classes counts what lies in which class.
func classes(ctx context.Context, x *exam) {
	count, pages, until := map[string]Class{}, 0, map[string]time.Time{}
	err := x.b.ListRestoring(ctx, "", func(page []bucket.Info) error {
		for _, o := range page {
			name := cmp.Or(o.Class, "STANDARD")
			if o.Restored.After(time.Now()) {
				name += restored
				if at := until[name]; at.IsZero() || o.Restored.Before(at) {
					until[name] = o.Restored
				}
			}
			c := count[name]
			count[name] = Class{c.Objects + 1, c.Bytes + o.Size}
		}
		if pages++; pages == x.Pages && len(page) == 1000 {
			x.report.Partial = true
			return errEnough
		}
		return nil
	})
	if err != nil && !x.report.Partial {
		x.skip(err.Error())
		return
	}
	x.report.Classes = count
	for _, class := range slices.Sorted(maps.Keys(count)) {
		c, at := count[class], ""
		if x.report.Partial {
			at = fmt.Sprintf(" of the first %d", 1000*pages)
		}
		x.class(fmt.Sprintf("%d objects%s (%s) are in %s", c.Objects, at, size(c.Bytes), class), strings.ToUpper(class), until[class])
	}
}

// class judges what lies in a class.
func (x *exam) class(what, class string, until time.Time) {
	switch {
	case !until.IsZero():
		x.find(Warning, what+", with copies that can be read, the first until "+until.UTC().Format(time.DateOnly), "They cannot be read after that.",
			"until then: pull the backups into another datastore, or holdfast datastore thaw NAME --days 30 asks for more time; and remove the rule that moved them")
	case slices.Contains(unreadable, class):
		x.find(Critical, what, "They cannot be read: what needs them cannot be restored, verified or compacted.", "remove the rule that moved them, then: holdfast datastore thaw NAME --dry-run; where no datastore is, aws s3api restore-object --bucket "+x.name+" --key KEY --restore-request Days=14,GlacierJobParameters={Tier=Bulk}")
	case class == "GLACIER_IR":
		x.find(Warning, what, "Reading them is billed by the gigabyte.", "remove the rule that moved them; compaction brings them back in time")
	case !slices.Contains(readable, class):
		x.find(Warning, what, "That class is not known here: whether they can be read at once, and what a read costs, the provider has to tell.", "look it up in the provider's manual; try a restore before you rely on it")
	}
}

// versioning looks for versions that stay for ever.
func versioning(_ context.Context, x *exam) {
	if !x.asked("versioning", "s3:GetBucketVersioning") || x.policy.Versioning != "Enabled" {
		return
	}
	if x.oldGo() {
		return
	}
	what := "the bucket keeps all versions, and no rule ever removes old ones"
	for _, r := range x.policy.Rules {
		switch {
		case !r.Enabled || r.OldExpires == 0 || !r.Near(x.heads()):
		case r.OldKept > 0:
			what = fmt.Sprintf("the bucket keeps all versions, and rule %q leaves the newest %d of each object for ever", r.ID, r.OldKept)
		case r.OldExpires > x.longest():
			what = fmt.Sprintf("the bucket keeps all versions, and rule %q removes old ones only after %d days", r.ID, r.OldExpires)
		default:
			what = fmt.Sprintf("the bucket keeps all versions, and rule %q removes old ones of a part of our objects only (prefix %q%s)", r.ID, r.Prefix, r.Filter)
		}
	}
	x.find(Warning, what, "Packs that were deleted stay, hidden, and are billed.", x.safeRules())
}

// oldGo reports whether old versions are removed.
func (x *exam) oldGo() bool {
	return x.covered(func(r rules.Rule) bool { return r.OldExpires > 0 && r.OldExpires <= x.longest() && r.OldKept == 0 })
}

// longest is for how many days old versions may stay: as a second chance, and for as
// long as they are locked anyway.
func (x *exam) longest() int {
	days := max(90, x.b.Lock().Days)
	if l := x.policy.Lock; l != nil {
		days = max(days, l.Days)
	}
	return days
}

// retained tells of a retention that the bucket gives everything.
func (x *exam) retained(l *bucket.Lock) {
	x.find(Warning, fmt.Sprintf("every new object is locked for %d days (%s)", l.Days, l.Mode),
		fmt.Sprintf("Garbage collection can free nothing that is younger; the owner's object, which is replaced for every lease, leaves a locked version each time. Garbage stays %d days longer than is set up.", max(0, l.Days-int(x.Grace/(24*time.Hour)))),
		"use a bucket without a default retention")
}

// public looks for strangers.
func public(_ context.Context, x *exam) {
	const block = "BlockPublicAcls=true,IgnorePublicAcls=true,BlockPublicPolicy=true,RestrictPublicBuckets=true"
	closed := x.aws("put-public-access-block", "--public-access-block-configuration", block)
	if x.asked("public", "s3:GetBucketPolicyStatus") && x.policy.Public && !x.policy.Blocked {
		x.find(Critical, "the bucket's policy lets anybody in", "Whoever knows its name may read your backups.", closed)
	}
	if !x.policy.IgnoresACL && x.asked("acl", "s3:GetBucketAcl") && len(x.policy.Grants) > 0 {
		cure := x.aws("put-bucket-acl", "--acl", "private")
		if !x.policy.Unknown("blocked") {
			cure += " && " + closed
		}
		x.find(Critical, "the bucket's access list lets strangers in: "+strings.Join(x.policy.Grants, ", "),
			"READ shows them the names of all objects, and WRITE lets them replace and delete your backups.", cure)
	}
	if !x.policy.Encrypted && !x.policy.Unknown("encrypted") && x.Recipients == 0 {
		x.find(Note, "neither the provider nor this node encrypts what is in the bucket", "Backups that the clients did not encrypt can be read by whoever has the provider's disks.", "create datastores in buckets with --encrypt")
	}
}

// rights looks for a key that may do more than backups need. It is not tried whether it
// can delete the bucket: it might.
func rights(_ context.Context, x *exam) {
	err := x.policy.Failed["wide"]
	switch {
	case errors.Is(err, bucket.ErrDenied): // as it should be
	case err != nil:
		x.asked("wide", "nothing")
	case x.policy.Wide:
		x.find(Note, "the key may read the bucket's policy and its access list: it looks like one that may do anything", "Whoever steals it from this machine may delete the bucket, or change its rules.", x.policyCure())
	}
}

// uploads looks for parts of uploads that nobody finished.
func uploads(_ context.Context, x *exam) {
	if !x.asked("uploads", "s3:ListBucketMultipartUploads") || len(x.policy.Uploads) == 0 {
		return
	}
	oldest := slices.MinFunc(x.policy.Uploads, func(a, b bucket.Upload) int { return a.Began.Compare(b.Began) })
	x.find(Note, fmt.Sprintf("%d uploads were begun and never finished, the first on %s", len(x.policy.Uploads), oldest.Began.UTC().Format(time.DateOnly)),
		"Their parts are billed. They are not ours: packs are written with one request.", x.safeRules())
}
