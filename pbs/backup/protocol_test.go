package backup_test

import (
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/holdfast-mesh/holdfast/catalog"
	"github.com/holdfast-mesh/holdfast/pbs/backup"
	"github.com/holdfast-mesh/holdfast/pbs/upgrade"
)

// What a client may not do within a session. The script goes well up to its
// last line, which is refused; the session goes on after that.
func TestRefusedRequests(t *testing.T) {
	const (
		dyn   = "POST /dynamic_index?archive-name=root.pxar.didx"
		fix   = "POST /fixed_index?archive-name=disk.img.fidx&size=8389608"
		inDyn = `PUT /dynamic_index {"wid":1,"digest-list":["{A}"],"offset-list":[0]}`
	)
	s := newSite(t)
	s.backUp("vm/100", 1000)
	c := s.connect("vm/100", 2000, "")
	defer c.Close()
	for _, tt := range []struct {
		name   string
		script []string // %d is the number of the index that the first line made
		want   string
	}{
		{"an unknown path", []string{"GET /nope/x"}, "404 Path '/nope/x' not found."},
		{"a method that a path does not have", []string{"POST /previous"}, "404 Path '/previous' not found."},
		{"a parameter that is missing", []string{"POST /dynamic_index"}, "400 parameter verification failed - 'archive-name': parameter is missing and it is not optional."},
		{"two parameters that are missing", []string{"POST /blob"}, "400 parameter verification failed:\n- 'file-name': parameter is missing and it is not optional.\n- 'encoded-size'"},
		{"an index number below the first", []string{"fixed 0 A"}, "400 parameter verification failed - 'wid': value must have a minimum value of 1 (got 0)"},
		{"an index number above the last", []string{"fixed 257 A"}, "400 parameter verification failed - 'wid': value must have a maximum value of 256 (got 257)"},
		{"JSON that is none", []string{`PUT /dynamic_index {"wid":`}, "400 parse the parameters"},
		{"a name that leaves the directory", []string{"POST /dynamic_index?archive-name=../x.didx"}, "400 parameter verification failed - 'archive-name'"},
		{"a dynamic index with the name of a fixed one", []string{"POST /dynamic_index?archive-name=x.fidx"}, "400 wrong archive extension"},
		{"a fixed index with the name of a dynamic one", []string{"POST /fixed_index?archive-name=x.didx&size=1"}, "400 wrong archive extension"},
		{"a blob with the name of an index", []string{"POST /blob?file-name=x.didx&encoded-size={A.e} <A"}, "400 wrong blob file extension"},
		{"two indexes of one name", []string{dyn, dyn}, "400 index root.pxar.didx exists already"},
		{"an image that is absurdly large", []string{"POST /fixed_index?archive-name=x.fidx&size=9223372036854775807"}, "400 new fixed index"},

		{"a chunk for an index that was not made", []string{"fixed 99 Y"}, "400 fixed writer '99' not registered"},
		{"a chunk for an index of another kind", []string{dyn, "fixed %d Y"}, "400 fixed writer '%d' not registered"},
		{"a chunk shorter than announced", []string{dyn, "POST /dynamic_chunk?wid=%d&digest={A}&size=100&encoded-size=113 <A"}, "400 uploaded chunk has unexpected size."},
		{"a chunk longer than announced", []string{dyn, "POST /dynamic_chunk?wid=%d&digest={A}&size=100&encoded-size=111 <A"}, "400 uploaded chunk is larger than announced."},
		{"a chunk with another digest", []string{dyn, "POST /dynamic_chunk?wid=%d&digest={B}&size=100&encoded-size=112 <A"}, "400 detected chunk with wrong digest."},
		{"a compressed chunk with another digest", []string{fix, "POST /fixed_chunk?wid=%d&digest={B}&size=1000&encoded-size={S.e} <S"}, "400 detected chunk with wrong digest."},
		{"a chunk with another size", []string{dyn, "POST /dynamic_chunk?wid=%d&digest={A}&size=99&encoded-size=112 <A"}, "400 detected chunk with wrong length (99 != 100)"},
		{"a compressed chunk with another size", []string{fix, "POST /fixed_chunk?wid=%d&digest={S}&size=999&encoded-size={S.e} <S"}, "400 detected chunk with wrong length (999 != 1000)"},
		{"an encrypted chunk with another size", []string{dyn, "POST /dynamic_chunk?wid=%d&digest={E}&size=7&encoded-size={E.e} <E"}, "400 detected chunk with wrong length (7 != 6)"},
		{"a chunk that is none", []string{dyn, `POST /dynamic_chunk?wid=%d&digest={A}&size=100&encoded-size=25 {"is":"no blob at all"}  `}, "400 "},
		{"a chunk that is too long for an image", []string{fix, "fixed %d L"}, "400 fixed writer 'disk.img.fidx' upload chunk failed - got large chunk (4194305 > 4194304)"},
		{"two short chunks of one image", []string{fix, "fixed %d S", "fixed %d T"}, "400 fixed writer 'disk.img.fidx' upload chunk failed - detected multiple end chunks"},
		{"one short chunk of an image twice", []string{fix, "fixed %d S", "fixed %d S"}, "detected multiple end chunks"},

		{"a chunk that is stored but was not sent", []string{dyn, `PUT /dynamic_index {"wid":%d,"digest-list":["{Y}"],"offset-list":[0]}`}, "400 no such chunk {Y}"},
		{"an index that was not made", []string{`PUT /dynamic_index {"wid":99,"digest-list":[],"offset-list":[]}`}, "400 dynamic writer '99' not registered"},
		{"more offsets than digests", []string{dyn, `PUT /dynamic_index {"wid":%d,"digest-list":[],"offset-list":[0]}`}, "400 offset list has wrong length (1 != 0)"},
		{"a chunk after a gap", []string{dyn, "dynamic %d B", `PUT /dynamic_index {"wid":%d,"digest-list":["{B}"],"offset-list":[8]}`}, "400 dynamic writer 'root.pxar.didx' append chunk failed - got strange chunk offset (0 != 8)"},
		{"a chunk between two slots", []string{fix, "fixed %d Z", `PUT /fixed_index {"wid":%d,"digest-list":["{Z}"],"offset-list":[512]}`}, "400 fixed writer 'disk.img.fidx' append chunk failed"},
		{"a chunk after the image", []string{fix, "fixed %d Z", `PUT /fixed_index {"wid":%d,"digest-list":["{Z}"],"offset-list":[8388608]}`}, "chunk data exceeds size (12582912 >= 8389608)"},
		{"a chunk far after the image", []string{fix, "fixed %d Z", `PUT /fixed_index {"wid":%d,"digest-list":["{Z}"],"offset-list":[9223372036854775807]}`}, "chunk data exceeds size"},
		{"a chunk before the image", []string{fix, "fixed %d Z", `PUT /fixed_index {"wid":%d,"digest-list":["{Z}"],"offset-list":[-4194304]}`}, "400 fixed writer"},
		{"a short chunk inside an image", []string{fix, "fixed %d S", `PUT /fixed_index {"wid":%d,"digest-list":["{S}"],"offset-list":[0]}`}, "only the last chunk may have less"},

		{"closing what was closed", []string{fix, "POST /fixed_close?wid=99&chunk-count=0&size=0&csum={A}"}, "400 fixed writer '99' not registered"},
		{"closing with another count", []string{dyn, "dynamic %d A", "POST /dynamic_close?wid=%d&chunk-count=1&size=100&csum={@dyn A}"}, "400 dynamic writer 'root.pxar.didx' close failed - received wrong number of chunk (0 != 1)"},
		{"closing an image with gaps", []string{fix, "POST /fixed_close?wid=%d&chunk-count=0&size=8389608&csum={A}"}, "3 of 3 chunks are missing"},
		{"closing an archive without a chunk", []string{dyn, "POST /dynamic_close?wid=%d&chunk-count=0&size=1&csum={A}"}, "'chunk-count': value must have a minimum value of 1"},

		{"building on a checksum that the last image does not have", []string{"POST /fixed_index?archive-name=disk.img.fidx&size=8389608&reuse-csum={A}"}, "400 expected csum ({A}) doesn't match last backup's ({@fix YZS}), cannot do incremental backup"},
		{"building on an image that was not backed up", []string{"POST /fixed_index?archive-name=x.img.fidx&size=8389608&reuse-csum={A}"}, "400 cannot reuse index - no previous backup exists for archive"},
		{"building on an archive", []string{"POST /fixed_index?archive-name=root.pxar.didx&size=8389608&reuse-csum={A}"}, "400 wrong archive extension"},
		{"building on an image with more chunks", []string{"POST /fixed_index?archive-name=disk.img.fidx&size=8388608&reuse-csum={@fix YZS}"}, "400 clone_data_from failed - index sizes not equal"},
		{"building on an image without saying its size", []string{"POST /fixed_index?archive-name=disk.img.fidx&reuse-csum={@fix YZS}"}, "'size': parameter is missing"},

		{"a file that the last backup does not have", []string{"GET /previous?archive-name=nope.blob"}, "404 open file \"store1/vm/100/1970-01-01T00:16:40Z/nope.blob\" failed - not found"},
		{"an index that the last backup does not have", []string{"GET /previous?archive-name=nope.didx"}, "404 open file"},

		{"a blob shorter than announced", []string{"POST /blob?file-name=x.blob&encoded-size=113 <A"}, "400 got blob with unexpected length (113 != 112)"},
		{"a blob longer than announced", []string{"POST /blob?file-name=x.blob&encoded-size=111 <A"}, "400 got blob with unexpected length"},
		{"finishing without any file", []string{"POST /finish"}, "400 backup does not contain valid files (file count == 0)"},
		{"finishing with an open index", []string{dyn, "POST /finish"}, "400 found open index writer - unable to finish backup"},
		{"finishing without a manifest", []string{"POST /blob?file-name=x.conf.blob&encoded-size={A.e} <A", "POST /finish"}, "400 unable to update manifest blob"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := &site{s.Server, t}
			id := "0"
			for i, line := range tt.script {
				line = strings.ReplaceAll(line, "%d", id)
				if i == len(tt.script)-1 {
					status := http.StatusBadRequest
					text := strings.TrimPrefix(expand(strings.ReplaceAll(tt.want, "%d", id)), "400 ")
					if rest, ok := strings.CutPrefix(text, "404 "); ok {
						status, text = http.StatusNotFound, rest
					}
					s.refused(c, line, status, text)
				} else if data := s.ok(c, line); i == 0 {
					id = data
				}
			}
			if id != "0" && id != "" && id != "null" { // close what is open, so that names are free
				run(c, "POST /fixed_close?wid="+id+"&chunk-count=99&size=1&csum={A}")
				run(c, "POST /dynamic_close?wid="+id+"&chunk-count=99&size=1&csum={A}")
			}
		})
	}
	if data := s.ok(c, "GET /previous_backup_time"); data != "1000" {
		t.Errorf("after all this the last backup is %s", data)
	}
}

func TestRefusedUpgrades(t *testing.T) {
	s := newSite(t)
	s.backUp("vm/100", 1000)
	running := s.connect("vm/7", 1000, "")
	defer running.Close()
	for _, tt := range []struct {
		name, target, protocol, who string
		status                      int
		want                        string
	}{
		{"another protocol", target("vm/100", 2000, ""), upgrade.Reader, owner, 400, "invalid protocol name"},
		{"a namespace that there is not", target("vm/100", 2000, "&ns=a/b"), upgrade.Backup, owner, 404, "namespace not found"},
		{"the same time again", target("vm/100", 1000, ""), upgrade.Backup, owner, 400, "backup timestamp is older than last backup."},
		{"an older time", target("vm/100", 999, ""), upgrade.Backup, owner, 400, "backup timestamp is older than last backup."},
		{"a second backup of a group", target("vm/7", 2000, ""), upgrade.Backup, owner, 400, "another backup is already running"},
		{"somebody else's group", target("vm/100", 2000, ""), upgrade.Backup, "bob@pbs", 400, "backup owner check failed (bob@pbs != alice@pbs)"},
		{"a token in its user's group", target("vm/100", 2000, ""), upgrade.Backup, "alice@pbs!tok", 400, "backup owner check failed (alice@pbs!tok != alice@pbs)"},
		{"the benchmark's group without a benchmark", target("host/benchmark", 2000, ""), upgrade.Backup, owner, 400, "unable to run benchmark without --benchmark flags"},
		{"a benchmark of another group", target("vm/100", 2000, "&benchmark=true"), upgrade.Backup, owner, 400, "benchmark"},
		{"no time", "/api2/json/backup?store=store1&backup-type=vm&backup-id=1", upgrade.Backup, owner, 400, "parameter verification failed - 'backup-time': parameter is missing and it is not optional."},
		{"a type that there is not", target("qemu/1", 1, ""), upgrade.Backup, owner, 400, "parameter verification failed - 'backup-type'"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c, a := s.Connect(t, tt.target, tt.protocol, tt.who)
			if c != nil || a.Status != tt.status || !strings.Contains(string(a.Body), tt.want) {
				t.Errorf("%d %s, want %d %s", a.Status, a.Body, tt.status, tt.want)
			}
		})
	}
	if err := s.Datastore.SetSettings(catalog.Settings{Maintenance: catalog.Maintenance{Mode: catalog.ReadOnly, Message: "new disk"}}); err != nil {
		t.Fatal(err)
	}
	if c, a := s.Connect(t, target("vm/100", 3000, ""), upgrade.Backup, owner); c != nil || string(a.Body) != "datastore 'store1' is in read-only maintenance mode: new disk" {
		t.Errorf("during maintenance: %d %s", a.Status, a.Body)
	}
}

// A user may back up for a token of the user's, not the other way round.
func TestUserWritesForOwnToken(t *testing.T) {
	s := newSite(t)
	const tok = "alice@pbs!tok"
	c, a := s.Connect(t, target("vm/1", 1000, ""), upgrade.Backup, tok)
	if c == nil {
		t.Fatalf("%d %s", a.Status, a.Body)
	}
	c.Close()
	s.Wait()
	c = s.connect("vm/1", 2000, "")
	c.Close()
	s.Wait()
	if who, err := s.Datastore.Owner("", snapshot("vm/1", 1).Group); who != tok || err != nil {
		t.Errorf("the group belongs to %s, %v", who, err)
	}
}

func TestBenchmarkLeavesNothing(t *testing.T) {
	s := newSite(t)
	c := s.connect("host/benchmark", 1000, "&benchmark=true")
	for range 3 {
		if a, err := c.Do("POST", "/speedtest", "", make([]byte, 4<<20)); err != nil || a.Data() != "null" {
			t.Fatalf("%d %s, %v", a.Status, a.Body, err)
		}
	}
	c.Close()
	if ended := s.Wait(); ended[0] != nil {
		t.Errorf("the session ended with: %v", ended[0])
	}
	checkSnapshots(t, s, 0)
}

func checkSnapshots(t *testing.T, s *site, want int) {
	t.Helper()
	infos, err := s.Datastore.List(t.Context(), catalog.ListOptions{Depth: -1})
	if err != nil || len(infos) != want {
		t.Errorf("%d snapshots are left, %v; want %d", len(infos), err, want)
	}
}

// However far a backup has come, the client that goes leaves no snapshot, and
// the group can be backed up again at once.
func TestAbortAtEveryRequest(t *testing.T) {
	s := newSite(t)
	script := []string{
		"GET /previous_backup_time",
		"POST /dynamic_index?archive-name=root.pxar.didx", "dynamic 1 A",
		`PUT /dynamic_index {"wid":1,"digest-list":["{A}"],"offset-list":[0]}`,
		"POST /dynamic_close?wid=1&chunk-count=1&size=100&csum={@dyn A}",
		"POST /fixed_index?archive-name=disk.img.fidx&size=1000", "fixed 2 S",
		`PUT /fixed_index {"wid":2,"digest-list":["{S}"],"offset-list":[0]}`,
		"POST /fixed_close?wid=2&chunk-count=1&size=1000&csum={@fix S}",
		"POST /blob?file-name=a.conf.blob&encoded-size={A.e} <A",
		"POST /blob?file-name=index.json.blob&encoded-size={A.e} <A",
	}
	for n := range len(script) + 1 {
		c := s.connect("ct/1", 1000, "")
		s.ok(c, script[:n]...)
		if n%2 == 0 {
			c.Close()
		} else {
			s.Break()
		}
		ended := s.Wait()
		if err := ended[len(ended)-1]; !errors.Is(err, backup.ErrUnfinished) {
			t.Errorf("after %d requests the session ended with: %v", n, err)
		}
		checkSnapshots(t, s, 0)
	}
	if who, err := s.Datastore.Owner("", snapshot("ct/1", 1).Group); who != owner || err != nil {
		t.Errorf("the group belongs to %q, %v", who, err)
	}
	s.backUp("ct/1", 1000)
	checkSnapshots(t, s, 1)
}
