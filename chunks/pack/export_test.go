package pack

// SetPackBytes makes s seal packs at n bytes, below what a store may be made
// with, so that a short history has many packs.
func (s *Store) SetPackBytes(n int64) { s.id.PackBytes = n }
