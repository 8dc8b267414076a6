package storage

import "context"

// Maintainable is a Store that background work is done on, now and then: it
// remembers for it when that was, and tells the processes apart that could do it.
type Maintainable interface {
	// LoadNote returns what SaveNote was given last for a name, by whatever process,
	// or fs.ErrNotExist.
	LoadNote(ctx context.Context, name string) ([]byte, error)

	// SaveNote remembers data, a few kilobytes, in the place of what it was given
	// before, all or nothing. A name has lower-case letters, digits and "-". What it
	// has returned nil for survives a crash.
	SaveNote(ctx context.Context, name string, data []byte) error

	// Claim returns at once, with ok if this process may do the work of that name
	// now: no other one does. Whoever got it calls release once. It saves work and
	// guards nothing: if a process loses the claim, or two have it, that does no harm.
	Claim(ctx context.Context, name string) (release func(), ok bool, err error)
}
