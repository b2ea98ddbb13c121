package doctor

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/holdfast-mesh/holdfast/chunks/cloud/bucket"
)

// unreadable are the classes whose objects cannot be read until they have been
// restored, which takes hours. Instant retrieval is not one of them.
var unreadable = []string{"GLACIER", "DEEP_ARCHIVE"}

// safeRules is a configuration that does no harm.
func (x *exam) safeRules() string {
	old := ""
	if x.policy.Versioning != "" {
		old = `,"NoncurrentVersionExpiration":{"NoncurrentDays":7}`
	}
	return fmt.Sprintf(`aws s3api put-bucket-lifecycle-configuration --bucket %s --lifecycle-configuration '{"Rules":[{"ID":"holdfast","Status":"Enabled","Filter":{"Prefix":"%s"},"AbortIncompleteMultipartUpload":{"DaysAfterInitiation":2}%s}]}' (it replaces all rules: add those about other prefixes)`,
		x.name, x.prefix, old)
}

// lifecycle looks for rules that move or delete what is ours.
func lifecycle(_ context.Context, x *exam) {
	if !x.asked("rules", "s3:GetLifecycleConfiguration") {
		return
	}
	aborts := false
	for _, r := range x.policy.Rules {
		if !x.b.Ours(r) {
			continue
		}
		aborts = aborts || r.AbortsMPU > 0
		for _, m := range r.Moves {
			x.move(r, m)
		}
		if r.Expires > 0 || r.ExpiresOn {
			when := fmt.Sprintf("after %d days", r.Expires)
			if r.ExpiresOn {
				when = "on a date"
			}
			x.find(Critical, fmt.Sprintf("rule %q deletes objects %s", r.ID, when), "It will delete your backups: packs are needed for as long as any snapshot has a chunk in them.", x.safeRules())
		}
	}
	if !aborts && len(x.policy.Uploads) > 0 {
		x.find(Note, "no rule ends uploads that were never finished", "Their parts are billed for ever.", x.safeRules())
	}
}

func (x *exam) move(r bucket.Rule, m bucket.Move) {
	narrow := ""
	if r.Narrow {
		narrow = " that have certain tags or sizes"
	}
	what := fmt.Sprintf("rule %q moves objects%s to %s after %d days", r.ID, narrow, m.Class, m.Days)
	switch {
	case slices.Contains(unreadable, m.Class):
		x.find(Critical, what, "What is in that class cannot be read until it was restored, for hours and for money: restore, verification and garbage collection fail.", x.safeRules())
	case m.Class == "GLACIER_IR":
		x.find(Warning, what, "It can be read at once, but every read is billed by the gigabyte, and every object for at least 90 days.", x.safeRules())
	case m.Class == "INTELLIGENT_TIERING":
		x.find(Note, what, "The move is billed per object; what is young is small and lies on the local disk anyway.", x.safeRules())
	default:
		x.find(Warning, what, "Classes for infrequent access bill every read by the gigabyte, and every object for at least 30 days.", x.safeRules())
	}
}

// tiering looks for the archive tiers of intelligent tiering.
func tiering(_ context.Context, x *exam) {
	if !x.asked("archives", "s3:GetIntelligentTieringConfiguration") || len(x.policy.Archives) == 0 {
		return
	}
	x.find(Critical, "intelligent tiering moves objects to "+strings.Join(x.policy.Archives, " and "),
		"What nobody has read for months cannot be read until it was restored (RestoreObject without days), for hours.",
		"aws s3api list-bucket-intelligent-tiering-configurations --bucket "+x.name+", and for each: aws s3api delete-bucket-intelligent-tiering-configuration --bucket "+x.name+" --id ID")
}

var errEnough = fmt.Errorf("enough")

// classes counts what lies in which class.
func classes(ctx context.Context, x *exam) {
	count, pages := map[string]Class{}, 0
	err := x.b.List(ctx, "", func(page []bucket.Info) error {
		for _, o := range page {
			name := o.Class
			if name == "" {
				name = "STANDARD"
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
		what := fmt.Sprintf("%d objects%s (%s) are in %s", c.Objects, at, size(c.Bytes), class)
		switch {
		case slices.Contains(unreadable, class):
			x.find(Critical, what, "They cannot be read: what needs them cannot be restored, verified or compacted.", "remove the rule that moved them, then: holdfast datastore thaw NAME --dry-run; where no datastore is, aws s3api restore-object --bucket "+x.name+" --key KEY --restore-request Days=14,GlacierJobParameters={Tier=Bulk}")
		case class == "GLACIER_IR":
			x.find(Warning, what, "Reading them is billed by the gigabyte.", "remove the rule that moved them; compaction brings them back in time")
		}
	}
}

// versioning looks for versions that stay for ever.
func versioning(_ context.Context, x *exam) {
	if !x.asked("versioning", "s3:GetBucketVersioning") || x.policy.Versioning != "Enabled" {
		return
	}
	for _, r := range x.policy.Rules {
		if x.b.Ours(r) && r.OldExpires > 0 && !r.Narrow {
			return
		}
	}
	x.find(Warning, "the bucket keeps all versions, and no rule ever removes old ones", "Packs that were deleted stay, hidden, and are billed for ever.", x.safeRules())
}

// retained tells of a retention that the bucket gives everything.
func (x *exam) retained(l *bucket.Lock) {
	x.find(Warning, fmt.Sprintf("every new object is locked for %d days (%s)", l.Days, l.Mode),
		fmt.Sprintf("Garbage collection can free nothing that is younger; the owner's object, which is replaced for every lease, leaves a locked version each time. Garbage stays %d days longer than is set up.", max(0, l.Days-int(x.Grace/(24*time.Hour)))),
		"use a bucket without a default retention")
}

// public looks for strangers.
func public(_ context.Context, x *exam) {
	if !x.asked("public", "s3:GetBucketPolicyStatus") {
		return
	}
	if x.policy.Public && !x.policy.Blocked {
		x.find(Critical, "the bucket's policy lets anybody in", "Whoever knows its name may read your backups.",
			"aws s3api put-public-access-block --bucket "+x.name+" --public-access-block-configuration BlockPublicAcls=true,IgnorePublicAcls=true,BlockPublicPolicy=true,RestrictPublicBuckets=true")
	}
	if !x.policy.Encrypted && !x.policy.Unknown("encrypted") && x.Recipients == 0 {
		x.find(Note, "neither the provider nor this node encrypts what is in the bucket", "Backups that the clients did not encrypt can be read by whoever has the provider's disks.", "create datastores in buckets with --encrypt")
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
