// Package netns builds whole networks inside this machine, for tests: sites
// with hosts behind routers of several kinds of NAT, joined by a wide area
// network whose delay, rate, loss and cuts a test decides while it runs.
//
//	lab := netns.New(t, netns.Config{Seed: 1, Path: wan.Link{Delay: 20 * time.Millisecond}})
//	dc := lab.Site("dc", netns.Public)
//	home := lab.Site("home", netns.Symmetric)
//	relay, nas := dc.Host("relay"), home.Host("nas")
//
//	p := nas.Start(exec.Command("holdfast", "node", "run")) // a process on that host
//	ln, err := relay.Listen("tcp", ":8007")                 // a socket of this process there
//	conn, err := nas.Dial(ctx, "tcp", relay.Addr.String()+":8007")
//
//	lab.Between(home, dc).Cut()                              // partition, both directions
//	lab.Path(home, dc).Change(func(l *wan.Link) { l.Loss = 0.01 })
//	home.Up.Set(wan.Link{Rate: 10e6, Queue: 1 << 20})        // a bloated uplink
//	nas.BlockUDP(true)
//
// Every host and router is a Linux network namespace, so NAT, firewalls, TCP and
// UDP are the real ones; the network between sites is package wan, since kernels
// without `tc netem` are common.
//
// # Nothing is left behind
//
// Namespaces have no names: they live while this process has them open, so they
// are unique to it and go when it goes, however it ends. The same holds for
// processes started on hosts, which get a SIGKILL then; should a child of theirs
// outlive it, the next New finds it by a variable in its environment and kills it.
// New registers a Cleanup, so a test that fails or panics takes its lab down too.
// Nothing is ever set up outside of the namespaces of the lab. To look around in
// a running lab, use the commands that Lab.String prints.
//
// # What it needs
//
// Linux, root, and the programs ip (Debian: iproute2) and nft (nftables). When
// something is missing, New skips the test and says what; with HOLDFAST_NETNS set
// to "required" it fails it instead.
package netns
