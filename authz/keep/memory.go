package keep

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"iter"
	"slices"
	"sync"

	"github.com/caddy-oci/oci-registry/internal/versioned"
)

// Memory is a Store in memory: for tests, and for a registry whose content is there
// too. The zero Memory is empty and ready.
type Memory struct {
	mu     sync.Mutex
	values map[string][]byte // with their versions, by key
}

var _ Store = (*Memory)(nil)

// Load implements Store.
func (m *Memory) Load(_ context.Context, key string) (value []byte, version string, err error) {
	if err := versioned.CheckKey(key); err != nil {
		return nil, "", err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	value, version = m.at(key)
	if version == "" {
		return nil, "", fmt.Errorf("%s: %w", key, fs.ErrNotExist)
	}
	return bytes.Clone(value), version, nil
}

// at returns what's at a key; nothing at all if there's no value. mu is held.
func (m *Memory) at(key string) (value []byte, version string) {
	value, version, _ = versioned.Unpack(m.values[key])
	return value, version
}

// Save implements Store.
func (m *Memory) Save(_ context.Context, key string, value []byte, version string) (string, error) {
	packed, now, err := versioned.Pack(key, value)
	if err != nil {
		return "", err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, is := m.at(key); is != version {
		return "", fmt.Errorf("save %s: %w", key, ErrChanged)
	}
	if m.values == nil {
		m.values = make(map[string][]byte)
	}
	m.values[key] = packed
	return now, nil
}

// Delete implements Store.
func (m *Memory) Delete(_ context.Context, key, version string) error {
	if err := versioned.CheckKey(key); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	switch _, is := m.at(key); is {
	case "":
		return fmt.Errorf("delete %s: %w", key, fs.ErrNotExist)
	case version:
		delete(m.values, key)
		return nil
	}
	return fmt.Errorf("delete %s: %w", key, ErrChanged)
}

// List implements Store.
func (m *Memory) List(_ context.Context, prefix string) iter.Seq2[string, error] {
	return versioned.Each(func() ([]string, error) { return m.keys(prefix), nil })
}

func (m *Memory) keys(prefix string) []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	var keys []string
	for key := range m.values {
		if versioned.Under(key, prefix) {
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	return keys
}
