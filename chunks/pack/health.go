package pack

// Health returns what Open found and did, and which packs are missing now.
func (s *Store) Health() Health {
	s.healthMu.Lock()
	defer s.healthMu.Unlock()
	return s.health
}

// note changes what Health will say; Open works on several packs at once.
func (s *Store) note(change func(*Health)) {
	s.healthMu.Lock()
	defer s.healthMu.Unlock()
	change(&s.health)
}
