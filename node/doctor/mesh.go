package doctor

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/holdfast-mesh/holdfast/chunks/cloud/doctor"
)

// The ways in which a node is reached.
const (
	direct = "direct"
	relay  = "relay"
	none   = "none"
)

// alone skips a check of a node that is linked to no other.
func (x *exam) alone() bool {
	switch {
	case x.Listen == "":
		x.skip("the node is linked to no other: mesh-listen is not set in node.toml")
	case len(x.Peers) == 0:
		x.skip("there is no other node")
	default:
		return false
	}
	return true
}

// meshPort looks for a port that a firewall closes: then there are paths, but no
// direct one.
func meshPort(x *exam) {
	if x.alone() {
		return
	}
	by := func(path string) bool {
		return slices.ContainsFunc(x.Peers, func(p Peer) bool { return p.Path == path })
	}
	switch open := "let UDP and TCP to " + x.Listen + " through firewall and router, at this site or at the others"; {
	case by(direct):
	case by(relay):
		x.find(doctor.Warning, "no node reaches the mesh port "+x.Listen+" directly, nor do we reach theirs", "All copies go through other nodes, at their speed.", open)
	default:
		x.find(doctor.Critical, "no other node is reached", "No copies are made, and nothing can be changed in the cluster. Backups and restores here go on.", open+"; see holdfast status")
	}
}

// gone is how long a node may be away before it is worth a finding.
const gone = 5 * time.Minute

// paths looks at the way to each node.
func paths(x *exam) {
	if x.alone() {
		return
	}
	for i := range x.Peers {
		p := &x.Peers[i]
		if p.Address.IsValid() {
			p.Interface = x.m.Via(p.Address)
		}
		switch {
		case p.Path == none && x.now.Sub(p.Heard) > gone:
			since := "it was never heard of"
			if p.Heard.Unix() > 0 {
				since = "it was last heard of at " + p.Heard.UTC().Format(time.DateTime+"Z")
			}
			x.find(doctor.Warning, fmt.Sprintf("%s is not reached: %s", p.Name, cmp.Or(p.Why, since)), "Copies wait until it is back.", "holdfast member show "+p.Name+"; does it run, and is its mesh port open?")
		case p.Path == relay:
			x.find(doctor.Note, p.Name+" is reached through another node", "Copies take that node's line too, and its speed.", "open the mesh port at one of the two sites: UDP "+x.Listen)
		}
	}
}

// What a socket needs: as many bytes as are under way, within what is sane.
const (
	leastBuffer = 1 << 20
	mostBuffer  = 8 << 20
)

// buffers compares what the kernel lets a socket hold with what is under way on
// the longest path: bandwidth times delay.
func buffers(x *exam) {
	if x.alone() {
		return
	}
	have := min(x.m.number("proc/sys/net/core/rmem_max"), x.m.number("proc/sys/net/core/wmem_max"))
	if have == 0 {
		x.skip("this system does not tell")
		return
	}
	want, for_ := int64(leastBuffer), "a burst"
	for _, p := range x.Peers {
		speed := x.m.number("sys/class/net/" + p.Interface + "/speed") // Mbit/s; -1: not known
		if p.Interface == "" || p.Path != direct || speed <= 0 {
			continue
		}
		under := int64(float64(speed) * 1e6 / 8 * p.RTT.Seconds())
		if under = min(under, mostBuffer); under > want {
			want, for_ = under, fmt.Sprintf("%d Mbit/s and %s to %s", speed, p.RTT.Round(time.Millisecond), p.Name)
		}
	}
	if have < want {
		x.find(doctor.Warning, fmt.Sprintf("the mesh port can hold %s, and needs %s for %s", size(have), size(want), for_), "Packets are dropped, and copies are slower than the line.",
			fmt.Sprintf("sysctl -w net.core.rmem_max=%d net.core.wmem_max=%d, and the same in /etc/sysctl.d/holdfast.conf; then restart the node", want, want))
	}
}

// version looks for nodes that run something else.
func version(x *exam) {
	if x.alone() {
		return
	}
	var others []string
	for _, p := range x.Peers {
		if p.Version != "" && p.Version != x.Version {
			others = append(others, p.Name+" has "+p.Version)
		}
	}
	if len(others) > 0 {
		x.find(doctor.Note, fmt.Sprintf("not all nodes have the same version: this one has %s, %s", x.Version, strings.Join(others, ", ")), "Versions next to each other work together; more apart was not tried.", "update them one after the other; the newest notes are in CHANGELOG.md")
	}
}

// quorum looks whether the cluster can decide.
func quorum(x *exam) {
	switch {
	case x.Idle:
		x.find(doctor.Critical, "this node serves nothing: "+x.Quorum, "No backup and no restore is possible here.", "upgrade holdfast on this node, and set nothing up anew")
	case x.Quorum != "":
		x.find(doctor.Warning, "there is no quorum: "+x.Quorum, "Accounts, settings and members cannot be changed; backups and restores go on.", "holdfast status; bring enough nodes back, or: holdfast member recover-quorum --plan")
	}
	if x.Advice != "" {
		x.find(doctor.Note, x.Advice, "The loss of one node stops all changes.", "holdfast invite create --role witness")
	}
}
