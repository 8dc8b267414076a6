package filesystem

import (
	"context"
	"errors"
	"fmt"

	"github.com/caddy-oci/oci-registry/internal/vfs"
	"github.com/caddy-oci/oci-registry/oci"
)

// InUse says who has a root at the moment, by the locks that they hold: "a registry",
// "a zot", or empty for nobody. It writes nothing, and needs no right to.
func InUse(root string) (by string, err error) {
	fsys, err := vfs.Dir(root)
	if err != nil {
		return "", err
	}
	by, err = inUse(fsys)
	return by, errors.Join(err, fsys.Close())
}

func inUse(fsys vfs.FS) (by string, err error) {
	locked, err := vfs.Locked(fsys, lockName)
	switch {
	case locked:
		return "a registry", nil
	case err != nil && !missing(err):
		return "", fmt.Errorf("look at %s: %w", lockName, err)
	}
	if locked, err = vfs.Locked(fsys, zotLock); locked && err == nil {
		return "a zot", nil
	}
	return "", nil
}

// ErrUnrecovered is why what a machine has left that stopped isn't read.
var ErrUnrecovered = errors.New("the machine stopped while a registry was running here, and only the journal has what was acknowledged last: " +
	"have a registry open it once, which does again what the journal says, and read it then; a snapshot that's read-only has to be made one that isn't")

// OpenReadOnly returns the store in the directory root, which exists, for reading.
// Nothing in it is written, made or locked, and whoever writes to it isn't kept from
// that: root may be mounted read-only, may have a registry running on it (see InUse),
// and may never have been a registry's, as a folder of OCI image layouts or a zot's.
// What a repository has is what its files have when it's asked, at most opts.Recheck
// ago.
//
// What would write fails with oci.Unsupported. What needs repair is left as it is: of
// what was written with Options.Unsynced and not closed, what's damaged is found
// by its digest when somebody reads it. A log counts; of a journal that has
// what the files may lack, the error is ErrUnrecovered, unless a registry is running.
//
// A directory that was no registry's, without any repository, is an error: it's
// another one than was meant. That takes a look at all of it, which ends with ctx. Of
// opts, Recheck and Log count. The caller closes the store.
func OpenReadOnly(ctx context.Context, root string, opts Options) (*Store, error) {
	fsys, err := vfs.Dir(root)
	if err != nil {
		return nil, err
	}
	s, err := openReadOnly(ctx, fsys, opts)
	if err != nil {
		return nil, errors.Join(err, fsys.Close())
	}
	return s, nil
}

func openReadOnly(ctx context.Context, fsys vfs.FS, opts Options) (*Store, error) {
	s := newStore(fsys, vfs.ReadOnly(fsys), opts)
	s.readOnly = true
	by, err := inUse(fsys)
	if err != nil {
		return nil, err
	}
	if by == "" {
		if err := s.recovered(); err != nil {
			return nil, err
		}
	}
	if _, err := s.fs.Stat(lockName); err == nil {
		return s, nil
	}
	s.anchor = "."
	return s, s.inhabited(ctx)
}

// recovered fails if there's a journal that has something to be done again.
func (s *Store) recovered() error {
	left, err := s.fs.Left()
	if err == nil && left {
		err = ErrUnrecovered
	}
	return err
}

// inhabited fails unless there's a repository in the tree.
func (s *Store) inhabited(ctx context.Context) error {
	looking, found := context.WithCancel(ctx)
	defer found()
	err := s.catalog.descend(looking, ".", func(oci.Name) { found() })
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case looking.Err() != nil:
		return nil
	case err != nil:
		return err
	case isFile(s.fs.Stat("index.json")):
		return errors.New("it's an OCI image layout itself: name the folder that it lies in, where it's a repository")
	}
	return errors.New("there's no registry in it, and no OCI image layout")
}

// mayWrite fails of a store that was opened for reading.
func (s *Store) mayWrite() error {
	if s.readOnly {
		return oci.Errorf(oci.Unsupported, "the store was opened for reading only")
	}
	return nil
}
