package wire

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"

	"github.com/holdfast-mesh/holdfast/catalog/manifest"
	"github.com/holdfast-mesh/holdfast/catalog/naming"
	"github.com/holdfast-mesh/holdfast/catalog/roots"
	"github.com/holdfast-mesh/holdfast/chunks"
	"github.com/holdfast-mesh/holdfast/chunks/pack"
	"github.com/holdfast-mesh/holdfast/replication/rate"
	"github.com/holdfast-mesh/holdfast/replication/vouch"
)

// ServerConfig says what a Server works with. The zero value of an optional
// field means its default.
type ServerConfig struct {
	Names func() []string                              // required: all datastores
	Store func(name string) (Store, Chunks, error)     // required
	Who   func(r *http.Request) (peer string, ok bool) // required: the node that asks

	// May says whether a peer may read a namespace of a datastore. It is asked
	// for every request. Required.
	May func(peer, store string, ns naming.Namespace) bool

	// Vouch, if given, returns the signed sums that go along with a snapshot,
	// as files of it: vouch.Keeper.Files of the datastore.
	Vouch func(ctx context.Context, store string, ns naming.Namespace, s naming.Snapshot) ([]vouch.File, error)

	// Out, if given, returns what limits the bytes sent to a peer.
	Out func(peer string) *rate.Bucket
	Log *slog.Logger // default: discard
}

// A Server answers peers. It is an http.Handler.
type Server struct {
	cfg ServerConfig
	mux *http.ServeMux

	mu     sync.Mutex
	reach  map[string]*reach              // by peer and datastore: for grants of parts of one
	memory map[string]*semaphore.Weighted // by peer: see lent
	wg     sync.WaitGroup                 // streams
}

// NewServer returns a server.
func NewServer(cfg ServerConfig) (*Server, error) {
	if cfg.Names == nil || cfg.Store == nil || cfg.Who == nil || cfg.May == nil {
		return nil, errors.New("wire: a server needs datastores, and to know who asks and what they may")
	}
	cfg.Log = cmp.Or(cfg.Log, slog.New(slog.DiscardHandler))
	s := &Server{cfg: cfg, mux: http.NewServeMux(), reach: map[string]*reach{}, memory: map[string]*semaphore.Weighted{}}
	for _, r := range s.routes() {
		s.mux.HandleFunc(r.pattern, s.asked(r.answer))
	}
	return s, nil
}

// A route is one thing that a peer can ask.
type route struct {
	pattern string
	answer  func(w http.ResponseWriter, q request) error
}

func (s *Server) routes() []route {
	return []route{
		{"GET /v1/ping", func(w http.ResponseWriter, _ request) error { w.WriteHeader(http.StatusNoContent); return nil }},
		{"GET /v1/stores", s.stores},
		{"GET /v1/catalog", s.catalog},
		{"POST /v1/files", s.files},
		{"POST /v1/have", s.have},
		{"GET /v1/chunks", s.chunks},
	}
}

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.mux.ServeHTTP(w, r) }

// Wait returns when all streams have ended, which they do when their
// connections are closed.
func (s *Server) Wait() { s.wg.Wait() }

// A request is one question of a known peer.
type request struct {
	*http.Request
	peer  string
	store string
}

func (q request) ctx() context.Context { return q.Context() }

// refusal is an error with its status.
type refusal struct {
	status int
	text   string
}

func (e *refusal) Error() string { return e.text }

func (s *Server) asked(answer func(http.ResponseWriter, request) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		peer, ok := s.cfg.Who(r)
		if !ok {
			http.Error(w, "not a member", http.StatusForbidden)
			return
		}
		r.Body = http.MaxBytesReader(w, r.Body, maxRequest)
		params, err := url.ParseQuery(r.URL.RawQuery)
		if err != nil { // without a parameter that was meant, the question is another one
			err = &refusal{http.StatusBadRequest, err.Error()}
		} else if err = answer(w, request{r, peer, params.Get("store")}); err == nil {
			return
		}
		var no *refusal
		status := http.StatusInternalServerError
		if errors.As(err, &no) {
			status = no.status
		}
		s.cfg.Log.Debug("peer was refused", "peer", peer, "path", r.URL.Path, "err", err)
		http.Error(w, err.Error(), status)
	}
}

// open opens the datastore that is asked about, if the peer may read any of it.
// One that it may not read looks like one that there is not.
func (s *Server) open(q request, under naming.Namespace) (Store, Chunks, error) {
	if naming.CheckStoreName(q.store) != nil || !slices.Contains(s.cfg.Names(), q.store) {
		return nil, nil, &refusal{http.StatusForbidden, fmt.Sprintf("no right to read datastore %q", q.store)}
	}
	st, ch, err := s.cfg.Store(q.store)
	if err != nil {
		return nil, nil, &refusal{http.StatusServiceUnavailable, err.Error()}
	}
	if s.may(q, under) {
		return st, ch, nil
	}
	all, err := st.Namespaces(q.ctx(), under, -1)
	if err != nil || !slices.ContainsFunc(all, func(ns naming.Namespace) bool { return s.may(q, ns) }) {
		return nil, nil, &refusal{http.StatusForbidden, fmt.Sprintf("no right to read datastore %q", q.store)}
	}
	return st, ch, nil
}

func (s *Server) may(q request, ns naming.Namespace) bool { return s.cfg.May(q.peer, q.store, ns) }

func (s *Server) stores(w http.ResponseWriter, q request) error {
	list := []string{}
	for _, name := range s.cfg.Names() {
		q.store = name
		if _, _, err := s.open(q, ""); err == nil {
			list = append(list, name)
		}
	}
	w.Header().Set("Content-Type", "application/json")
	return json.NewEncoder(w).Encode(list)
}

func (s *Server) catalog(w http.ResponseWriter, q request) error {
	ns, err := naming.ParseNamespace(q.URL.Query().Get("ns"))
	if err != nil {
		return &refusal{http.StatusBadRequest, err.Error()}
	}
	depth := -1
	if text := q.URL.Query().Get("depth"); text != "" {
		if depth, err = strconv.Atoi(text); err != nil || depth < 0 {
			return &refusal{http.StatusBadRequest, "depth is not a number"}
		}
	}
	st, _, err := s.open(q, ns)
	if err != nil {
		return err
	}
	side, err := Side(q.ctx(), st, ns, depth, func(ns naming.Namespace) bool { return s.may(q, ns) })
	if errors.Is(err, fs.ErrNotExist) {
		return &refusal{http.StatusNotFound, fmt.Sprintf("no namespace %q", ns)}
	}
	if err != nil {
		return err
	}
	b, err := encodeSide(side)
	if err != nil {
		return err
	}
	sum := sha256.Sum256(b)
	tag := `"` + hex.EncodeToString(sum[:12]) + `"`
	w.Header().Set("ETag", tag)
	if q.Header.Get("If-None-Match") == tag {
		w.WriteHeader(http.StatusNotModified)
		return nil
	}
	return s.send(w, q, b)
}

// send sends bytes within the limit for the peer.
func (s *Server) send(w http.ResponseWriter, q request, b []byte) error {
	bucket := s.out(q.peer)
	rc := http.NewResponseController(w)
	for len(b) > 0 {
		n := min(len(b), 256<<10)
		if err := bucket.Wait(q.ctx(), n); err != nil {
			return nil // the peer is gone
		}
		_ = rc.SetWriteDeadline(time.Now().Add(quiet))
		if _, err := w.Write(b[:n]); err != nil {
			return nil
		}
		b = b[n:]
	}
	return nil
}

func (s *Server) out(peer string) *rate.Bucket {
	if s.cfg.Out == nil {
		return nil
	}
	return s.cfg.Out(peer)
}

// files sends the files of snapshots, manifests first. One that is not there
// any more has none.
func (s *Server) files(w http.ResponseWriter, q request) error {
	st, _, err := s.open(q, "")
	if err != nil {
		return err
	}
	var names []struct {
		NS   naming.Namespace `json:"ns"`
		Snap naming.Snapshot  `json:"snapshot"`
	}
	if err := json.NewDecoder(q.Body).Decode(&names); err != nil || len(names) > maxAsk {
		return &refusal{http.StatusBadRequest, "body is not a list of snapshots"}
	}
	for _, n := range names {
		var list []File
		var err error
		if s.may(q, n.NS) {
			if list, err = s.read(w, q, st, Snapshot{n.NS, n.Snap}); err != nil {
				s.cfg.Log.Warn("snapshot cannot be sent", "peer", q.peer, "snapshot", n.Snap, "err", err)
			}
		}
		if q.ctx().Err() != nil {
			return nil
		}
		if err != nil && q.URL.Query().Has(saysUnreadable) {
			if err := s.send(w, q, binary.LittleEndian.AppendUint32(nil, unreadable)); err != nil {
				return err
			}
			continue
		}
		if err := s.send(w, q, binary.LittleEndian.AppendUint32(nil, uint32(len(list)))); err != nil {
			return err
		}
		for _, f := range list {
			head := binary.LittleEndian.AppendUint16(nil, uint16(len(f.Name)))
			head = append(head, f.Name...)
			head = binary.LittleEndian.AppendUint64(head, uint64(len(f.Data)))
			if err := s.send(w, q, append(head, f.Data...)); err != nil {
				return err
			}
		}
	}
	return nil
}

// read reads all files of a snapshot, and the signed sums that go along. While
// these are made, which may take long, the peer is told to wait.
func (s *Server) read(w http.ResponseWriter, q request, st Store, snap Snapshot) ([]File, error) {
	list, err := readFiles(st, snap.Namespace, snap.Snapshot)
	if err != nil || len(list) == 0 || s.cfg.Vouch == nil {
		return list, err
	}
	var sums []vouch.File
	ctx, cancel := context.WithCancel(q.ctx())
	defer cancel()
	done := make(chan struct{})
	go func() {
		defer close(done)
		sums, err = s.cfg.Vouch(ctx, q.store, snap.Namespace, snap.Snapshot)
	}()
	tick := time.NewTicker(quiet / 3)
	defer tick.Stop()
	for waiting := true; waiting; {
		select {
		case <-done:
			waiting = false
		case <-tick.C:
			if serr := s.send(w, q, binary.LittleEndian.AppendUint32(nil, stillReading)); serr != nil || q.ctx().Err() != nil {
				cancel()
			}
			_ = http.NewResponseController(w).Flush()
		}
	}
	if err != nil { // the snapshot is sent all the same: whoever pulls it decides
		s.cfg.Log.Warn("no sums were signed", "peer", q.peer, "snapshot", snap, "err", err)
	}
	for _, f := range sums {
		list = append(list, File{f.Name, f.Blob})
	}
	return list, nil
}

// stillReading, in the place of a number of files, says that the peer has to
// wait, and that the number is still to come.
const stillReading = 1<<32 - 1

// unreadable, in the place of a number of files, says that the snapshot is there and
// cannot be read. Who does not ask for that with saysUnreadable, as older nodes, is told
// that it has no files.
const (
	unreadable     = 1<<32 - 2
	saysUnreadable = "unreadable"
)

// readFiles reads all files of a finished snapshot.
func readFiles(st Store, ns naming.Namespace, snap naming.Snapshot) ([]File, error) {
	names, err := st.Files(ns, snap)
	if errors.Is(err, fs.ErrNotExist) || err == nil && !slices.Contains(names, manifest.Name) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	slices.SortStableFunc(names, func(a, b string) int { return cmp.Compare(order(a), order(b)) })
	var list []File
	for _, name := range names {
		f := File{Name: name}
		if roots.IsIndex(name) {
			x, err := st.ReadIndex(ns, snap, name)
			if err != nil {
				return nil, err
			}
			f.Data = x.Bytes()
		} else if f.Data, err = st.ReadBlob(ns, snap, name); err != nil {
			return nil, err
		}
		list = append(list, f)
	}
	return list, nil
}

func order(name string) int {
	switch name {
	case manifest.Name:
		return 0
	case manifest.LogName:
		return 2
	}
	return 1
}

// have answers with a bit for each digest.
func (s *Server) have(w http.ResponseWriter, q request) error {
	_, ch, err := s.open(q, "")
	if err != nil {
		return err
	}
	ds, err := readDigests(q.Body, maxHave)
	if err != nil {
		return &refusal{http.StatusBadRequest, err.Error()}
	}
	may, err := s.reachable(q)
	if err != nil {
		return err
	}
	bits := make([]byte, (len(ds)+7)/8)
	located(ch, ds, may, func(i int) { bits[i/8] |= 1 << (i % 8) })
	return s.send(w, q, bits)
}

// located calls fn for those of ds that are here and may be read.
func located(ch Chunks, ds []chunks.Digest, may *reach, fn func(i int)) {
	ch.LocateMany(ds, func(i int, ref pack.Ref, held bool) {
		if held && may.has(ref) {
			fn(i)
		}
	})
}
