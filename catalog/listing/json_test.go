package listing

import (
	"encoding/json"
	"testing"

	"pgregory.net/rapid"

	"github.com/holdfast-mesh/holdfast/catalog/manifest"
	"github.com/holdfast-mesh/holdfast/catalog/naming"
)

func drawSize(t *rapid.T) *uint64 {
	return rapid.Ptr(rapid.Uint64(), true).Draw(t, "size")
}

func drawInfo(t *rapid.T) *Info {
	text := rapid.OneOf(rapid.StringMatching(`[ -~]{0,8}`), rapid.String(), rapid.Just("a\xffb"))
	i := &Info{
		Namespace: naming.Namespace(text.Draw(t, "ns")), Type: naming.Type(text.Draw(t, "type")), ID: text.Draw(t, "id"),
		Time: rapid.Int64().Draw(t, "time"), Size: drawSize(t), Owner: text.Draw(t, "owner"), Protected: rapid.Bool().Draw(t, "protected"),
		Comment: text.Draw(t, "comment"), Fingerprint: text.Draw(t, "fingerprint"),
	}
	if rapid.Bool().Draw(t, "verified") {
		i.Verification = &manifest.VerifyState{State: text.Draw(t, "state"), UPID: text.Draw(t, "upid")}
	}
	if n := rapid.Uint64().Draw(t, "stats"); n > 0 {
		i.Stats = &manifest.UploadStats{Count: n, Size: n / 2, CompressedSize: n / 3, Duplicates: n / 5}
	}
	for range rapid.IntRange(0, 3).Draw(t, "files") {
		i.Files = append(i.Files, File{text.Draw(t, "name"), manifest.CryptMode(text.Draw(t, "mode")), drawSize(t)})
	}
	if i.Files == nil && rapid.Bool().Draw(t, "empty") {
		i.Files = []File{}
	}
	return i
}

func TestJSONIsThatOfThePackage(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		i := drawInfo(t)
		want, err := json.Marshal(i)
		if err != nil {
			t.Fatal(err)
		}
		if got := i.AppendJSON([]byte("x")); string(got) != "x"+string(want) {
			t.Errorf("got  %s\nwant %s", got[1:], want)
		}
	})
}

// The shape is that of PBS protocol notes §1.6: what is not known is absent.
func TestJSONShape(t *testing.T) {
	finished := &Info{
		Type: naming.VM, ID: "100", Time: 1700000000, Size: ptr(34359738880), Owner: "root@pam!pve", Comment: "first line of notes", Fingerprint: "0e:ab",
		Verification: &manifest.VerifyState{State: "ok", UPID: "UPID:x"},
		Files:        []File{{"drive-scsi0.img.fidx", manifest.None, ptr(34359738368)}, {"index.json.blob", manifest.None, ptr(512)}, {Name: "client.log.blob"}},
	}
	for _, row := range []struct {
		what string
		info *Info
		want string
	}{
		{"a finished snapshot", finished, `{"backup-type":"vm","backup-id":"100","backup-time":1700000000,"size":34359738880,"owner":"root@pam!pve","protected":false,` +
			`"comment":"first line of notes","fingerprint":"0e:ab","verification":{"state":"ok","upid":"UPID:x"},` +
			`"files":[{"filename":"drive-scsi0.img.fidx","crypt-mode":"none","size":34359738368},{"filename":"index.json.blob","crypt-mode":"none","size":512},{"filename":"client.log.blob"}]}`},
		{"one in the making", &Info{Namespace: "a/b", Type: naming.CT, ID: "7", Time: 1, Protected: true, Files: []File{}},
			`{"ns":"a/b","backup-type":"ct","backup-id":"7","backup-time":1,"protected":true,"files":[]}`},
	} {
		if got := row.info.AppendJSON(nil); string(got) != row.want {
			t.Errorf("%s is\n%s\nwant\n%s", row.what, got, row.want)
		}
	}
}
