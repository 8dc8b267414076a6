package ociregistry

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"slices"
	"strings"

	"github.com/caddyserver/certmagic"

	"github.com/caddy-oci/oci-registry/authz/keep"
	"github.com/caddy-oci/oci-registry/internal/versioned"
)

// inCaddy keeps a registry's own state in Caddy's storage, for all who share that.
// Its changes are made one at a time, so one instance serves a process.
type inCaddy struct {
	storage certmagic.Storage
	prefix  string        // ends with no slash
	turn    chan struct{} // holds one while somebody makes a change
}

var _ keep.Store = (*inCaddy)(nil)

func newInCaddy(storage certmagic.Storage, registry string) *inCaddy {
	prefix := "oci_registry/" + keptAt(registry) + "/state"
	return &inCaddy{storage, prefix, make(chan struct{}, 1)}
}

// keptAt is what a registry is called in Caddy's storage, which has no capital letters
// and not two dots in a row. No two have the same: no name has an @.
func keptAt(registry string) string {
	safe := certmagic.StorageKeys.Safe(registry)
	if safe == registry {
		return safe
	}
	sum := sha256.Sum256([]byte(registry))
	return safe + "@" + hex.EncodeToString(sum[:8])
}

func (c *inCaddy) at(key string) string { return c.prefix + "/" + versioned.Name(key) }

// Load implements keep.Store.
func (c *inCaddy) Load(ctx context.Context, key string) (value []byte, version string, err error) {
	if err := versioned.CheckKey(key); err != nil {
		return nil, "", err
	}
	packed, err := c.storage.Load(ctx, c.at(key))
	if err != nil {
		return nil, "", fmt.Errorf("load %s from Caddy's storage: %w", c.at(key), err)
	}
	if value, version, err = versioned.Unpack(packed); err != nil {
		err = fmt.Errorf("%s in Caddy's storage: %w", c.at(key), err)
	}
	return value, version, err
}

// Save implements keep.Store.
func (c *inCaddy) Save(ctx context.Context, key string, value []byte, version string) (string, error) {
	packed, now, err := versioned.Pack(key, value)
	if err != nil {
		return "", err
	}
	err = c.change(ctx, key, func(is string) error {
		if is != version {
			return fmt.Errorf("save %s: %w", c.at(key), keep.ErrChanged)
		}
		return c.storage.Store(ctx, c.at(key), packed)
	})
	if err != nil {
		return "", err
	}
	return now, nil
}

// Delete implements keep.Store.
func (c *inCaddy) Delete(ctx context.Context, key, version string) error {
	if err := versioned.CheckKey(key); err != nil {
		return err
	}
	return c.change(ctx, key, func(is string) error {
		switch is {
		case "":
			return fmt.Errorf("delete %s: %w", c.at(key), fs.ErrNotExist)
		case version:
			return c.storage.Delete(ctx, c.at(key))
		}
		return fmt.Errorf("delete %s: %w", c.at(key), keep.ErrChanged)
	})
}

// change calls do with the version that is there, while nobody else makes changes. The
// lock of a process is waited for by polling, so those of one process queue up before.
func (c *inCaddy) change(ctx context.Context, key string, do func(is string) error) error {
	select {
	case c.turn <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-c.turn }()
	if err := c.storage.Lock(ctx, c.prefix); err != nil {
		return fmt.Errorf("lock %s in Caddy's storage: %w", c.prefix, err)
	}
	defer func() {
		_ = c.storage.Unlock(context.WithoutCancel(ctx), c.prefix) // what is locked for too long is free again
	}()
	_, is, err := c.Load(ctx, key)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return do(is)
}

// List implements keep.Store.
func (c *inCaddy) List(ctx context.Context, prefix string) iter.Seq2[string, error] {
	return versioned.Each(func() ([]string, error) { return c.keys(ctx, prefix) })
}

func (c *inCaddy) keys(ctx context.Context, prefix string) ([]string, error) {
	names, err := c.storage.List(ctx, c.prefix, false)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("list %s in Caddy's storage: %w", c.prefix, err)
	}
	var keys []string
	for _, name := range names {
		key, ok := versioned.Key(strings.TrimPrefix(name, c.prefix+"/"))
		if ok && versioned.Under(key, prefix) {
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	return keys, nil
}
