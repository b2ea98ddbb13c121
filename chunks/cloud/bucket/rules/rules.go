// Package rules reads the lifecycle rules of a bucket: what the provider does to objects
// by itself, and to which.
package rules

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
)

// A Filter says which objects are meant. The zero value means all.
type Filter struct {
	Prefix  string   // whole keys, not those below a bucket's own prefix
	Tags    []string // "key=value", all of them
	Larger  int64    // than so many bytes; -1: of any size
	Smaller int64    // 0: of any size
}

// Any is the filter of all keys that begin so.
func Any(prefix string) Filter { return Filter{Prefix: prefix, Larger: -1} }

// Meets reports whether objects may be meant whose keys begin with one of heads, and
// that have no tags: we give ours none.
func (f Filter) Meets(heads []string) bool { return len(f.Tags) == 0 && f.Near(heads) }

// Near is Meets for objects that may have tags.
func (f Filter) Near(heads []string) bool {
	return slices.ContainsFunc(heads, func(head string) bool { return strings.HasPrefix(head, f.Prefix) || strings.HasPrefix(f.Prefix, head) })
}

// Covers reports whether all objects are meant whose keys begin with head.
func (f Filter) Covers(head string) bool {
	return strings.HasPrefix(head, f.Prefix) && len(f.Tags) == 0 && f.Larger < 0 && f.Smaller == 0
}

// String says which objects are meant beside their prefix: " larger than 5 bytes".
func (f Filter) String() string {
	var text string
	if f.Larger >= 0 {
		text += fmt.Sprintf(" larger than %d bytes", f.Larger)
	}
	if f.Smaller > 0 {
		text += fmt.Sprintf(" smaller than %d bytes", f.Smaller)
	}
	if len(f.Tags) > 0 {
		text += " with the tags " + strings.Join(f.Tags, ", ")
	}
	return text
}

// A Rule is a lifecycle rule. The zero value of a number of days means never.
type Rule struct {
	Filter
	ID         string
	Enabled    bool
	Moves      []Move
	Expires    int       // days until objects are deleted
	ExpiresOn  time.Time // or when
	OldExpires int       // days until replaced and deleted versions go
	OldKept    int       // so many of them stay, however old
	AbortsMPU  int       // days until unfinished uploads go

	raw types.LifecycleRule
}

// A Move takes objects to another storage class.
type Move struct {
	Days  int
	On    time.Time // or when; zero: after Days
	Class string
}

// Of reads a rule.
func Of(r types.LifecycleRule) Rule {
	rule := Rule{ID: aws.ToString(r.ID), Enabled: r.Status == types.ExpirationStatusEnabled, raw: r}
	//lint:ignore SA1019 rules written long ago have it here
	rule.Filter = Any(aws.ToString(r.Prefix))
	if f := r.Filter; f != nil {
		rule.Filter = filter(f.Prefix, f.Tag, nil, f.ObjectSizeGreaterThan, f.ObjectSizeLessThan)
		if a := f.And; a != nil {
			rule.Filter = filter(a.Prefix, nil, a.Tags, a.ObjectSizeGreaterThan, a.ObjectSizeLessThan)
		}
	}
	for _, t := range r.Transitions {
		rule.Moves = append(rule.Moves, Move{Days: int(aws.ToInt32(t.Days)), On: aws.ToTime(t.Date), Class: string(t.StorageClass)})
	}
	slices.SortFunc(rule.Moves, func(a, b Move) int { return a.Days - b.Days })
	if e := r.Expiration; e != nil {
		rule.Expires, rule.ExpiresOn = int(aws.ToInt32(e.Days)), aws.ToTime(e.Date)
	}
	if n := r.NoncurrentVersionExpiration; n != nil {
		rule.OldExpires, rule.OldKept = int(aws.ToInt32(n.NoncurrentDays)), int(aws.ToInt32(n.NewerNoncurrentVersions))
	}
	if a := r.AbortIncompleteMultipartUpload; a != nil {
		rule.AbortsMPU = int(aws.ToInt32(a.DaysAfterInitiation))
	}
	return rule
}

func filter(prefix *string, tag *types.Tag, tags []types.Tag, larger, smaller *int64) Filter {
	f := Filter{Prefix: aws.ToString(prefix), Larger: -1, Smaller: aws.ToInt64(smaller)}
	if larger != nil {
		f.Larger = *larger
	}
	if tag != nil {
		tags = append(tags, *tag)
	}
	for _, t := range tags {
		f.Tags = append(f.Tags, aws.ToString(t.Key)+"="+aws.ToString(t.Value))
	}
	return f
}

// A Tiering is a configuration of intelligent tiering.
type Tiering struct {
	Filter
	ID      string
	Enabled bool
	Tiers   []string
}

// TieringOf reads a configuration of intelligent tiering.
func TieringOf(c types.IntelligentTieringConfiguration) Tiering {
	t := Tiering{Filter: Any(""), ID: aws.ToString(c.Id), Enabled: c.Status == types.IntelligentTieringStatusEnabled}
	if f := c.Filter; f != nil {
		t.Filter = filter(f.Prefix, f.Tag, nil, nil, nil)
		if f.And != nil {
			t.Filter = filter(f.And.Prefix, nil, f.And.Tags, nil, nil)
		}
	}
	for _, tier := range c.Tierings {
		t.Tiers = append(t.Tiers, string(tier.AccessTier))
	}
	return t
}

// Public says who among strangers may do what by an access list: "anybody may READ".
// Those who only read the list itself are left out.
func Public(grants []types.Grant) (list []string) {
	for _, g := range grants {
		if g.Grantee == nil || g.Permission == types.PermissionReadAcp {
			continue
		}
		who := ""
		switch uri := aws.ToString(g.Grantee.URI); uri[strings.LastIndexByte(uri, '/')+1:] {
		case "AllUsers":
			who = "anybody"
		case "AuthenticatedUsers":
			who = "every customer of the provider"
		default:
			continue
		}
		if text := fmt.Sprintf("%s may %s", who, g.Permission); !slices.Contains(list, text) {
			list = append(list, text)
		}
	}
	return list
}

// A Change of the rules of a bucket makes them harmless to keys that begin with one of
// heads, and leaves all others as they are.
type Change struct {
	JSON string   // the configuration, as the provider's command wants it
	Took []string // what was taken out of which rule
}

// Own is what the rules that are added do.
type Own struct {
	Aborts     []string // ends unfinished uploads of keys that begin so
	OldExpires bool     // removes old versions of heads
}

// Harmless is the change of all that moves or deletes objects of heads.
func Harmless(all []Rule, heads []string, own Own) (c Change, err error) {
	kept, taken := []map[string]any{}, map[string]bool{}
	for _, r := range all {
		m, err := plain(r.raw)
		if err != nil {
			return c, err
		}
		if did := r.strip(m, heads, own.OldExpires); did != "" {
			c.Took = append(c.Took, did)
		}
		if idle(m) {
			continue
		}
		taken[r.ID] = true
		kept = append(kept, m)
	}
	add := func(prefix, action string, days map[string]int) {
		id := "holdfast " + prefix
		for taken[id] {
			id += "+"
		}
		taken[id] = true
		kept = append(kept, map[string]any{"ID": id, "Status": "Enabled", "Filter": map[string]string{"Prefix": prefix}, action: days})
	}
	for _, prefix := range own.Aborts {
		add(prefix, "AbortIncompleteMultipartUpload", map[string]int{"DaysAfterInitiation": 2})
	}
	if own.OldExpires {
		for _, prefix := range heads {
			add(prefix, "NoncurrentVersionExpiration", map[string]int{"NoncurrentDays": 7})
		}
	}
	body, err := json.Marshal(map[string]any{"Rules": kept})
	c.JSON = string(body)
	return c, err
}

// strip takes out of a rule what harms objects of heads, and says what.
func (r Rule) strip(m map[string]any, heads []string, old bool) string {
	if !r.Enabled || !r.Meets(heads) {
		return ""
	}
	var out []string
	if len(r.Moves) > 0 {
		delete(m, "Transitions")
		out = append(out, "Transitions")
	}
	if r.Expires > 0 || !r.ExpiresOn.IsZero() {
		delete(m, "Expiration")
		out = append(out, "Expiration")
	}
	if old && r.OldExpires > 0 {
		delete(m, "NoncurrentVersionExpiration") // ours is shorter
		out = append(out, "NoncurrentVersionExpiration")
	}
	if len(out) == 0 {
		return ""
	}
	return fmt.Sprintf("%s of rule %q (prefix %q)", strings.Join(out, " and "), r.ID, r.Prefix)
}

// idle reports whether a rule does nothing any more.
func idle(m map[string]any) bool {
	for _, action := range []string{"Transitions", "Expiration", "NoncurrentVersionExpiration", "NoncurrentVersionTransitions", "AbortIncompleteMultipartUpload"} {
		if m[action] != nil {
			return false
		}
	}
	return true
}

// plain is a rule as JSON, without what is not set.
func plain(r types.LifecycleRule) (m map[string]any, err error) {
	body, err := json.Marshal(r)
	if err == nil {
		err = json.Unmarshal(body, &m)
	}
	clean(m)
	return m, err
}

func clean(m map[string]any) {
	for key, v := range m {
		switch v := v.(type) {
		case nil:
			delete(m, key)
		case map[string]any:
			clean(v)
		case []any:
			if len(v) == 0 {
				delete(m, key)
			}
			for _, one := range v {
				if inner, is := one.(map[string]any); is {
					clean(inner)
				}
			}
		case string:
			if v == "" && key != "Prefix" && key != "Value" {
				delete(m, key)
			}
		}
	}
}
