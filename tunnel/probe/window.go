package probe

// windowBits is how far probes may overtake each other.
const windowBits = 1024

// A Window knows which counters of the current session of a peer were used.
// A peer that restarts begins a new session, which becomes the current one
// when it proves that it is not a recording; see Confirm.
type Window struct {
	session Session
	any     bool
	highest uint64
	used    [windowBits / 64]uint64
}

// Check marks a counter as used. It reports whether the session is the current
// one, and whether the counter was used in it before or is too old to tell.
// Of other sessions nothing is known.
func (w *Window) Check(s Session, counter uint64) (fresh, again bool) {
	if !w.any || s != w.session {
		return false, false
	}
	switch {
	case counter > w.highest:
		w.advance(counter)
	case w.highest-counter >= windowBits:
		return false, true
	}
	word, bit := &w.used[counter/64%uint64(len(w.used))], uint64(1)<<(counter%64)
	if *word&bit != 0 {
		return false, true
	}
	*word |= bit
	return true, false
}

func (w *Window) advance(to uint64) {
	if to-w.highest >= windowBits {
		w.used = [windowBits / 64]uint64{}
	} else {
		for c := w.highest + 1; c <= to; c++ {
			w.used[c/64%uint64(len(w.used))] &^= 1 << (c % 64)
		}
	}
	w.highest = to
}

// Confirm makes s the current session.
func (w *Window) Confirm(s Session) {
	if w.any && w.session == s {
		return
	}
	*w = Window{session: s, any: true}
}
