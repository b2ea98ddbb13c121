package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/holdfast-mesh/holdfast/access"
	"github.com/holdfast-mesh/holdfast/catalog"
	"github.com/holdfast-mesh/holdfast/chunks/disk"
	"github.com/holdfast-mesh/holdfast/chunks/pack/identity"
	"github.com/holdfast-mesh/holdfast/pbs/client"
	"github.com/holdfast-mesh/holdfast/pbs/sitetest"
)

// A welcome is what a server says to the process that started it.
type welcome struct{ Addr, Fingerprint, Secret, Sink string }

const storeName = "store1"

// serveUntilEOF is the server. It ends when its standard input does.
func serveUntilEOF(ctx context.Context, dir, profile string) error {
	stop, err := profiled(profile, "server-"+filepath.Base(dir))
	if err != nil {
		return err
	}
	defer stop()
	d, err := openStore(ctx, filepath.Join(dir, "store"))
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Join(dir, "site"), 0o700); err != nil {
		return err
	}
	site, err := sitetest.New(sitetest.Config{Dir: filepath.Join(dir, "site"), Datastores: map[string]*catalog.Datastore{storeName: d}})
	if err != nil {
		return err
	}
	if err := site.Access.AddUser(ctx, access.User{ID: sitetest.Admin}, ""); err != nil {
		return err
	}
	if err := site.AddUser(ctx, sitetest.Admin, "/ Admin"); err != nil {
		return err
	}
	secret, err := site.AddToken(ctx, sitetest.Admin+"!tok", "/ Admin")
	if err != nil {
		return err
	}
	sink, err := sinkTLS(site)
	if err != nil {
		return err
	}
	if err := json.NewEncoder(os.Stdout).Encode(welcome{site.Addr, site.Fingerprint, secret, sink}); err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, os.Stdin)
	return errors.Join(err, site.Close(), d.Close())
}

// sinkTLS listens for connections from which it reads as fast as it can, in
// pieces as large as a TLS record.
func sinkTLS(site *sitetest.Site) (addr string, err error) {
	l, err := tls.Listen("tcp", "127.0.0.1:0", site.TLS())
	if err != nil {
		return "", err
	}
	go func() { // until the process ends
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				buf := make([]byte, 256<<10)
				for {
					if _, err := conn.Read(buf); err != nil {
						return
					}
				}
			}()
		}
	}()
	return l.Addr().String(), nil
}

func openStore(ctx context.Context, dir string) (*catalog.Datastore, error) {
	if _, err := os.Stat(dir); errors.Is(err, os.ErrNotExist) {
		if _, err := identity.Init(disk.OS{}, dir, 0); err != nil {
			return nil, err
		}
	}
	return catalog.Open(ctx, catalog.Config{Dir: dir})
}

// A server is another process of this program.
type server struct {
	welcome
	cmd *exec.Cmd
	in  io.Closer
}

func (b *bench) start(name string) (*server, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(b.path(name), 0o755); err != nil {
		return nil, err
	}
	s := &server{cmd: exec.Command(self, "-serve", b.path(name), "-profile", b.profile)}
	s.cmd.Stderr = os.Stderr
	if s.in, err = s.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := s.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := s.cmd.Start(); err != nil {
		return nil, err
	}
	line, err := bufio.NewReader(out).ReadBytes('\n')
	if err == nil {
		err = json.Unmarshal(line, &s.welcome)
	}
	if err != nil {
		return nil, errors.Join(err, s.stop())
	}
	return s, nil
}

func (s *server) stop() error { return errors.Join(s.in.Close(), s.cmd.Wait()) }

// memory returns a figure of the server's memory in bytes: VmRSS or VmHWM.
func (s *server) memory(figure string) (int64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		if v, ok := strings.CutPrefix(line, figure+":"); ok {
			n, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(v), " kB"), 10, 64)
			return n << 10, err
		}
	}
	return 0, fmt.Errorf("no %s", figure)
}

// client returns a client of the server; dial may be nil.
func (s *server) client(dial func(context.Context, string, string) (net.Conn, error)) (*client.Client, error) {
	repo, err := client.ParseRepository(fmt.Sprintf("%s!tok@%s:%s", sitetest.Admin, s.Addr, storeName))
	if err != nil {
		return nil, err
	}
	return client.New(client.Config{Repository: repo, Password: s.Secret, Fingerprint: s.Fingerprint, Dial: dial})
}
