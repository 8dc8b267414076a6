package ociregistry

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"path"
	"strings"
	"sync"
	"testing"

	"github.com/caddyserver/certmagic"

	"github.com/caddy-oci/oci-registry/authz/keep"
	"github.com/caddy-oci/oci-registry/authz/keep/keeptest"
)

func TestKeepInCaddy(t *testing.T) {
	t.Parallel()
	keeptest.Run(t, func(t *testing.T) (one, other keep.Store, again func() keep.Store) {
		s := newSharedStorage()
		open := func() keep.Store { return newInCaddy(s, "my registry/../x") }
		return open(), open(), open
	})
}

// No two registries have the same state, whatever the storage makes of their names.
func TestKeepOfRegistriesWithSimilarNames(t *testing.T) {
	t.Parallel()
	seen := make(map[string]string)
	for _, name := range []string{"main", "Main", "MAIN", "a.b", "a..b", "ab", "a...b", "main-1"} {
		prefix := newInCaddy(newSharedStorage(), name).prefix
		if other, ok := seen[prefix]; ok || strings.ToLower(prefix) != prefix || strings.Contains(prefix, "..") {
			t.Errorf("%s is at %s, as is %q", name, prefix, other)
		}
		seen[prefix] = name
	}
	if seen["oci_registry/main/state"] != "main" {
		t.Errorf("main isn't where it was: %v", seen)
	}
}

// TestKeepInCaddysFiles: as Caddy keeps its storage unless told otherwise.
func TestKeepInCaddysFiles(t *testing.T) {
	t.Parallel()
	keeptest.Run(t, func(t *testing.T) (one, other keep.Store, again func() keep.Store) {
		files := &certmagic.FileStorage{Path: t.TempDir()}
		s := newInCaddy(files, "main")
		return s, s, func() keep.Store { return newInCaddy(files, "main") }
	})
}

// sharedStorage is a certmagic.Storage in memory that several processes could share.
type sharedStorage struct {
	lock chan struct{} // there's one name only

	mu     sync.Mutex
	values map[string][]byte
}

func newSharedStorage() *sharedStorage {
	return &sharedStorage{lock: make(chan struct{}, 1), values: make(map[string][]byte)}
}

func (s *sharedStorage) Lock(ctx context.Context, _ string) error {
	select {
	case s.lock <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (s *sharedStorage) Unlock(context.Context, string) error {
	<-s.lock
	return nil
}

func (s *sharedStorage) Store(_ context.Context, key string, value []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if path.Clean(key) != key || strings.Count(key, "/") != 3 {
		return fmt.Errorf("key %q", key)
	}
	s.values[key] = bytes.Clone(value)
	return nil
}

func (s *sharedStorage) Load(_ context.Context, key string) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	value, ok := s.values[key]
	if !ok {
		return nil, fs.ErrNotExist
	}
	return bytes.Clone(value), nil
}

func (s *sharedStorage) Delete(_ context.Context, key string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.values, key)
	return nil
}

func (s *sharedStorage) Exists(ctx context.Context, key string) bool {
	_, err := s.Load(ctx, key)
	return err == nil
}

func (s *sharedStorage) List(_ context.Context, prefix string, _ bool) ([]string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var keys []string
	for key := range s.values {
		if strings.HasPrefix(key, prefix+"/") {
			keys = append(keys, key)
		}
	}
	if len(keys) == 0 {
		return nil, fs.ErrNotExist
	}
	return keys, nil
}

func (s *sharedStorage) Stat(ctx context.Context, key string) (certmagic.KeyInfo, error) {
	value, err := s.Load(ctx, key)
	return certmagic.KeyInfo{Key: key, Size: int64(len(value)), IsTerminal: true}, err
}

func TestMoveFromCaddysStorage(t *testing.T) {
	t.Parallel()
	keeptest.Move(t, func(*testing.T) (one, other keep.Store) {
		return newInCaddy(newSharedStorage(), "main"), new(keep.Memory)
	})
}
