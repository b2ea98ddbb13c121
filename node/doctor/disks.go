package doctor

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/holdfast-mesh/holdfast/chunks/cloud/doctor"
)

// permissions looks for what others may read.
func permissions(x *exam) {
	dir := x.Places[0].Dir
	for _, file := range append([]string{dir}, x.Secret...) {
		mode, err := x.m.Mode(file)
		if err != nil {
			continue // not all are there
		}
		if mode.Perm()&0o077 != 0 {
			x.find(doctor.Critical, fmt.Sprintf("others may read %s (mode %#o)", file, mode.Perm()), "Whoever has an account on this machine has the keys of the node.", "chmod go= "+file)
		}
	}
}

// on returns what a place lies on.
func (x *exam) on(p Place) (mount, bool) {
	return mountOf(x.m.text("proc/self/mountinfo"), clean(p.Dir))
}

// File systems that do not keep what they promise, and why.
var (
	passing = []string{"tmpfs", "ramfs"}
	remote  = []string{"nfs", "nfs4", "cifs", "smb3", "9p", "ceph", "glusterfs"}
)

// filesystem looks for file systems on which backups do not last.
func filesystem(x *exam) {
	seen := false
	for _, p := range x.Places {
		m, ok := x.on(p)
		seen = seen || ok
		switch {
		case !ok:
		case slices.Contains(passing, m.kind):
			x.find(doctor.Critical, fmt.Sprintf("%s is in memory (%s at %s)", p.Name, m.kind, m.at), "Everything in it is gone after a restart of the machine.", "move it to a disk: see docs/operations.md")
		case slices.Contains(remote, m.kind) || strings.HasPrefix(m.kind, "fuse"):
			x.find(doctor.Warning, fmt.Sprintf("%s is on a file system of another machine (%s at %s)", p.Name, m.kind, m.at), "What was acknowledged is as safe as that machine; backups and restores wait for it, and hang when it is away.", "use a local disk, and give the other machine a node of its own")
		case m.kind == "overlay":
			x.find(doctor.Warning, fmt.Sprintf("%s is in the layers of a container (overlay at %s)", p.Name, m.at), "It is gone when the container is made anew.", "mount a volume at "+p.Dir)
		}
	}
	if !seen {
		x.skip("this system does not tell what is mounted")
	}
}

// mountOptions looks for options that make a file system slow or unsafe.
func mountOptions(x *exam) {
	seen := false
	for _, p := range x.Places {
		m, ok := x.on(p)
		if !ok {
			continue
		}
		seen = true
		at := p.Name + " (" + m.at + ")"
		if _, is := m.has("ro"); is {
			x.find(doctor.Critical, at+" cannot be written", "No backup can be made. A file system that was mounted to be written becomes so after an error of the disk.", "dmesg -T | grep -i error; then: mount -o remount,rw "+m.at)
		}
		if o, is := m.has("nobarrier", "barrier=0", "nobarriers"); is {
			x.find(doctor.Critical, at+" is mounted with "+o, "After a power cut backups that were acknowledged are gone, or the file system is damaged.", "take "+o+" out of /etc/fstab, and: mount -o remount,barrier "+m.at)
		}
		if o, is := m.has("sync", "dirsync"); is {
			x.find(doctor.Warning, at+" is mounted with "+o, "Every write waits for the disk; we ask the disk ourselves where it matters.", "take "+o+" out of /etc/fstab, and: mount -o remount,async "+m.at)
		}
		_, none := m.has("noatime")
		_, few := m.has("relatime")
		if !none && !few && m.kind != "zfs" && !slices.Contains(passing, m.kind) {
			x.find(doctor.Note, at+" notes every reading of a file (neither noatime nor relatime)", "Every restore and verification writes to the disk too.", "mount -o remount,noatime "+m.at+", and put noatime into /etc/fstab")
		}
	}
	if !seen {
		x.skip("this system does not tell what is mounted")
	}
}

// How long it may take until something written is on the disk.
const (
	slowSync = 100 * time.Millisecond
	badSync  = time.Second
)

// fsync measures what every finished snapshot waits for.
func fsync(x *exam) {
	for _, p := range x.Places {
		took, err := x.m.Sync(p.Dir)
		switch cure := "look for what else writes to that disk (iostat -x 5), and at its health (smartctl -a)"; {
		case err != nil:
			x.find(doctor.Critical, fmt.Sprintf("nothing can be written to %s: %v", p.Name, err), "No backup can be made.", "check the disk, its space and the owner of "+p.Dir)
		case took > badSync:
			x.find(doctor.Critical, fmt.Sprintf("it takes %s until 4 KiB of %s are on the disk", took.Round(time.Millisecond), p.Name), "Snapshots, and changes of the ledger, time out.", cure)
		case took > slowSync:
			x.find(doctor.Warning, fmt.Sprintf("it takes %s until 4 KiB of %s are on the disk", took.Round(time.Millisecond), p.Name), "The end of every backup waits for it a few times.", cure)
		}
	}
}

// each calls look with the room of every place, of a file system once.
func (x *exam) each(look func(p Place, r Room)) {
	var seen []string
	for _, p := range x.Places {
		at := p.Dir
		if m, ok := x.on(p); ok {
			at = m.at
		}
		if slices.Contains(seen, at) {
			continue
		}
		seen = append(seen, at)
		r, err := x.m.Room(p.Dir)
		if err != nil {
			x.skip(fmt.Sprintf("%s: %v", p.Name, err))
			continue
		}
		look(p, r)
	}
}

// space looks for disks that are nearly full.
func space(x *exam) {
	x.each(func(p Place, r Room) {
		left := fmt.Sprintf("%s has %s left of %s", p.Name, size(r.Free), size(r.Total))
		cure := "prune, and: holdfast datastore gc NAME; or use a larger disk"
		switch {
		case r.Free*100 < r.Total:
			x.find(doctor.Critical, left, "Backups are refused, so that garbage can still be collected.", cure)
		case r.Free*10 < r.Total:
			x.find(doctor.Warning, left, "Below 1 % backups are refused.", cure)
		}
	})
}

// inodes looks for file systems that can have no more files.
func inodes(x *exam) {
	x.each(func(p Place, r Room) {
		if r.Inodes > 0 && r.FreeInodes*20 < r.Inodes {
			x.find(doctor.Warning, fmt.Sprintf("%s can have %d more files, of %d", p.Name, r.FreeInodes, r.Inodes), "Without, no backup can be made, however many bytes are free.", "remove small files on that disk, or make the file system anew with more inodes")
		}
	})
}

// reserved looks for space that nobody uses.
func reserved(x *exam) {
	x.each(func(p Place, r Room) {
		if r.Total > 0 && r.Reserved*50 > r.Total && r.Reserved > 1<<30 {
			x.find(doctor.Note, fmt.Sprintf("%s (%.1f %%) of the disk of %s are reserved for root", size(r.Reserved), 100*float64(r.Reserved)/float64(r.Total), p.Name),
				"Backups cannot use them.", "tune2fs -m 1 DEVICE (see: findmnt -T "+p.Dir+")")
		}
	})
}

func size(n int64) string {
	f, unit := float64(n), 0
	for f >= 1024 && unit < 5 {
		f, unit = f/1024, unit+1
	}
	return fmt.Sprintf("%.1f %s", f, [...]string{"B", "KiB", "MiB", "GiB", "TiB", "PiB"}[unit])
}
