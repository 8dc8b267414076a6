package storage

import (
	"context"

	"github.com/caddy-oci/oci-registry/oci"
)

// A Restorer is a Store that keeps the last good names of its repositories, and
// puts them back when an operator says so.
type Restorer interface {
	// Broken returns the repositories of which it's known that their names can't be
	// read: ErrBroken. It doesn't look for more of them.
	Broken(ctx context.Context) ([]Breakage, error)

	// Restore makes the names that are served, the last good ones, be the
	// repository's, which can be changed again when it returns nil. What was there is
	// kept aside. It's ErrBroken if there are no good names, and nothing happens to
	// a repository that isn't broken.
	Restore(ctx context.Context, name oci.Name) error
}

// Breakage is a repository whose names can't be read.
type Breakage struct {
	Name oci.Name

	// Cause is what is wrong.
	Cause error

	// LastGood is whether there are good names, which are served.
	LastGood bool
}
