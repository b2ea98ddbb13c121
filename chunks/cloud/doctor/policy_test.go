package doctor

import (
	"encoding/json"
	"net/http"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/holdfast-mesh/holdfast/chunks/cloud/bucket"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/cloudtest"
)

const (
	versioned = `<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>`
	unblocked = `<PublicAccessBlockConfiguration><BlockPublicAcls>false</BlockPublicAcls><IgnorePublicAcls>false</IgnorePublicAcls><BlockPublicPolicy>false</BlockPublicPolicy><RestrictPublicBuckets>false</RestrictPublicBuckets></PublicAccessBlockConfiguration>`
	aborts    = `<AbortIncompleteMultipartUpload><DaysAfterInitiation>7</DaysAfterInitiation></AbortIncompleteMultipartUpload>`
	oldGo     = `<NoncurrentVersionExpiration><NoncurrentDays>1</NoncurrentDays></NoncurrentVersionExpiration>`
	expires   = `<Expiration><Days>30</Days></Expiration>`
	upload    = `<ListMultipartUploadsResult><Bucket>backups</Bucket><Upload><Key>hf1/k</Key><UploadId>1</UploadId><Initiated>2026-01-02T03:04:05.000Z</Initiated></Upload></ListMultipartUploadsResult>`
)

func about(id, filter, actions string) string {
	return "<Rule><ID>" + id + "</ID><Status>Enabled</Status><Filter>" + filter + "</Filter>" + actions + "</Rule>"
}

func prefixed(prefix string) string { return "<Prefix>" + prefix + "</Prefix>" }

func acl(uri, permission string) string {
	return `<AccessControlPolicy><Owner><ID>a</ID></Owner><AccessControlList>` +
		`<Grant><Grantee xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xsi:type="CanonicalUser"><ID>a</ID></Grantee><Permission>FULL_CONTROL</Permission></Grant>` +
		`<Grant><Grantee xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xsi:type="Group"><URI>http://acs.amazonaws.com/groups/global/` + uri + `</URI></Grantee><Permission>` + permission + `</Permission></Grant></AccessControlList></AccessControlPolicy>`
}

// In a bucket that others use too, rules about their keys blocked a datastore, and rules
// about their keys, or some of ours, were taken for rules about all of ours; an access
// list that lets anybody in was not looked at.
func TestWhoseRules(t *testing.T) {
	home := func(c *bucket.Config) { c.Prefix = "home/" }
	rules := func(all ...string) string {
		return "<LifecycleConfiguration>" + strings.Join(all, "") + "</LifecycleConfiguration>"
	}
	tag := "<Tag><Key>a</Key><Value>b</Value></Tag>"
	for _, tt := range []struct {
		name, check, text string // text of the finding; "": passes
		want              Severity
		s                 scene
	}{
		{"others' objects", "lifecycle", "", 0, scene{replies: map[string]string{"lifecycle": rules(about("l", prefixed("logs/"), move(14, "GLACIER")+expires))}}},
		{"others' objects, with a like name", "lifecycle", "", 0, scene{replies: map[string]string{"lifecycle": rules(about("l", prefixed("hf10/"), expires))}}},
		{"what is left of trials", "lifecycle", "", 0, scene{replies: map[string]string{"lifecycle": rules(about("l", prefixed("probe/"), expires))}}},
		{"a part of ours", "lifecycle", "deletes objects", Critical, scene{replies: map[string]string{"lifecycle": rules(about("l", prefixed("hf1/5f/"), expires))}}},
		{"the beginning of ours", "lifecycle", "deletes objects", Critical, scene{replies: map[string]string{"lifecycle": rules(about("l", prefixed("h"), expires))}}},
		{"others' below the same prefix", "lifecycle", "", 0, scene{bucket: home, replies: map[string]string{"lifecycle": rules(about("l", prefixed("home/logs/"), expires))}}},
		{"with a tag", "lifecycle", "with the tags a=b", Note, scene{replies: map[string]string{"lifecycle": rules(about("l", tag, move(14, "GLACIER")))}}},
		{"of a size", "lifecycle", "objects larger than 1000 bytes to GLACIER", Critical, scene{replies: map[string]string{"lifecycle": rules(about("l", "<And><Prefix>hf1/</Prefix><ObjectSizeGreaterThan>1000</ObjectSizeGreaterThan></And>", move(14, "GLACIER")))}}},
		{"uploads of others end", "lifecycle", "no rule ends uploads", Note, scene{replies: map[string]string{"uploads": upload, "lifecycle": rules(about("l", prefixed("logs/"), aborts))}}},
		{"uploads of ours end", "lifecycle", "", 0, scene{replies: map[string]string{"uploads": upload, "lifecycle": rules(about("a", prefixed("hf1/"), aborts), about("b", prefixed("probe/"), aborts))}}},

		{"versions of others go", "versioning", "no rule ever removes", Warning, scene{replies: map[string]string{"versioning": versioned, "lifecycle": rules(about("l", prefixed("logs/"), oldGo))}}},
		{"versions of some go", "versioning", "a part of our objects only", Warning, scene{bucket: home, replies: map[string]string{"versioning": versioned, "lifecycle": rules(about("l", prefixed("home/hf1/zzz/"), oldGo))}}},
		{"versions of tagged ones go", "versioning", "with the tags a=b", Warning, scene{replies: map[string]string{"versioning": versioned, "lifecycle": rules(about("l", tag, oldGo))}}},
		{"a hundred versions stay", "versioning", "leaves the newest 100", Warning, scene{replies: map[string]string{"versioning": versioned, "lifecycle": rules(about("l", prefixed(""), `<NoncurrentVersionExpiration><NewerNoncurrentVersions>100</NewerNoncurrentVersions><NoncurrentDays>1</NoncurrentDays></NoncurrentVersionExpiration>`))}}},
		{"for ten years", "versioning", "only after 3650 days", Warning, scene{replies: map[string]string{"versioning": versioned, "lifecycle": rules(about("l", prefixed(""), strings.ReplaceAll(oldGo, ">1<", ">3650<")))}}},
		{"two rules for all of ours", "versioning", "", 0, scene{replies: map[string]string{"versioning": versioned, "lifecycle": rules(about("a", prefixed("hf"), oldGo), about("b", prefixed("pro"), oldGo))}}},

		{"anybody may list", "public", "anybody may READ", Critical, scene{replies: map[string]string{"acl": acl("AllUsers", "READ"), "publicAccessBlock": unblocked}}},
		{"all customers may write", "public", "every customer of the provider may WRITE", Critical, scene{replies: map[string]string{"acl": acl("AuthenticatedUsers", "WRITE")}, codes: map[string]string{"publicAccessBlock": "NoSuchPublicAccessBlockConfiguration"}}},
		{"the list is not heeded", "public", "", 0, scene{replies: map[string]string{"acl": acl("AllUsers", "READ")}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r, _ := examine(t, tt.s)
			i := slices.IndexFunc(r.Findings, func(f Finding) bool { return f.Check == tt.check })
			switch {
			case tt.text == "" && !slices.Contains(r.Passed, tt.check):
				t.Errorf("%s does not pass: %+v, %+v", tt.check, r.Findings, r.Skipped)
			case tt.text == "":
			case i < 0 || !strings.Contains(r.Findings[i].Text, tt.text) || r.Findings[i].Severity != tt.want:
				t.Errorf("%s, want %s %q: %+v", tt.check, tt.want, tt.text, r.Findings)
			}
		})
	}
	r, _ := examine(t, scene{codes: map[string]string{"publicAccessBlock": "NoSuchPublicAccessBlockConfiguration"}}) // the list may not be read
	if slices.Contains(r.Passed, "public") {
		t.Errorf("nobody has seen the access list, and it passes: %+v", r)
	}
}

// Of the configurations of intelligent tiering only the first page was read.
func TestManyTierings(t *testing.T) {
	page := func(inner string) string {
		return "<ListBucketIntelligentTieringConfigurationsOutput>" + inner + "</ListBucketIntelligentTieringConfigurationsOutput>"
	}
	one := func(id, filter string) string {
		return `<IntelligentTieringConfiguration><Id>` + id + `</Id><Status>Enabled</Status><Filter>` + filter + `</Filter><Tiering><AccessTier>DEEP_ARCHIVE_ACCESS</AccessTier><Days>180</Days></Tiering></IntelligentTieringConfiguration>`
	}
	r, _ := examine(t, scene{fault: func(q cloudtest.Request) *cloudtest.Fault {
		switch v := q.HTTP.URL.Query(); {
		case !v.Has("intelligent-tiering") || q.HTTP.Method != http.MethodGet:
			return nil
		case v.Get("continuation-token") == "more":
			return &cloudtest.Fault{Reply: page(one("second", "") + "<IsTruncated>false</IsTruncated>")}
		default:
			return &cloudtest.Fault{Reply: page(one("others", prefixed("logs/")) + "<IsTruncated>true</IsTruncated><NextContinuationToken>more</NextContinuationToken>")}
		}
	}})
	i := slices.IndexFunc(r.Findings, func(f Finding) bool { return f.Check == "tiering" })
	if i < 0 || r.Findings[i].Severity != Critical || !strings.Contains(r.Findings[i].Cure, "--id second") || strings.Contains(r.Findings[i].Cure, "others") {
		t.Errorf("%+v", r.Findings)
	}
}

// The cure of a rule replaced all rules of the bucket by one, with a warning behind it
// that no shell can read. What it puts there keeps the rules of others, and is right for
// the doctor himself.
func TestCureIsACommand(t *testing.T) {
	before := "<LifecycleConfiguration>" +
		about("it's; rm -rf x", prefixed("photos/"), move(30, "GLACIER")) +
		about("mine", prefixed(""), move(14, "GLACIER")+oldGo+aborts) +
		about("short", prefixed("hf1/"), expires) + "</LifecycleConfiguration>"
	r, _ := examine(t, scene{replies: map[string]string{"lifecycle": before, "versioning": versioned}})
	i := slices.IndexFunc(r.Findings, func(f Finding) bool { return f.Check == "lifecycle" })
	if i < 0 {
		t.Fatalf("%+v", r)
	}
	out, err := exec.CommandContext(t.Context(), "sh", "-c", `aws() { for a; do printf '%s\0' "$a"; done; }; `+r.Findings[i].Cure).Output()
	if err != nil {
		t.Fatalf("%s: %v", r.Findings[i].Cure, err)
	}
	args := strings.Split(strings.TrimSuffix(string(out), "\x00"), "\x00")
	at := slices.Index(args, "--lifecycle-configuration")
	if at < 0 || args[1] != "put-bucket-lifecycle-configuration" || !slices.Contains(args, "--endpoint-url") || at+2 != len(args) && args[at+2] != "--endpoint-url" {
		t.Fatalf("%q", args)
	}
	var after struct {
		Rules []struct {
			ID          string
			Transitions []struct{ StorageClass string }
			Expiration  *struct{ Days int }

			NoncurrentVersionExpiration    *struct{ NoncurrentDays int }
			AbortIncompleteMultipartUpload *struct{ DaysAfterInitiation int }
		}
	}
	if err := json.Unmarshal([]byte(args[at+1]), &after); err != nil {
		t.Fatalf("%s: %v", args[at+1], err)
	}
	if len(after.Rules) != 2 || after.Rules[0].ID != "it's; rm -rf x" || after.Rules[0].Transitions[0].StorageClass != "GLACIER" ||
		after.Rules[1].ID != "mine" || len(after.Rules[1].Transitions) != 0 || after.Rules[1].NoncurrentVersionExpiration.NoncurrentDays != 1 || after.Rules[1].AbortIncompleteMultipartUpload == nil {
		t.Errorf("%s", args[at+1])
	}
	for _, rule := range []string{`"mine"`, `"short"`} {
		if !strings.Contains(r.Findings[i].Cure, rule) {
			t.Errorf("nothing says that rule %s changes: %s", rule, r.Findings[i].Cure)
		}
	}

	// In a bucket with versions and no rules at all, one command cures both.
	r, _ = examine(t, scene{replies: map[string]string{"versioning": versioned}, codes: map[string]string{"lifecycle": "NoSuchLifecycleConfiguration"}})
	for _, f := range r.Findings {
		if (f.Check == "lifecycle" || f.Check == "versioning") && (!strings.Contains(f.Cure, "NoncurrentVersionExpiration") || !strings.Contains(f.Cure, "AbortIncompleteMultipartUpload") || !strings.Contains(f.Cure, `"Prefix":"hf1/"`)) {
			t.Errorf("%s: %s", f.Check, f.Cure)
		}
	}
}

// A page with status 200 for whatever is asked was taken for a store whose key lacks
// rights.
func TestNoStoreAtAll(t *testing.T) {
	r, _ := examine(t, scene{fault: func(cloudtest.Request) *cloudtest.Fault {
		return &cloudtest.Fault{Reply: "<html><body>Log in</body></html>"}
	}})
	if f := r.Findings[0]; f.Check != "endpoint" || f.Severity != Critical || !strings.Contains(f.Text, "no S3 store") || !strings.Contains(f.Cure, "--endpoint") {
		t.Errorf("%+v", r.Findings)
	}
	if slices.ContainsFunc(r.Findings, func(f Finding) bool { return f.Check == "keys" }) {
		t.Errorf("the key is blamed: %+v", r.Findings)
	}
}
