// Package memory keeps a registry in memory: for tests, and for caches that may
// be lost. It holds every blob as one slice, and shares the slice when a blob
// is mounted.
package memory

import (
	"context"
	"iter"
	"slices"
	"sync"

	"github.com/opencontainers/go-digest"

	"github.com/caddy-oci/oci-registry/oci"
	"github.com/caddy-oci/oci-registry/storage"
	"github.com/caddy-oci/oci-registry/storage/layout"
)

var (
	_ storage.Store         = (*Store)(nil)
	_ storage.UploadCounter = (*Store)(nil)
)

// Store is a storage.Store in memory. Only New makes one.
type Store struct {
	running sync.WaitGroup // what Close waits for; added to under mu, while the store is open

	mu       sync.RWMutex
	closed   bool
	contents map[oci.Name]*contents // of the repositories that exist
	names    []oci.Name             // of contents, sorted; replaced, never changed
	sessions map[string]*session    // by id
	state    map[string][]byte      // values with their versions, by key

	updating sync.Mutex // held around the fn of an Update, which mu isn't, so reading goes on
}

// contents is what a repository holds. It's guarded by the store's mu.
type contents struct {
	blobs map[digest.Digest][]byte
	index *layout.Index
}

// New returns an empty store.
func New() *Store {
	return &Store{
		contents: make(map[oci.Name]*contents), sessions: make(map[string]*session), state: make(map[string][]byte),
	}
}

// Repository implements storage.Store.
func (s *Store) Repository(name oci.Name) storage.Repository { return &repository{s, name} }

// Repositories implements storage.Store.
func (s *Store) Repositories(ctx context.Context, after oci.Name) iter.Seq2[oci.Name, error] {
	return func(yield func(oci.Name, error) bool) {
		names, err := s.namesAfter(after)
		if err != nil {
			yield(oci.Name{}, err)
			return
		}
		for _, n := range names {
			if err := ctx.Err(); err != nil {
				yield(oci.Name{}, err)
				return
			}
			if !yield(n, nil) {
				return
			}
		}
	}
}

func (s *Store) namesAfter(after oci.Name) ([]oci.Name, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.closed {
		return nil, storage.ErrClosed
	}
	at, found := slices.BinarySearchFunc(s.names, after, oci.Name.Compare)
	if found {
		at++
	}
	return s.names[at:], nil
}

// Ready implements storage.Store.
func (s *Store) Ready(context.Context) error {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.closed {
		return storage.ErrClosed
	}
	return nil
}

// OpenUploads implements storage.UploadCounter.
func (s *Store) OpenUploads(context.Context) (int, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.closed {
		return 0, storage.ErrClosed
	}
	return len(s.sessions), nil
}

// Close implements storage.Store. The content is gone with the store.
func (s *Store) Close() error {
	s.mu.Lock()
	closed := s.closed
	s.closed = true
	s.mu.Unlock()
	if closed {
		return storage.ErrClosed
	}
	s.running.Wait()
	return nil
}

// begin keeps Close waiting until done is called.
func (s *Store) begin() (done func(), err error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.closed {
		return nil, storage.ErrClosed
	}
	s.running.Add(1)
	return s.running.Done, nil
}

// create returns the contents of a repository, which exists from now on. mu is held.
func (s *Store) create(name oci.Name) *contents {
	c := s.contents[name]
	if c == nil {
		c = &contents{blobs: make(map[digest.Digest][]byte), index: layout.New()}
		s.contents[name] = c
		at, _ := slices.BinarySearchFunc(s.names, name, oci.Name.Compare)
		s.names = slices.Insert(slices.Clip(slices.Clone(s.names)), at, name)
	}
	return c
}
