package pbstest

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/holdfast-mesh/holdfast/catalog"
	"github.com/holdfast-mesh/holdfast/catalog/naming"
	"github.com/holdfast-mesh/holdfast/pbs/backup"
	"github.com/holdfast-mesh/holdfast/pbs/reader"
	"github.com/holdfast-mesh/holdfast/pbs/upgrade"
)

// ServeHTTP answers one request of the API (PBS protocol notes §1).
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	r.URL.Path = "/" + strings.Join(strings.FieldsFunc(r.URL.Path, func(c rune) bool { return c == '/' }), "/")
	if err := s.answer(w, r); err != nil {
		upgrade.Fail(w, err)
	}
}

func (s *Server) answer(w http.ResponseWriter, r *http.Request) error {
	if s.Before != nil {
		if err := s.Before(r); err != nil {
			return err
		}
	}
	path, ok := strings.CutPrefix(r.URL.Path, "/api2/json/")
	if !ok {
		return upgrade.Errorf(http.StatusNotFound, "no such file: %q", r.URL.Path)
	}
	if r.Method == http.MethodPost && path == "access/ticket" {
		return login(w, r)
	}
	who, err := caller(r)
	if err != nil {
		return err
	}
	const store = "admin/datastore/" + Store + "/"
	switch r.Method + " " + path {
	case "GET version":
		return upgrade.Data(w, map[string]string{"version": cmp.Or(s.Version, "4.0"), "release": cmp.Or(s.Release, "1"), "repoid": "holdfast-test"})
	case "GET backup":
		return s.backup(w, r, who)
	case "GET reader":
		return s.read(w, r, who)
	case "GET " + store + "snapshots":
		return s.snapshots(w, r)
	case "GET " + store + "groups":
		return s.groups(w, r)
	case "GET " + store + "namespace":
		return s.namespaces(w, r)
	case "GET " + store + "files":
		return s.files(w, r)
	case "POST " + store + "namespace", "DELETE " + store + "namespace", "DELETE " + store + "groups", "DELETE " + store + "snapshots":
		return s.change(w, r, strings.TrimPrefix(path, store))
	}
	return upgrade.Errorf(http.StatusNotFound, "Path '%s' not found.", r.URL.Path)
}

// login gives everybody a ticket that names the user.
func login(w http.ResponseWriter, r *http.Request) error {
	p, err := upgrade.AllParams(r)
	if err != nil {
		return err
	}
	user, password := p.Text("username"), p.Text("password")
	if err := p.Err(); err != nil {
		return err
	}
	if password == "" || naming.CheckAuthID(user) != nil || strings.Contains(user, "!") {
		return upgrade.Errorf(http.StatusUnauthorized, "permission check failed.")
	}
	now := fmt.Sprintf("%08X", time.Now().Unix())
	return upgrade.Data(w, map[string]string{
		"username":            user,
		"ticket":              "PBS:" + user + ":" + now + "::dGVzdA",
		"CSRFPreventionToken": now + ":dGVzdA",
	})
}

// caller returns whom the ticket or the token names (§1.3).
func caller(r *http.Request) (string, error) {
	if c, err := r.Cookie("PBSAuthCookie"); err == nil {
		ticket, _ := url.PathUnescape(c.Value)
		if parts := strings.Split(ticket, ":"); len(parts) == 5 && parts[0] == "PBS" {
			if r.Method != http.MethodGet && r.Header.Get("CSRFPreventionToken") == "" {
				return "", upgrade.Errorf(http.StatusUnauthorized, "authentication failed - missing CSRF prevention token")
			}
			return parts[1], nil
		}
	}
	if token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "PBSAPIToken"); ok && token != "" {
		if id, _, ok := strings.Cut(token[1:], ":"); ok && naming.CheckAuthID(id) == nil {
			return id, nil
		}
	}
	return "", upgrade.Errorf(http.StatusUnauthorized, "authentication failed - no authentication credentials provided.")
}

func (s *Server) backup(w http.ResponseWriter, r *http.Request, who string) error {
	req, err := backup.ParseRequest(upgrade.QueryParams(r))
	if err != nil {
		return err
	}
	if req.Store != Store {
		return fmt.Errorf("no such datastore '%s'", req.Store)
	}
	if err := upgrade.Check(r, upgrade.Backup); err != nil {
		return err
	}
	req.Datastore, req.AuthID = s.Datastore, who
	b, err := s.backups.Begin(r.Context(), req)
	if err != nil {
		return err
	}
	return s.session(w, r, upgrade.Backup, b.Serve, func() { b.Abort() })
}

func (s *Server) read(w http.ResponseWriter, r *http.Request, who string) error {
	req, err := reader.ParseRequest(upgrade.QueryParams(r))
	if err != nil {
		return err
	}
	if req.Store != Store {
		return fmt.Errorf("no such datastore '%s'", req.Store)
	}
	if err := upgrade.Check(r, upgrade.Reader); err != nil {
		return err
	}
	req.Datastore, req.AuthID = s.Datastore, who
	session, err := s.readers.Open(r.Context(), req)
	if err != nil {
		return err
	}
	return s.session(w, r, upgrade.Reader, session.Serve, session.Close)
}

func (s *Server) list(r *http.Request) ([]catalog.Info, error) {
	p := upgrade.QueryParams(r)
	ns := p.Namespace()
	if err := p.Err(); err != nil {
		return nil, err
	}
	if ok, err := s.Datastore.HasNamespace(ns); err != nil || !ok {
		return nil, errors.Join(err, errors.New("ENOENT: No such file or directory"))
	}
	all, err := s.Datastore.List(r.Context(), catalog.ListOptions{Namespace: ns})
	if err != nil {
		return nil, err
	}
	infos := []catalog.Info{}
	for _, i := range all {
		if typ := r.FormValue("backup-type"); typ != "" && typ != string(i.Type) {
			continue
		}
		if id := r.FormValue("backup-id"); id != "" && id != i.ID {
			continue
		}
		infos = append(infos, i)
	}
	return infos, nil
}

func (s *Server) snapshots(w http.ResponseWriter, r *http.Request) error {
	infos, err := s.list(r)
	if err != nil {
		return err
	}
	return upgrade.Data(w, infos)
}

func (s *Server) files(w http.ResponseWriter, r *http.Request) error {
	p := upgrade.QueryParams(r)
	ns, snap := p.Namespace(), p.Snapshot()
	if err := p.Err(); err != nil {
		return err
	}
	info, err := s.Datastore.Describe(ns, snap)
	if err != nil {
		return err
	}
	return upgrade.Data(w, info.Files)
}

// A group is one item of the list of groups (§1.6).
type group struct {
	Type  naming.Type `json:"backup-type"`
	ID    string      `json:"backup-id"`
	Last  int64       `json:"last-backup"`
	Count int         `json:"backup-count"`
	Files []string    `json:"files"`
	Owner string      `json:"owner"`
}

func (s *Server) groups(w http.ResponseWriter, r *http.Request) error {
	infos, err := s.list(r) // by group, newest first
	if err != nil {
		return err
	}
	groups := []group{}
	for _, i := range infos {
		if n := len(groups); n > 0 && groups[n-1].Type == i.Type && groups[n-1].ID == i.ID {
			groups[n-1].Count++
			continue
		}
		g := group{Type: i.Type, ID: i.ID, Last: i.Time, Count: 1, Files: []string{}, Owner: i.Owner}
		for _, f := range i.Files {
			g.Files = append(g.Files, f.Name)
		}
		groups = append(groups, g)
	}
	return upgrade.Data(w, groups)
}

func (s *Server) namespaces(w http.ResponseWriter, r *http.Request) error {
	parent, err := naming.ParseNamespace(r.FormValue("parent"))
	if err != nil {
		return err
	}
	depth := naming.MaxDepth
	if text := r.FormValue("max-depth"); text != "" {
		if err := json.Unmarshal([]byte(text), &depth); err != nil {
			return err
		}
	}
	all, err := s.Datastore.Namespaces(r.Context(), parent, depth)
	if err != nil {
		return err
	}
	items := []map[string]string{}
	for _, ns := range all {
		items = append(items, map[string]string{"ns": string(ns)})
	}
	return upgrade.Data(w, items)
}

// change makes a namespace, or removes one, or a group or a snapshot.
func (s *Server) change(w http.ResponseWriter, r *http.Request, what string) error {
	p, err := upgrade.AllParams(r)
	if err != nil {
		return err
	}
	var data any
	switch r.Method + " " + what {
	case "POST namespace":
		parent := naming.Namespace("")
		if p.Has("parent") && p.Text("parent") != "" {
			parent = p.NamespaceIn("parent")
		}
		name := p.Text("name")
		if err := p.Err(); err != nil {
			return err
		}
		ns, err := parent.Child(name)
		if err != nil {
			return err
		}
		data = ns
		if err := s.Datastore.CreateNamespace(ns); err != nil {
			return err
		}
	case "DELETE namespace":
		ns, groups := p.Namespace(), p.Has("delete-groups") && p.Bool("delete-groups")
		if err := p.Err(); err != nil {
			return err
		}
		if err := s.Datastore.RemoveNamespace(r.Context(), ns, groups); err != nil {
			return upgrade.Errorf(http.StatusBadRequest, "only partially deleted due to existing groups but `delete-groups` not true (%w)", err)
		}
	case "DELETE groups":
		ns, g := p.Namespace(), p.Group()
		if err := p.Err(); err != nil {
			return err
		}
		if _, err := s.Datastore.ForgetGroup(r.Context(), ns, g); err != nil {
			return err
		}
	default:
		ns, snap := p.Namespace(), p.Snapshot()
		if err := p.Err(); err != nil {
			return err
		}
		if err := s.Datastore.Forget(r.Context(), ns, snap); err != nil {
			return err
		}
	}
	return upgrade.Data(w, data)
}
