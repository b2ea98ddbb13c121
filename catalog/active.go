package catalog

import "sync/atomic"

// active counts who works on a datastore.
type active struct{ readers, writers atomic.Int64 }

// Active returns how many readers are open and how many snapshots are in the
// making.
func (d *Datastore) Active() (readers, writers int) {
	return int(d.active.readers.Load()), int(d.active.writers.Load())
}

// count counts one more; free counts it off and then calls then.
func count(n *atomic.Int64, then func()) (free func()) {
	n.Add(1)
	return func() { then(); n.Add(-1) }
}
