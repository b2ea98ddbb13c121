package chunks

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The files below testdata/golden were made by proxmox-backup-client 3.2.4 and
// by libproxmox_backup_qemu 1.4.1 (the vm snapshots); index.json says what an
// independent reader found in them.
const goldenDir = "testdata/golden"

type goldenSet struct {
	KeyID struct {
		Fingerprint Fingerprint `json:"fingerprint"`
		EncKey      string      `json:"enc_key"`
	} `json:"key_id"`
	Snapshots []goldenSnapshot `json:"snapshots"`
	Chunks    []goldenChunk    `json:"chunks"`
}

type goldenSnapshot struct {
	Name  string       `json:"name"`
	Files []goldenFile `json:"files"`
}

type goldenFile struct {
	File      string   `json:"file"`
	Len       int      `json:"len"`
	Kind      string   `json:"kind"`
	Csum      Digest   `json:"csum"`
	Size      int64    `json:"size"`
	ChunkSize int64    `json:"chunk_size"`
	Ends      []int64  `json:"ends"`
	Digests   []Digest `json:"digests"`
	Stream    Digest   `json:"stream_sha256"`
}

type goldenChunk struct {
	Digest  Digest `json:"digest"`
	Kind    string `json:"kind"`
	Encoded int    `json:"encoded"`
	Size    int    `json:"size"`
	Plain   Digest `json:"plain_sha256"`
}

func readGolden(t testing.TB, name ...string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(append([]string{goldenDir}, name...)...))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func openGolden(t testing.TB) (goldenSet, *Key) {
	t.Helper()
	var set goldenSet
	if err := json.Unmarshal(readGolden(t, "index.json"), &set); err != nil {
		t.Fatal(err)
	}
	raw, err := hex.DecodeString(set.KeyID.EncKey)
	if err != nil {
		t.Fatal(err)
	}
	key := NewKey([32]byte(raw))
	if key.Fingerprint() != set.KeyID.Fingerprint {
		t.Fatalf("the golden key has fingerprint %s, want %s", key.Fingerprint(), set.KeyID.Fingerprint)
	}
	return set, key
}

// goldenSource serves the golden chunks.
type goldenSource struct{ t testing.TB }

func (s goldenSource) String() string { return goldenDir }

func (s goldenSource) Get(_ context.Context, d Digest, _ []byte) (Blob, error) {
	return readGolden(s.t, "chunks", d.String()), nil
}

// goldenStream decodes and joins the chunks of an index.
func goldenStream(t testing.TB, x Index, key *Key) []byte {
	t.Helper()
	stream := make([]byte, 0, x.Size())
	for i, d := range x.All() {
		b, err := goldenSource{t}.Get(t.Context(), d, nil)
		if err != nil {
			t.Fatal(err)
		}
		plain, err := b.Decode(nil, key)
		if err != nil {
			t.Fatalf("decode chunk %s: %v", d, err)
		}
		if start, end := x.Range(i); start != int64(len(stream)) || end-start != int64(len(plain)) {
			t.Fatalf("chunk %d has %d bytes at %d, its index says [%d, %d)", i, len(plain), len(stream), start, end)
		}
		stream = append(stream, plain...)
	}
	return stream
}

func TestGoldenChunksDecodeAndVerify(t *testing.T) {
	set, key := openGolden(t)
	other := NewKey([32]byte{1})
	for _, want := range set.Chunks {
		t.Run(want.Digest.Short(), func(t *testing.T) {
			b := Blob(readGolden(t, "chunks", want.Digest.String()))
			kind, err := b.Kind()
			if err != nil || kind.String() != want.Kind || len(b) != want.Encoded {
				t.Fatalf("a blob of kind %s, %d bytes, error %v; want %s, %d bytes", kind, len(b), err, want.Kind, want.Encoded)
			}
			plain, err := b.Decode(nil, key)
			if err != nil {
				t.Fatal(err)
			}
			if len(plain) != want.Size || Sum(plain) != want.Plain {
				t.Errorf("decoded to %d bytes with SHA-256 %s, want %d and %s", len(plain), Sum(plain), want.Size, want.Plain)
			}
			if n, ok := b.PlainLen(); ok != !kind.IsZstd() || ok && n != want.Size {
				t.Errorf("PlainLen is %d, %v", n, ok)
			}
			if err := b.Verify(want.Digest, key); err != nil {
				t.Errorf("verify with the key: %v", err)
			}
			if err := b.Verify(want.Digest, nil); err != nil {
				t.Errorf("verify without a key: %v", err)
			}
			wantErr(t, "verify against another digest", b.Verify(Digest{1}, key), ErrCorrupt)
			if kind.IsEncrypted() {
				wantErr(t, "verify with another key", b.Verify(want.Digest, other), ErrWrongKey)
				_, err := b.Decode(nil, nil)
				wantErr(t, "decode without a key", err, ErrNoKey)
			}
		})
	}
}

func TestGoldenBlobsDecode(t *testing.T) {
	set, key := openGolden(t)
	count := 0
	for _, snapshot := range set.Snapshots {
		for _, want := range snapshot.Files {
			name, isBlob := strings.CutSuffix(want.File, ".blob")
			if !isBlob {
				continue
			}
			count++
			t.Run(snapshot.Name+"/"+want.File, func(t *testing.T) {
				b := Blob(readGolden(t, snapshot.Name, want.File))
				kind, err := b.Kind()
				if err != nil || kind.String() != want.Kind || len(b) != want.Len || Digest(sha256.Sum256(b)) != want.Csum {
					t.Fatalf("a blob of kind %s, %d bytes, error %v; want %s, %d bytes", kind, len(b), err, want.Kind, want.Len)
				}
				plain, err := b.Decode(nil, key)
				if err != nil {
					t.Fatal(err)
				}
				if int64(len(plain)) != want.Size {
					t.Errorf("decoded to %d bytes, want %d", len(plain), want.Size)
				}
				if name == "rsa-encrypted.key" {
					return // what is kept of it is what RSA made it from
				}
				if !bytes.Equal(plain, readGolden(t, "decoded", snapshot.Name+"."+name)) {
					t.Errorf("decoded to %q", plain)
				}
			})
		}
	}
	if count == 0 {
		t.Error("no blob among the golden files")
	}
}

func TestGoldenIndexes(t *testing.T) {
	set, key := openGolden(t)
	for _, snapshot := range set.Snapshots {
		for _, want := range snapshot.Files {
			if strings.HasSuffix(want.File, ".blob") {
				continue
			}
			t.Run(snapshot.Name+"/"+want.File, func(t *testing.T) {
				file := readGolden(t, snapshot.Name, want.File)
				x, err := OpenIndex(bytes.NewReader(file), int64(len(file)))
				if err != nil {
					t.Fatal(err)
				}
				testGoldenIndex(t, x, want)
				if got := Sum(goldenStream(t, x, key)); got != want.Stream {
					t.Errorf("the chunks together have SHA-256 %s, want %s", got, want.Stream)
				}
				if !bytes.Equal(rebuild(t, x).Bytes(), file) {
					t.Error("built again from its parts, the index has other bytes")
				}
			})
		}
	}
}

func testGoldenIndex(t *testing.T, x Index, want goldenFile) {
	t.Helper()
	if x.Size() != want.Size || x.Csum() != want.Csum || x.Len() != len(want.Digests) || len(x.Bytes()) != want.Len {
		t.Fatalf("%d chunks, %d bytes, csum %s, want %d, %d, %s", x.Len(), x.Size(), x.Csum(), len(want.Digests), want.Size, want.Csum)
	}
	if err := x.Check(); err != nil {
		t.Error(err)
	}
	for i, d := range x.All() {
		end := min(int64(i+1)*want.ChunkSize, want.Size)
		if want.Ends != nil {
			end = want.Ends[i]
		}
		if _, got := x.Range(i); got != end || d != want.Digests[i] || x.Digest(i) != d {
			t.Errorf("chunk %d is %s and ends at %d, want %s, %d", i, d, got, want.Digests[i], end)
		}
		if at, ok := x.Find(end - 1); !ok || at != i {
			t.Errorf("byte %d is found in chunk %d, %v; want %d", end-1, at, ok, i)
		}
	}
}

// rebuild feeds x's chunks to a builder, a fixed one's in reverse order.
func rebuild(t testing.TB, x Index) Index {
	t.Helper()
	if _, ok := x.(*Dynamic); ok {
		var b DynamicBuilder
		for i, d := range x.All() {
			_, end := x.Range(i)
			if err := b.Append(end, d); err != nil {
				t.Fatal(err)
			}
		}
		built, err := b.Finish(x.UUID(), x.Ctime())
		if err != nil {
			t.Fatal(err)
		}
		return built
	}
	b, err := NewFixedBuilder(x.Size(), x.(*Fixed).ChunkSize())
	if err != nil {
		t.Fatal(err)
	}
	for i := x.Len() - 1; i >= 0; i-- {
		start, end := x.Range(i)
		if err := b.Put(start, end-start, x.Digest(i)); err != nil {
			t.Fatal(err)
		}
	}
	built, err := b.Finish(x.UUID(), x.Ctime())
	if err != nil {
		t.Fatal(err)
	}
	return built
}

func TestGoldenArchivesAreCutAlike(t *testing.T) {
	set, key := openGolden(t)
	for _, snapshot := range set.Snapshots {
		for _, want := range snapshot.Files {
			if !strings.HasSuffix(want.File, ".didx") {
				continue
			}
			avg := ArchiveAverage
			switch {
			case strings.HasPrefix(want.File, "catalog"):
				avg = CatalogAverage
			case snapshot.Name == "g5-small-chunks":
				avg = 64 << 10 // --chunk-size 64
			}
			t.Run(snapshot.Name+"/"+want.File, func(t *testing.T) {
				x, err := ParseDynamic(readGolden(t, snapshot.Name, want.File))
				if err != nil {
					t.Fatal(err)
				}
				stream := goldenStream(t, x, key)
				var ends []int64
				for _, p := range splitAll(t, bytes.NewReader(stream), avg) {
					ends = append(ends, p.Offset+int64(len(p.Data)))
				}
				wantEqual(t, ends, want.Ends)
			})
		}
	}
}
