package filesystem

import (
	"errors"
	"io/fs"
	"path"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/caddy-oci/oci-registry/internal/vfs"
)

// machine is what has to be known of where a store runs.
type machine interface {
	// boot tells one boot from another; empty if that can't be known.
	boot() string

	// identity tells a file from its copy; false if that can't be told.
	identity(fi fs.FileInfo) (device, inode uint64, ok bool)

	// journalSize is how large each of the journal's files may become, in bytes;
	// zero for its default.
	journalSize() int64

	// settling is how long after a change another one is sure to change a file's times.
	settling() time.Duration
}

type thisMachine struct{}

func (thisMachine) boot() string { return bootID() }

func (thisMachine) journalSize() int64 { return 0 }

func (thisMachine) settling() time.Duration { return time.Second }

func (thisMachine) identity(fi fs.FileInfo) (device, inode uint64, ok bool) {
	device, inode, _ = identity(fi)
	return device, inode, telling
}

// beginJournal does again what the journal says that a dead process left, and
// begins another one if the options want one.
func (s *Store) beginJournal() error {
	if err := s.fs.End(); err != nil {
		return err
	}
	if opts := s.opts.Load(); opts.Unsynced || opts.Direct {
		return s.fs.Recover(s.verifySmall)
	}
	return s.fs.Begin(s.verifySmall)
}

// verifySmall removes the small blobs of a folder that aren't what they're called, and
// makes durable those that are: in the boot that wrote them they may be in memory only,
// and nobody doubts them any more once the journal is gone.
func (s *Store) verifySmall(dir string) error {
	a := digest.Algorithm(path.Base(dir))
	if !a.Available() {
		return nil
	}
	names, err := s.suspect.entries(dir)
	if err != nil {
		return err
	}
	var small []string
	for _, name := range names {
		if fi, serr := s.fs.Stat(path.Join(dir, name)); !isFile(fi, serr) || fi.Size() > maxInMemory {
			continue
		}
		if err := s.suspect.verifyFile(dir, name, a); err != nil {
			return err
		}
		small = append(small, name)
	}
	if err := s.syncFiles(dir, small); err != nil {
		return err
	}
	err = s.under.SyncDir(dir)
	return unless(errors.Is(err, fs.ErrNotExist), err)
}

// syncFiles syncs what is in a folder, all of it at once if that can be.
func (s *Store) syncFiles(dir string, names []string) error {
	d, err := s.under.Open(dir)
	if err != nil {
		return unless(missing(err), err)
	}
	err = errors.Join(vfs.SyncAllOf(d), d.Close())
	if !errors.Is(err, errors.ErrUnsupported) {
		return err
	}
	for _, name := range names {
		if err := s.syncFile(path.Join(dir, name)); err != nil {
			return err
		}
	}
	return nil
}

func (s *Store) syncFile(name string) error {
	f, err := s.under.Open(name)
	if err != nil {
		return unless(missing(err) || irregular(err), err)
	}
	return errors.Join(f.Sync(), f.Close())
}
