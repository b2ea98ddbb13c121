//go:build !386 && !arm && !mips && !mipsle

package mount

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// Sizes and numbers for reading far ahead: one answer then carries a mebibyte,
// and enough of them are under way to hide the way to a remote store.
const (
	maxRead     = 1 << 20 // bytes of one request; the most that kernels ask for
	background  = 64      // requests under way that read ahead
	readAheadKB = "8192"
)

// A server is one mount.
type server struct {
	fs     *fileSystem
	fuse   *fuse.Server
	dir    string
	direct bool // mounted by mount(2), not by fusermount3
	device uint64
	done   chan struct{} // closed when the kernel asks nothing any more
	log    *slog.Logger
}

// mount mounts, serves, and unmounts.
func mount(ctx context.Context, dir string, c Content, opt Options) error {
	fs, err := newFileSystem(ctx, c, opt)
	if err != nil {
		return fmt.Errorf("mount on %s: %w", dir, err)
	}
	s := &server{fs: fs, dir: dir, direct: os.Geteuid() == 0, done: make(chan struct{}), log: opt.Log}
	if s.fuse, err = fuse.NewServer(fs, dir, s.options(opt)); err != nil {
		return s.refused(err)
	}
	go func() { // ends when the connection to the kernel does; stop waits for it
		defer close(s.done)
		s.fuse.Serve()
	}()
	if err := s.fuse.WaitMount(); err != nil {
		return errors.Join(fmt.Errorf("mount on %s: %w", dir, err), s.stop())
	}
	s.tune()
	opt.Log.Info("mounted", "dir", dir, "source", opt.Source)
	if opt.Ready != nil {
		opt.Ready()
	}
	select {
	case <-ctx.Done():
	case <-s.done: // somebody unmounted it
	}
	return s.stop()
}

func (s *server) options(opt Options) *fuse.MountOptions {
	o := &fuse.MountOptions{
		AllowOther: opt.AllowOther, FsName: opt.Source, Name: "holdfast",
		MaxWrite: maxRead, MaxBackground: background,
		EnableSymlinkCaching: true, ExplicitDataCacheControl: true, // nothing changes
		Logger: slog.NewLogLogger(opt.Log.Handler(), slog.LevelWarn),
	}
	if opt.AllowOther { // others get in only where the modes of the files let them
		o.Options = append(o.Options, "default_permissions")
	}
	if s.direct {
		o.DirectMountStrict = true
		o.DirectMountFlags = unix.MS_RDONLY | unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOATIME
	} else {
		o.Options = append(o.Options, "ro", "nosuid", "nodev", "noatime")
	}
	return o
}

// refused says what to do about a mount that did not work.
func (s *server) refused(err error) error {
	cure := "see the kernel's log for the reason"
	_, noDevice := os.Stat("/dev/fuse")
	_, noHelper := helper()
	switch {
	case noDevice != nil:
		cure = "load the kernel module fuse, or give the container the device /dev/fuse"
	case s.direct:
		cure = "mounting needs the capability CAP_SYS_ADMIN, which containers often lack"
	case noHelper != nil:
		cure = "install the package fuse3, or run the command as root"
	default:
		cure = "the directory must be yours; --allow-other needs user_allow_other in /etc/fuse.conf"
	}
	return &opError{"mount on " + s.dir, cure, err}
}

// helper returns the program that mounts for users other than root.
func helper() (string, error) {
	for _, name := range []string{"fusermount3", "/bin/fusermount3", "fusermount", "/bin/fusermount"} {
		if found, err := exec.LookPath(name); err == nil {
			return found, nil
		}
	}
	return "", exec.ErrNotFound
}

// tune makes the kernel read further ahead than the 128 KiB that it is born
// with. Only root may; without it everything works, at the speed of one chunk
// at a time.
func (s *server) tune() {
	var st unix.Stat_t
	if err := unix.Stat(s.dir, &st); err != nil {
		return
	}
	s.device = uint64(st.Dev)
	name := fmt.Sprintf("/sys/class/bdi/%d:%d/read_ahead_kb", unix.Major(s.device), unix.Minor(s.device))
	if err := os.WriteFile(name, []byte(readAheadKB), 0); err != nil {
		s.log.Debug("kernel reads ahead as far as it is used to", "err", err)
	}
}

// Times that stop waits: for programs to close what they have open before they
// are cut off, and for the kernel to let go of what was cut off.
const (
	grace = 300 * time.Millisecond
	limit = 5 * time.Second
)

// stop unmounts, by force if need be, and waits until nothing is served.
func (s *server) stop() error {
	err := s.unmount()
	for wait := 20 * time.Millisecond; err != nil && wait < grace && !s.ended(wait); wait *= 2 {
		err = s.unmount()
	}
	if err != nil && !s.ended(0) {
		s.log.Warn("mount is in use and is detached", "dir", s.dir, "err", err)
		s.sever()
	}
	if !s.ended(limit) {
		return &opError{"unmount " + s.dir, "close the programs that use it", ErrInUse}
	}
	s.fs.close()
	return nil
}

// ended waits for at most d for the end of the connection.
func (s *server) ended(d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-s.done:
		return true
	case <-timer.C:
		select {
		case <-s.done:
			return true
		default:
			return false
		}
	}
}

// unmount asks politely: it fails if anything of the mount is in use.
func (s *server) unmount() error {
	if s.ended(0) {
		return nil
	}
	if s.direct {
		return unix.Unmount(s.dir, unix.UMOUNT_NOFOLLOW)
	}
	return s.help("-u")
}

func (s *server) help(flags ...string) error {
	bin, err := helper()
	if err != nil {
		return err
	}
	out, err := exec.Command(bin, append(flags, "--", s.dir)...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s: %w: %s", bin, err, out)
	}
	return nil
}

// sever takes the mount out of the tree of files and aborts its connection, so
// that whoever waits for it fails: umount2(2) with MNT_FORCE does that for
// root, the file abort (fuse(4), fusectl) for who mounted.
func (s *server) sever() {
	var err error
	if s.direct {
		_ = unix.Unmount(s.dir, unix.MNT_FORCE|unix.UMOUNT_NOFOLLOW) // aborts, and fails as it is in use
		err = unix.Unmount(s.dir, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
	} else {
		err = s.help("-u", "-z")
	}
	if err != nil {
		s.log.Error("mount could not be detached", "dir", s.dir, "err", err)
	}
	if s.ended(grace) {
		return
	}
	name := fmt.Sprintf("/sys/fs/fuse/connections/%d/abort", unix.Minor(s.device))
	if err := os.WriteFile(name, []byte("1"), 0); err != nil {
		s.log.Debug("connection could not be aborted", "err", err)
	}
}
