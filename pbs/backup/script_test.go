package backup_test

import (
	"bytes"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/holdfast-mesh/holdfast/catalog/manifest"
	"github.com/holdfast-mesh/holdfast/catalog/naming"
	"github.com/holdfast-mesh/holdfast/chunks"
	"github.com/holdfast-mesh/holdfast/pbs/pbstest"
	"github.com/holdfast-mesh/holdfast/pbs/upgrade"
)

// A piece is a chunk that the scripts of tests speak of by one letter.
type piece struct {
	digest chunks.Digest
	size   int // of the content
	blob   chunks.Blob
}

var testKey = chunks.NewKey([chunks.KeySize]byte{1})

// pieces are A and B, 100 and 200 bytes; S and T, two short chunks of an
// image; Z and Y, whole ones; L, one that is too long for an image; E, an
// encrypted one; M, the longest there is.
var pieces = map[string]piece{
	"A": newPiece(bytes.Repeat([]byte("A"), 100), chunks.EncodeOptions{}),
	"B": newPiece(bytes.Repeat([]byte("B"), 200), chunks.EncodeOptions{}),
	"S": newPiece(bytes.Repeat([]byte("S"), 1000), chunks.EncodeOptions{Compress: true}),
	"T": newPiece(bytes.Repeat([]byte("T"), 2000), chunks.EncodeOptions{Compress: true}),
	"Z": newPiece(make([]byte, chunks.SlotSize), chunks.EncodeOptions{Compress: true}),
	"Y": newPiece(bytes.Repeat([]byte("Y"), chunks.SlotSize), chunks.EncodeOptions{Compress: true}),
	"L": newPiece(make([]byte, chunks.SlotSize+1), chunks.EncodeOptions{Compress: true}),
	"E": newPiece([]byte("secret"), chunks.EncodeOptions{Key: testKey}),
	"M": newPiece(bytes.Repeat([]byte("max "), 4<<20), chunks.EncodeOptions{}),
}

func newPiece(plain []byte, opt chunks.EncodeOptions) piece {
	b, err := chunks.Encode(nil, plain, opt)
	if err != nil {
		panic(err)
	}
	digest := chunks.Sum(plain)
	if opt.Key != nil {
		digest = opt.Key.Digest(plain)
	}
	return piece{digest, len(plain), b}
}

// expand fills a script in: {A} is the digest of a piece, {A.n} the length of
// its content, {A.e} that of its blob; {@dyn AB} and {@fix ZS} are checksums
// of indexes.
func expand(line string) string {
	for letter, p := range pieces {
		line = strings.NewReplacer("{"+letter+"}", p.digest.String(), "{"+letter+".n}", fmt.Sprint(p.size), "{"+letter+".e}", fmt.Sprint(len(p.blob))).Replace(line)
	}
	for {
		begin := strings.Index(line, "{@")
		if begin < 0 {
			return line
		}
		kind, letters, _ := strings.Cut(line[begin+2:begin+strings.IndexByte(line[begin:], '}')], " ")
		line = line[:begin] + sumOf(kind, letters).String() + line[begin+strings.IndexByte(line[begin:], '}')+1:]
	}
}

// sumOf computes the checksum of an index as §5.3 and §5.4 have it.
func sumOf(kind, letters string) chunks.Digest {
	var body []byte
	end := uint64(0)
	for _, letter := range strings.Split(letters, "") {
		p := pieces[letter]
		if end += uint64(p.size); kind == "dyn" {
			for i := range 8 {
				body = append(body, byte(end>>(8*i)))
			}
		}
		body = append(body, p.digest[:]...)
	}
	return chunks.Sum(body)
}

// run sends one line of a script: "METHOD TARGET", and "<A" for the blob of a
// piece or a JSON object as the body. "A chunk.." is short for an upload.
func run(c *pbstest.Client, line string) (pbstest.Answer, error) {
	if fields := strings.Fields(line); len(fields) == 3 && (fields[0] == "fixed" || fields[0] == "dynamic") {
		line = fmt.Sprintf("POST /%s_chunk?digest={%[3]s}&encoded-size={%[3]s.e}&size={%[3]s.n}&wid=%[2]s <%[3]s", fields[0], fields[1], fields[2])
	}
	request, body, hasBlob := strings.Cut(line, " <")
	kind, content := "", []byte(nil)
	if hasBlob {
		kind, content = "application/octet-stream", pieces[body].blob
	} else if at := strings.Index(request, " {\""); at >= 0 {
		kind, content = "application/json; charset=UTF-8", []byte(expand(request[at+1:]))
		request = request[:at]
	}
	method, target, _ := strings.Cut(expand(request), " ")
	return c.Do(method, target, kind, content)
}

// A site is a server, and whoever backs up there.
type site struct {
	*pbstest.Server
	t *testing.T
}

func newSite(t *testing.T) *site { return &site{pbstest.New(t, pbstest.NewDatastore(t)), t} }

const owner = "alice@pbs"

func target(group string, at int64, more string) string {
	typ, id, _ := strings.Cut(group, "/")
	return fmt.Sprintf("//api2/json/backup?store=%s&backup-type=%s&backup-id=%s&backup-time=%d%s", pbstest.Store, typ, id, at, more)
}

// connect begins a backup, which must be allowed.
func (s *site) connect(group string, at int64, more string) *pbstest.Client {
	s.t.Helper()
	c, a := s.Connect(s.t, target(group, at, more), upgrade.Backup, owner)
	if c == nil {
		s.t.Fatalf("backup of %s at %d: %d %s", group, at, a.Status, a.Body)
	}
	return c
}

// ok runs lines that must succeed, and returns the data of the last answer.
func (s *site) ok(c *pbstest.Client, lines ...string) (data string) {
	s.t.Helper()
	for _, line := range lines {
		a, err := run(c, line)
		if err != nil || a.Status != http.StatusOK {
			s.t.Fatalf("%s: %d %s, %v", line, a.Status, a.Body, err)
		}
		data = a.Data()
	}
	return data
}

// refused runs a line that must fail so.
func (s *site) refused(c *pbstest.Client, line string, status int, text string) {
	s.t.Helper()
	a, err := run(c, line)
	if err != nil || a.Status != status || !strings.Contains(string(a.Body), text) {
		s.t.Errorf("%s: %d %s, %v; want %d %s", line, a.Status, a.Body, err, status, text)
	}
}

// An entry is a file for a manifest.
type entry struct {
	name string
	size int
	csum chunks.Digest
}

// manifestBlob makes the manifest of a snapshot.
func manifestBlob(t *testing.T, snap naming.Snapshot, entries ...entry) chunks.Blob {
	t.Helper()
	m := manifest.New(snap)
	for _, e := range entries {
		if err := m.Add(manifest.File{Name: e.name, Size: uint64(e.size), Csum: e.csum}); err != nil {
			t.Fatal(err)
		}
	}
	b, err := m.Blob()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func snapshot(group string, at int64) naming.Snapshot {
	g, err := naming.ParseGroup(group)
	if err != nil {
		panic(err)
	}
	return naming.Snapshot{Group: g, Time: at}
}

// finish uploads the manifest and finishes the backup.
func (s *site) finish(c *pbstest.Client, snap naming.Snapshot, entries ...entry) {
	s.t.Helper()
	b := manifestBlob(s.t, snap, entries...)
	a, err := c.Do("POST", fmt.Sprintf("/blob?file-name=index.json.blob&encoded-size=%d", len(b)), "application/octet-stream", b)
	if err != nil || a.Status != http.StatusOK {
		s.t.Fatalf("manifest: %d %s, %v", a.Status, a.Body, err)
	}
	s.ok(c, "POST /finish")
	c.Close()
}

// archive is the entry of a dynamic index of pieces.
func archive(name, letters string) entry {
	size := 0
	for _, l := range strings.Split(letters, "") {
		size += pieces[l].size
	}
	return entry{name, size, sumOf("dyn", letters)}
}

// backUp makes a whole backup of one archive of A and B, and one image of Y, Z
// and S.
func (s *site) backUp(group string, at int64) {
	s.t.Helper()
	c := s.connect(group, at, "")
	s.ok(c,
		"POST /dynamic_index?archive-name=root.pxar.didx", "dynamic 1 A", "dynamic 1 B",
		`PUT /dynamic_index {"wid":1,"digest-list":["{A}","{B}"],"offset-list":[0,100]}`,
		"POST /dynamic_close?wid=1&chunk-count=2&size=300&csum={@dyn AB}",
		"POST /fixed_index?archive-name=disk.img.fidx&size=8389608", "fixed 2 Y", "fixed 2 Z", "fixed 2 S",
		`PUT /fixed_index {"wid":2,"digest-list":["{S}","{Y}","{Z}"],"offset-list":[8388608,0,4194304]}`,
		"POST /fixed_close?wid=2&chunk-count=3&size=8389608&csum={@fix YZS}",
		"POST /blob?file-name=a.conf.blob&encoded-size={A.e} <A",
	)
	s.finish(c, snapshot(group, at), wholeBackup()...)
	s.Wait()
}

func wholeBackup() []entry {
	return []entry{archive("root.pxar.didx", "AB"), {"disk.img.fidx", 8389608, sumOf("fix", "YZS")}, {"a.conf.blob", len(pieces["A"].blob), chunks.Sum(pieces["A"].blob)}}
}
