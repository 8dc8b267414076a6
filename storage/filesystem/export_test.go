package filesystem

// Known is how many repositories a store keeps in memory.
func Known(s *Store) int {
	s.repos.mu.Lock()
	defer s.repos.mu.Unlock()
	return len(s.repos.known)
}
