package filesystem

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"path"
	"slices"

	"github.com/caddy-oci/oci-registry/internal/versioned"
	"github.com/caddy-oci/oci-registry/storage"
)

// stateDir has the registry's own small state, a file for each key. They are staged
// beside it, since a key may be called as files are that are staged.
const (
	stateDir  = "_state"
	stateMode = 0o600
)

var _ storage.Keeper = (*Store)(nil)

func statePath(key string) string { return path.Join(stateDir, versioned.Name(key)) }

// LoadState implements storage.Keeper.
func (s *Store) LoadState(_ context.Context, key string) (value []byte, version string, err error) {
	if err := versioned.CheckKey(key); err != nil {
		return nil, "", err
	}
	if err := s.enter(); err != nil {
		return nil, "", err
	}
	defer s.leave()
	return s.loadState(key)
}

func (s *Store) loadState(key string) (value []byte, version string, err error) {
	f, err := s.fs.Open(statePath(key))
	if err != nil {
		return nil, "", err
	}
	data, err := io.ReadAll(f)
	if err = errors.Join(err, f.Close()); err != nil {
		return nil, "", err
	}
	if value, version, err = versioned.Unpack(data); err != nil {
		err = fmt.Errorf("%s: %w", statePath(key), err)
	}
	return value, version, err
}

// SaveState implements storage.Keeper. It's for who has the tree's lock.
func (s *Store) SaveState(_ context.Context, key string, value []byte, version string) (string, error) {
	packed, now, err := versioned.Pack(key, value)
	if err != nil {
		return "", err
	}
	err = s.changeState(key, version, storage.ErrChanged, func() error { return s.replaceState(key, packed) })
	if err != nil {
		return "", fmt.Errorf("save %s: %w", statePath(key), err)
	}
	return now, nil
}

// DeleteState implements storage.Keeper.
func (s *Store) DeleteState(_ context.Context, key, version string) error {
	if err := versioned.CheckKey(key); err != nil {
		return err
	}
	err := s.changeState(key, version, fs.ErrNotExist, func() error {
		if version == "" {
			return fs.ErrNotExist
		}
		if err := s.disk.FS.Remove(statePath(key)); err != nil {
			return err
		}
		return s.disk.SyncDir(stateDir)
	})
	if err != nil {
		return fmt.Errorf("delete %s: %w", statePath(key), err)
	}
	return nil
}

// changeState calls change if what's at the key is of that version. If there should be
// something and is nothing, the error is gone.
func (s *Store) changeState(key, version string, gone error, change func() error) error {
	if err := s.enter(); err != nil {
		return err
	}
	defer s.leave()
	s.stateMu.Lock()
	defer s.stateMu.Unlock()
	if err := s.lock.check(); err != nil {
		return err
	}
	_, is, err := s.loadState(key)
	switch {
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return err
	case err != nil && version != "":
		return gone
	case is != version:
		return storage.ErrChanged
	}
	return full(change())
}

// replaceState writes a file that is nobody else's to read, from its first byte on.
func (s *Store) replaceState(key string, data []byte) error {
	tmp := path.Join(notesDir, "tmp-"+rand.Text())
	if err := s.stageState(tmp, data); err != nil {
		return errors.Join(err, s.removeIfThere(tmp))
	}
	err := s.disk.Within(statePath(key), func() error { return s.disk.FS.Rename(tmp, statePath(key)) })
	if err != nil {
		return errors.Join(err, s.removeIfThere(tmp))
	}
	if err := s.disk.SyncDir(stateDir); err != nil {
		return err
	}
	return s.disk.Settle(stateDir)
}

func (s *Store) stageState(name string, data []byte) error {
	return s.disk.Within(name, func() error {
		f, err := s.disk.FS.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL)
		if err != nil {
			return err
		}
		if err = f.Chmod(stateMode); err == nil {
			_, err = io.Copy(f, bytes.NewReader(data))
		}
		if err == nil {
			err = s.disk.Sync(f)
		}
		return errors.Join(err, f.Close())
	})
}

func (s *Store) removeIfThere(name string) error {
	if err := s.disk.FS.Remove(name); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// ListState implements storage.Keeper.
func (s *Store) ListState(_ context.Context, prefix string) iter.Seq2[string, error] {
	return versioned.Each(func() ([]string, error) { return s.stateKeys(prefix) })
}

func (s *Store) stateKeys(prefix string) ([]string, error) {
	if err := s.enter(); err != nil {
		return nil, err
	}
	defer s.leave()
	entries, err := s.fs.ReadDir(stateDir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	var keys []string
	for _, e := range entries {
		if key, ok := versioned.Key(e.Name()); ok && versioned.Under(key, prefix) {
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	return keys, nil
}
