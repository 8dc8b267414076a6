package filesystem

import (
	"errors"
	"io/fs"
	"syscall"

	"github.com/opencontainers/go-digest"

	"github.com/caddy-oci/oci-registry/internal/vfs"
)

// smallest is the size, in bytes, from which on blobs share their bytes. Of smaller
// ones there's little to gain, and they go through the journal, which knows no
// links. Those below 4 KiB, and manifests, are what other tools rewrite in place:
// through a hard link that would reach into every other repository.
const smallest = maxInMemory + 1

// fromPool links a blob of the pool to name; false if it has none that fits.
func (s *Store) fromPool(d digest.Digest, size int64, name string) bool {
	if size < smallest || s.suspect.on.Load() {
		return false
	}
	fi, err := s.fs.Stat(poolPath(d))
	if !isFile(fi, err) {
		return false
	}
	// What no repository has nobody has read since it was lost to them.
	fits := fi.Size() == size && linkCount(fi) != 1 && !s.isRotten(d, fi)
	was := another
	if fits {
		was, err = s.link(poolPath(d), name)
	}
	if !fits || errors.Is(err, syscall.EMLINK) {
		_ = s.fs.Remove(poolPath(d)) // it's damaged or has all the links it can have: another one may take its place
		return false
	}
	return err == nil && was != another
}

// toPool offers a blob to the pool. What goes wrong leaves the blob as it is,
// with its bytes to itself.
func (s *Store) toPool(d digest.Digest, size int64, name string) {
	if size < smallest {
		return
	}
	_ = s.disk.Within(poolPath(d), func() error { return s.fs.Link(name, poolPath(d)) })
}

// leavePool removes the pool's link to a blob that has no other one left. To
// lose a race here costs the sharing, never a blob.
func (s *Store) leavePool(d digest.Digest) {
	if fi, err := s.fs.Stat(poolPath(d)); isFile(fi, err) && linkCount(fi) == 1 {
		_ = s.fs.Remove(poolPath(d))
	}
}

// occupant is what had a name before it was to be a link.
type occupant int

const (
	nobody  occupant = iota
	itself           // the name was a link to the file already
	another          // a file of the same size, of which nothing is known that is known of the other
)

// link is Link that makes the folder of to, and is content with a blob that is there
// already.
func (s *Store) link(from, to string) (was occupant, err error) {
	err = s.disk.Within(to, func() error { return s.fs.Link(from, to) })
	if !errors.Is(err, fs.ErrExist) {
		return nobody, err
	}
	want, serr := s.fs.Stat(from)
	if serr != nil {
		return another, serr
	}
	switch fi, serr := s.fs.Stat(to); {
	case !isFile(fi, serr) || fi.Size() != want.Size():
		return another, err
	case vfs.SameFile(fi, want):
		return itself, nil
	}
	return another, nil
}
