package memory

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"iter"
	"maps"
	"slices"

	"github.com/caddy-oci/oci-registry/internal/versioned"
	"github.com/caddy-oci/oci-registry/storage"
)

var _ storage.Keeper = (*Store)(nil)

// LoadState implements storage.Keeper.
func (s *Store) LoadState(_ context.Context, key string) (value []byte, version string, err error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.closed {
		return nil, "", storage.ErrClosed
	}
	value, version, err = versioned.Unpack(s.state[key])
	if err != nil {
		return nil, "", fmt.Errorf("state %s: %w", key, fs.ErrNotExist)
	}
	return bytes.Clone(value), version, nil
}

// SaveState implements storage.Keeper.
func (s *Store) SaveState(_ context.Context, key string, value []byte, version string) (string, error) {
	packed, now, err := versioned.Pack(key, value)
	if err != nil {
		return "", err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return "", storage.ErrClosed
	}
	if _, is, _ := versioned.Unpack(s.state[key]); is != version {
		return "", fmt.Errorf("save state %s: %w", key, storage.ErrChanged)
	}
	s.state[key] = packed
	return now, nil
}

// DeleteState implements storage.Keeper.
func (s *Store) DeleteState(_ context.Context, key, version string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return storage.ErrClosed
	}
	switch _, is, _ := versioned.Unpack(s.state[key]); is {
	case "":
		return fmt.Errorf("delete state %s: %w", key, fs.ErrNotExist)
	case version:
		delete(s.state, key)
		return nil
	}
	return fmt.Errorf("delete state %s: %w", key, storage.ErrChanged)
}

// ListState implements storage.Keeper.
func (s *Store) ListState(_ context.Context, prefix string) iter.Seq2[string, error] {
	return versioned.Each(func() ([]string, error) { return s.stateKeys(prefix) })
}

// stateKeys are those under prefix, sorted.
func (s *Store) stateKeys(prefix string) ([]string, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.closed {
		return nil, storage.ErrClosed
	}
	keys := slices.Sorted(maps.Keys(s.state))
	return slices.DeleteFunc(keys, func(key string) bool { return !versioned.Under(key, prefix) }), nil
}
