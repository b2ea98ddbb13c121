package metrics

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// A Mesh is how this node and the others stand to each other.
type Mesh struct {
	Peers  []Peer
	Ledger Ledger
	Guard  Guard
	Claims map[string]int // that have not ended: of "self", and of "others"
	Pulls  []Pull
}

// A Peer is another node.
type Peer struct {
	Name, Site       string
	Up, Direct       bool
	RTT              time.Duration // zero: not measured
	Loss             float64
	Heard, Handshake time.Time // zero: never
	Changes          uint64    // of its health
	Lag              int64     // records of its feed that are not here; below 0: not known
	Said             time.Time // when its newest record that is here was made
}

// A Ledger is how this node stands to the ledger.
type Ledger struct {
	Quorum, Leader, Voter bool
	Applied, Term         uint64
	Seen                  time.Time // when the leader was heard of last, zero: never
	Diverged              bool      // it is another one than the leader's
	Rejoins               uint64
}

// A Guard is what the guard of this node says.
type Guard struct {
	BreakerOpen bool
	Pending     int // loosenings whose delay is not over
	Blocks      int
}

// A Pull is a job that copies from another node, and how far it is behind.
type Pull struct {
	Job    string
	Behind int       // snapshots that it wants and that are not here
	Since  time.Time // when the oldest of these was made
}

// meshCollector tells about all of it.
type meshCollector struct{ see func() Mesh }

var (
	peerUpDesc        = desc("peer_up", "1 if another node is reached from here, else 0.", "peer", "site")
	peerDirectDesc    = desc("peer_direct", "1 if packets go to it without a relay, else 0.", "peer", "site")
	peerRTTDesc       = desc("peer_rtt_seconds", "Round trip to it; missing if it was not measured.", "peer", "site")
	peerLossDesc      = desc("peer_loss_ratio", "Share of the packets of late that did not arrive, in the worse direction.", "peer", "site")
	peerHeardDesc     = desc("peer_last_heard_timestamp_seconds", "When something came from it last, in Unix time; 0 if nothing has.", "peer", "site")
	peerHandshakeDesc = desc("peer_handshake_timestamp_seconds", "When the last handshake of the tunnel with it was, in Unix time; 0 if there was none.", "peer", "site")
	peerChangesDesc   = desc("peer_changes_total", "How often its health has changed since the start.", "peer", "site")
	feedLagDesc       = desc("feed_lag_records", "Records of its feed that are not here yet; missing if that is not known.", "peer", "site")
	feedSaidDesc      = desc("feed_last_record_timestamp_seconds", "When its newest record that is here was made, in Unix time; 0 if there is none.", "peer", "site")
	quorumDesc        = desc("ledger_quorum", "1 if a leader of the ledger is known, else 0.")
	leaderDesc        = desc("ledger_leader", "1 if this node leads, else 0.")
	voterDesc         = desc("ledger_voter", "1 if this node votes, else 0.")
	appliedDesc       = desc("ledger_index", "Index of the newest command in the ledger here.")
	termDesc          = desc("ledger_term", "Term of Raft here: it grows with every election.")
	seenDesc          = desc("ledger_leader_seen_timestamp_seconds", "When the leader was heard of last, in Unix time; 0 if it never was.")
	divergedDesc      = desc("ledger_hash_mismatch", "1 if the ledger of this node is not that of the leader: stop and look, else 0.")
	rejoinsDesc       = desc("ledger_rejoins_total", "How often the cluster was recovered without this node, since the start.")
	breakerDesc       = desc("guard_breaker_open", "1 if the guard has stopped deletion here, else 0.")
	pendingDesc       = desc("guard_pending_loosenings", "Requests to loosen the guard whose delay is not over.")
	blocksDesc        = desc("guard_blocks", "Nodes and groups that the guard keeps out.")
	claimsDesc        = desc("claims", "Claims of jobs that have not ended, by whose they are: self or others.", "owner")
	pullBehindDesc    = desc("pull_behind_snapshots", "Snapshots that a pull job wants and that are not here, by what its source has said last.", "job")
	pullSinceDesc     = desc("pull_oldest_missing_timestamp_seconds", "When the oldest of these was made, in Unix time; 0 if none is missing.", "job")
)

func (c *meshCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		peerUpDesc, peerDirectDesc, peerRTTDesc, peerLossDesc, peerHeardDesc, peerHandshakeDesc, peerChangesDesc, feedLagDesc, feedSaidDesc,
		quorumDesc, leaderDesc, voterDesc, appliedDesc, termDesc, seenDesc, divergedDesc, rejoinsDesc, breakerDesc, pendingDesc, blocksDesc, claimsDesc,
		pullBehindDesc, pullSinceDesc,
	} {
		ch <- d
	}
}

func (c *meshCollector) Collect(ch chan<- prometheus.Metric) {
	m := c.see()
	for _, p := range m.Peers {
		gauge(ch, peerUpDesc, one(p.Up), p.Name, p.Site)
		gauge(ch, peerDirectDesc, one(p.Direct), p.Name, p.Site)
		if p.RTT > 0 {
			gauge(ch, peerRTTDesc, p.RTT.Seconds(), p.Name, p.Site)
		}
		gauge(ch, peerLossDesc, p.Loss, p.Name, p.Site)
		gauge(ch, peerHeardDesc, unix(p.Heard), p.Name, p.Site)
		gauge(ch, peerHandshakeDesc, unix(p.Handshake), p.Name, p.Site)
		counter(ch, peerChangesDesc, p.Changes, p.Name, p.Site)
		if p.Lag >= 0 {
			gauge(ch, feedLagDesc, p.Lag, p.Name, p.Site)
		}
		gauge(ch, feedSaidDesc, unix(p.Said), p.Name, p.Site)
	}
	l := m.Ledger
	gauge(ch, quorumDesc, one(l.Quorum))
	gauge(ch, leaderDesc, one(l.Leader))
	gauge(ch, voterDesc, one(l.Voter))
	gauge(ch, appliedDesc, int64(l.Applied))
	gauge(ch, termDesc, int64(l.Term))
	gauge(ch, seenDesc, unix(l.Seen))
	gauge(ch, divergedDesc, one(l.Diverged))
	counter(ch, rejoinsDesc, l.Rejoins)
	gauge(ch, breakerDesc, one(m.Guard.BreakerOpen))
	gauge(ch, pendingDesc, m.Guard.Pending)
	gauge(ch, blocksDesc, m.Guard.Blocks)
	for _, p := range m.Pulls {
		gauge(ch, pullBehindDesc, p.Behind, p.Job)
		gauge(ch, pullSinceDesc, unix(p.Since), p.Job)
	}
	for _, owner := range []string{"self", "others"} {
		gauge(ch, claimsDesc, m.Claims[owner], owner)
	}
}

func one(is bool) int {
	if is {
		return 1
	}
	return 0
}

func unix(t time.Time) int64 {
	if t.Unix() <= 0 {
		return 0
	}
	return t.Unix()
}
