package filesystem

// Known is how many repositories a store keeps in memory.
func Known(s *Store) int {
	s.repos.mu.Lock()
	defer s.repos.mu.Unlock()
	return len(s.repos.known)
}

// KnownSessions is how many upload sessions a store keeps in memory, and how
// many of them with an open file.
func KnownSessions(s *Store) (known, open int) {
	s.sessions.mu.Lock()
	defer s.sessions.mu.Unlock()
	for _, n := range s.sessions.open {
		known++
		if n.file != nil {
			open++
		}
	}
	return known, open
}
