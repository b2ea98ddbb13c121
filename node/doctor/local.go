package doctor

import (
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/holdfast-mesh/holdfast/chunks/cloud/doctor"
	"github.com/holdfast-mesh/holdfast/node/memory"
)

// clock asks whether the time of this machine is kept right.
func clock(x *exam) {
	switch set, known := x.m.Clock(); {
	case !known:
		x.skip("this system does not tell")
	case !set:
		x.find(doctor.Warning, "nothing keeps the clock of this machine right", "Schedules and retention go by it, S3 refuses requests of a clock that is 15 minutes wrong, and nodes do not trust each other's times.", "timedatectl set-ntp true")
	}
}

// What a node needs, in bytes.
const (
	leastMemory = 512 << 20
	leastFree   = 100 << 20
)

// memoryOf compares what the machine has with what sessions may take.
func memoryOf(x *exam) {
	all, free := memory.Limit(x.m.Root), x.m.available()
	if all < leastMemory {
		x.find(doctor.Warning, fmt.Sprintf("this node may have %s of memory", size(all)), "Backups and restores at the same time are slow, or the kernel ends the daemon.", "give it "+size(leastMemory)+" at least (MemoryMax= of the service, or the container's limit)")
	}
	if free > 0 && free < leastFree {
		x.find(doctor.Warning, fmt.Sprintf("%s of memory are free on this machine", size(free)), "The kernel may end the daemon, and what it has to read comes from the disk each time.", "ps aux --sort -rss | head; stop what is not needed, or add memory")
	}
	if x.Sessions > all*3/4 {
		x.find(doctor.Warning, fmt.Sprintf("sessions may take %s, and this node has %s", size(x.Sessions), size(all)), "With many backups at the same time the kernel ends the daemon.", "lower session-memory-mib in the section limits of node.toml, or take it out")
	}
}

// leastFiles is how many files and connections a busy node has open.
const leastFiles = 4096

// descriptors looks at how many files may be open.
func descriptors(x *exam) {
	n, err := x.m.Files()
	if err != nil {
		x.skip(err.Error())
	} else if n < leastFiles {
		x.find(doctor.Warning, fmt.Sprintf("this node may have %d files and connections open", n), "Backups fail with \"too many open files\" when many come at the same time.", "LimitNOFILE=65536 in the section Service of: systemctl edit holdfast")
	}
}

// When the end of a certificate is near.
const soon = 30 * 24 * time.Hour

// certificate looks at when the certificate begins and ends.
func certificate(x *exam) {
	c := x.Certificate
	if c == nil {
		x.skip("there is none")
		return
	}
	renew := "have whoever made it renew it (certbot, acme.sh): new files are used within a minute; or take the section tls out of node.toml"
	switch left := c.NotAfter.Sub(x.now); {
	case left <= 0:
		x.find(doctor.Critical, "the certificate ended "+c.NotAfter.UTC().Format(time.DateTime+"Z"), "Clients that check it refuse to back up.", renew)
	case x.now.Before(c.NotBefore):
		x.find(doctor.Critical, "the certificate is valid from "+c.NotBefore.UTC().Format(time.DateTime+"Z")+" on only", "Clients that check it refuse to back up; or the clock of this machine is wrong.", "date; timedatectl set-ntp true")
	case left < soon:
		x.find(doctor.Warning, fmt.Sprintf("the certificate ends in %d days", int(left.Hours()/24)), "Then clients that check it refuse to back up.", renew)
	}
}

// guard looks at what stops deletion.
func guard(x *exam) {
	if x.Breaker != "" {
		x.find(doctor.Critical, "the breaker of the guard is open: "+x.Breaker, "Nothing goes for good until somebody has looked, and the disk fills up.", "holdfast guard show; then: holdfast guard close --reason TEXT")
	}
	for _, w := range x.Guard {
		if x.Breaker == "" || !strings.Contains(w, x.Breaker) {
			x.find(doctor.Warning, w, "Garbage is kept meanwhile.", "holdfast guard show")
		}
	}
}

// operatorKey looks whether the key that rules the cluster lies on a server.
func operatorKey(x *exam) {
	if x.Operator == "" {
		return
	}
	if _, err := x.m.Mode(x.Operator); os.IsNotExist(err) {
		return
	}
	x.find(doctor.Note, "the operator's key lies on this node", "Whoever takes over this machine can remove members and lift holds everywhere.", "copy "+x.Operator+" to two safe places that are no node, and remove it here; verbs that need it take --operator-key")
}
