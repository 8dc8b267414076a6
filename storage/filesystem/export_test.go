package filesystem

import (
	"io/fs"
	"time"
)

// AfterReboot returns o for a machine that was booted since, and whose journals
// are small.
func AfterReboot(o Options) Options {
	o.machine = rebooted{}
	return o
}

// rebooted is no boot like another one, and takes copies for originals: what a
// power cut leaves in a test is a copy.
type rebooted struct{}

func (rebooted) boot() string                                { return "" }
func (rebooted) journalSize() int64                          { return 24 << 10 }
func (rebooted) settling() time.Duration                     { return 0 }
func (rebooted) identity(fs.FileInfo) (uint64, uint64, bool) { return 0, 0, false }

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

// SmallBytes is how much a store keeps in memory of small blobs.
func SmallBytes(s *Store) int {
	s.small.mu.Lock()
	defer s.small.mu.Unlock()
	return s.small.bytes
}

// AfterRebootLarge is AfterReboot with a journal of the usual size.
func AfterRebootLarge(o Options) Options {
	o.machine = rebootedLarge{}
	return o
}

type rebootedLarge struct{ rebooted }

func (rebootedLarge) journalSize() int64 { return 0 }
