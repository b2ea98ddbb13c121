package labs

import (
	"testing"
	"time"

	"github.com/holdfast-mesh/holdfast/simulations/netns"
	"github.com/holdfast-mesh/holdfast/simulations/wan"
)

// Five machines become one cluster with two commands each: one is public, two
// are behind NATs of different kinds, and two behind those of their providers,
// which only a relay can connect. Each sees all, and how. They survive that one
// dies, that one is cut off, and the cluster takes changes meanwhile; who comes
// back is there again.
func TestFiveSites(t *testing.T) {
	m := newMesh(t, wan.Link{Delay: 10 * time.Millisecond, Rate: 100e6})
	dc := m.add("dc", netns.Public)
	home := m.add("home", netns.PortPreserving)
	m.add("flat", netns.Symmetric)
	cabin := m.add("cabin", netns.CarrierGrade)
	for _, s := range []*netns.Site{dc.host.Site, home.host.Site, cabin.host.Site} {
		for _, l := range s.Access() {
			l.Change(func(l *wan.Link) { l.Delay = 65 * time.Millisecond }) // 150 ms and more for who joins now
		}
	}
	boat := m.add("boat", netns.CarrierGrade)
	m.together()
	for _, d := range m.without(dc) {
		m.until(d.name+" reaches dc directly", func() bool { return d.paths()["dc"] == "direct" }, func() any { return d.paths() })
	}
	for _, pair := range [][2]*daemon{{cabin, boat}, {boat, cabin}} {
		m.until("there is a relay between the two of providers", func() bool { return pair[0].paths()[pair[1].name] == "relay" },
			func() any { return pair[0].paths() })
	}
	m.until("three vote", func() bool { return dc.status().Voters >= 3 }, func() any { return dc.status() })

	home.kill()
	m.together(home)
	dc.must("invite", "create", "-q")
	home.run()
	m.together()

	cut := m.lab.Partition(cabin.host.Site)
	m.together(cabin)
	boat.must("invite", "list")
	cabin.sees()
	cut.Heal()
	m.together()
}
