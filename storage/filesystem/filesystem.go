// Package filesystem keeps a registry in a directory tree: each repository is
// an OCI image layout that other tools can read, and what other tools wrote is
// served as it is. See ../format.md for every file.
//
//	<root>/<repository>/oci-layout  index.json  blobs/<alg>/<hex>
//	<root>/_pool/_/<alg>/<2 hex>/<hex>   hard links of blobs, to share their bytes
//	<root>/_repos/<encoded name>/        log, history and pulls of a repository
//	<root>/_uploads/<id>/                upload sessions; anything here may be lost
//	<root>/_notes/                       when background work is due
//	<root>/_state/                       keys that sign, API keys; secret
//	<root>/_lock                         who writes here
//	<root>/_reserve                      room to delete in when the disk is full
//
// No repository name begins with an underscore.
package filesystem

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caddy-oci/oci-registry/internal/btree"
	"github.com/caddy-oci/oci-registry/internal/durable"
	"github.com/caddy-oci/oci-registry/internal/journal"
	"github.com/caddy-oci/oci-registry/internal/vfs"
	"github.com/caddy-oci/oci-registry/oci"
	"github.com/caddy-oci/oci-registry/storage"
)

// Options tune a Store. The zero value is safe and right for most.
type Options struct {
	// Unsynced leaves writing to the disk to the operating system: faster, and a
	// power cut may lose or damage what was pushed. After an unclean stop every
	// repository is verified before it is served. Default: false.
	Unsynced bool

	// Recheck is how old the knowledge of a repository may be before its
	// index.json is looked at for changes by other tools; if negative, it's looked
	// at whenever the repository is used. Default: 1 second.
	Recheck time.Duration

	// Direct has every file synced by itself, instead of writing small ones to a
	// journal first, with one sync for all of them. Default: false.
	Direct bool

	// LogFrom is the size of index.json, in bytes, from which on changes are
	// appended to a log and index.json is brought up to date when the repository
	// is idle. It's 4 KiB at most for changes that come one after the other.
	// Default: 256 KiB.
	LogFrom int

	// Log gets what an operator should know. Default: nothing.
	Log *slog.Logger

	machine machine // what it runs on; set by tests
}

func (o Options) withDefaults() Options {
	if o.Recheck == 0 {
		o.Recheck = time.Second
	}
	if o.LogFrom == 0 {
		o.LogFrom = 256 << 10
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.machine == nil {
		o.machine = thisMachine{}
	}
	return o
}

// Store is a storage.Store in a directory tree. One process writes to a tree;
// a Store that finds another one at it only reads until that one has gone.
type Store struct {
	under    vfs.FS      // the tree itself
	fs       *journal.FS // the tree, with a journal while this store writes
	disk     *durable.Writer
	opts     atomic.Pointer[Options]
	lock     writerLock
	space    space
	repos    repoSet
	sessions sessionSet
	catalog  catalog
	suspect  suspect
	doubts   doubts
	synced   syncedSet
	small    smallBlobs
	rotten   rareSet[rottenFile]
	broken   breakages
	readOnly bool   // nothing is written, ever
	anchor   string // what is in the tree as long as that is there

	stateMu sync.Mutex // held while a value of _state is compared and replaced

	running sync.WaitGroup // what's in progress; added to under gate, while the store is open

	gate   sync.RWMutex
	closed bool

	background *background
}

var _ storage.Store = (*Store)(nil)

// Open returns the store in the directory root, which is made if it's missing.
// The caller closes it. It reads next to nothing, so it takes the same time at
// any size. It fails if a running zot holds the tree.
func Open(root string, opts Options) (*Store, error) {
	if err := durable.MakeRoot(root); err != nil {
		return nil, err
	}
	fsys, err := vfs.Dir(root)
	if err != nil {
		return nil, err
	}
	s, err := OpenFS(fsys, opts)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open %s: %w", root, err), fsys.Close())
	}
	return s, nil
}

// OpenFS is Open in a tree that is the store's own from then on, unless it fails.
func OpenFS(fsys vfs.FS, opts Options) (*Store, error) {
	if err := refuseZot(fsys); err != nil {
		return nil, err
	}
	s := newStore(fsys, fsys, opts)
	if err := s.lock.try(); err != nil && !errors.Is(err, storage.ErrStandby) {
		return nil, err
	}
	s.background.start(s)
	return s, nil
}

// newStore returns a store in a tree, of which nothing was read and in which nothing
// runs yet. It uses the tree through another one, which closes with the store.
func newStore(tree, through vfs.FS, opts Options) *Store {
	opts = opts.withDefaults()
	s := &Store{under: tree, anchor: lockName, background: newBackground()}
	s.fs = journal.New(through, journal.Options{
		Limit: opts.machine.journalSize(), Boot: opts.machine.boot(), Identity: opts.machine.identity, Log: opts.Log,
	})
	s.opts.Store(&opts)
	s.disk = &durable.Writer{FS: s.fs, Unsynced: func() bool { return s.opts.Load().Unsynced }}
	s.lock.store, s.space.store, s.repos.store = s, s, s
	s.sessions.store, s.catalog.store, s.suspect.store = s, s, s
	return s
}

// Tune applies options to an open store.
func (s *Store) Tune(opts Options) {
	opts = opts.withDefaults()
	if opts.Unsynced && s.lock.held() {
		s.suspect.mark()
	}
	was := s.opts.Swap(&opts)
	if was.Unsynced == opts.Unsynced && was.Direct == opts.Direct || s.enter() != nil {
		return
	}
	defer s.leave()
	s.lock.tune()
}

func (s *Store) log() *slog.Logger { return s.opts.Load().Log }

// enter keeps the store open until leave is called. It may be called by who has
// entered already.
func (s *Store) enter() error {
	s.gate.RLock()
	defer s.gate.RUnlock()
	if s.closed {
		return storage.ErrClosed
	}
	s.running.Add(1)
	return nil
}

func (s *Store) leave() { s.running.Done() }

// errNoTree is why nothing can be said about repositories.
var errNoTree = errors.New("the store's directory is gone, or isn't what it was")

// present fails unless the tree is there. One that was removed, or emptied, has
// no repositories, and to say so would be to say that they were deleted.
func (s *Store) present() error {
	_, err := s.fs.Stat(s.anchor)
	if err == nil && s.readOnly { // else who writes has looked
		err = vfs.InPlace(s.under)
	}
	if err != nil {
		return fmt.Errorf("%w: %s", errNoTree, err.Error()) // not fs.ErrNotExist, which would mean a repository
	}
	return nil
}

// Repository implements storage.Store.
func (s *Store) Repository(name oci.Name) storage.Repository {
	return &Repository{store: s, name: name}
}

// Repositories implements storage.Store.
func (s *Store) Repositories(ctx context.Context, after oci.Name) iter.Seq2[oci.Name, error] {
	return func(yield func(oci.Name, error) bool) {
		if err := s.enter(); err != nil {
			yield(oci.Name{}, err)
			return
		}
		names, err := s.catalog.names(ctx)
		s.leave()
		if err != nil {
			yield(oci.Name{}, err)
			return
		}
		for _, name := range names.From(btree.String(after.String())) {
			if name != after && !yield(name, nil) {
				return
			}
		}
	}
}

// Ready implements storage.Store.
func (s *Store) Ready(context.Context) error {
	if err := s.enter(); err != nil {
		return err
	}
	defer s.leave()
	if s.readOnly {
		return s.present()
	}
	if err := s.lock.check(); err != nil {
		return err
	}
	return s.space.check()
}

// Close implements storage.Store.
func (s *Store) Close() error {
	s.gate.Lock()
	if s.closed {
		s.gate.Unlock()
		return nil
	}
	s.closed = true
	s.gate.Unlock()
	s.running.Wait()
	s.background.stop()
	s.repos.close()
	return errors.Join(s.sessions.forgetIdle(), s.lock.settle(), s.suspect.clean(), s.lock.release(), s.fs.Close())
}
