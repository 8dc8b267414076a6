package s3

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"slices"

	"github.com/caddy-oci/oci-registry/internal/versioned"
	"github.com/caddy-oci/oci-registry/storage"
)

var _ storage.Keeper = (*Store)(nil)

// A version is an etag. It's never that of another value, since each has an ID of its
// own in front. No conditional removal is to be had everywhere, so what is deleted
// becomes an ID without a value, and stays.

// LoadState implements storage.Keeper.
func (s *Store) LoadState(ctx context.Context, key string) (value []byte, version string, err error) {
	if err := versioned.CheckKey(key); err != nil {
		return nil, "", err
	}
	done, err := s.begin()
	if err != nil {
		return nil, "", err
	}
	defer done()
	packed, etag, err := s.fetchState(ctx, key)
	if err != nil {
		return nil, "", err
	}
	if len(packed) == 0 {
		return nil, "", fmt.Errorf("state %s: %w", key, fs.ErrNotExist)
	}
	if value, _, err = versioned.Unpack(packed); err != nil {
		return nil, "", fmt.Errorf("state %s: %w", key, err)
	}
	return value, etag, nil
}

// fetchState returns what's at the key and its etag. Nothing was never there if there's
// no etag either.
func (s *Store) fetchState(ctx context.Context, key string) (packed []byte, etag string, err error) {
	packed, etag, err = s.bucket.fetch(ctx, getRequest{Key: s.keys.state(key)})
	switch {
	case errors.Is(err, errNotFound):
		return nil, "", nil
	case len(packed) == versioned.VersionSize:
		packed = nil
	}
	return packed, etag, err
}

// SaveState implements storage.Keeper.
func (s *Store) SaveState(ctx context.Context, key string, value []byte, version string) (string, error) {
	packed, _, err := versioned.Pack(key, value)
	if err != nil {
		return "", err
	}
	now, err := s.putState(ctx, key, version, packed)
	if err != nil {
		return "", fmt.Errorf("save state %s: %w", key, err)
	}
	return now, nil
}

// DeleteState implements storage.Keeper.
func (s *Store) DeleteState(ctx context.Context, key, version string) error {
	if err := versioned.CheckKey(key); err != nil {
		return err
	}
	err := storage.ErrChanged
	if version != "" {
		_, err = s.putState(ctx, key, version, []byte(rand.Text()))
	}
	if errors.Is(err, storage.ErrChanged) {
		if _, _, lerr := s.LoadState(ctx, key); errors.Is(lerr, fs.ErrNotExist) {
			err = lerr
		}
	}
	if err != nil {
		return fmt.Errorf("delete state %s: %w", key, err)
	}
	return nil
}

// putState writes a body that nobody else writes in the place of what has the version.
func (s *Store) putState(ctx context.Context, key, version string, body []byte) (etag string, err error) {
	done, err := s.begin()
	if err != nil {
		return "", err
	}
	defer done()
	if err := s.writable(ctx); err != nil {
		return "", err
	}
	ctx = context.WithoutCancel(ctx)
	if s.options().SingleWriter { // which has no conditions
		s.stateMu.Lock()
		defer s.stateMu.Unlock()
	}
	for tries := s.patience.begin(); ; {
		etag, err = s.tryState(ctx, key, version, body)
		if !passing(err) {
			return etag, err
		}
		if err := tries.again(ctx, err); err != nil {
			return "", err
		}
	}
}

// tryState is one attempt of putState. What an earlier one has written is its own.
func (s *Store) tryState(ctx context.Context, key, version string, body []byte) (etag string, err error) {
	over, err := s.replaced(ctx, key, version)
	switch {
	case errors.Is(err, storage.ErrChanged):
		err = errConflict
	case err != nil:
		return "", err
	default:
		what := putRequest{Key: s.keys.state(key), Body: body, IfMatch: over, IfAbsent: over == ""}
		etag, err = s.bucket.put(ctx, what)
	}
	if err == nil {
		return etag, nil
	}
	return s.settleState(ctx, key, body, err)
}

// replaced returns the etag of what a value of that version takes the place of: the
// version itself, or that of what was deleted; ErrChanged if it's something else.
func (s *Store) replaced(ctx context.Context, key, version string) (etag string, err error) {
	if version != "" && !s.options().SingleWriter {
		return version, nil
	}
	packed, etag, err := s.fetchState(ctx, key)
	switch {
	case err != nil:
		return "", err
	case version == "" && len(packed) > 0, version != "" && version != etag:
		return "", storage.ErrChanged
	}
	return etag, nil
}

// settleState finds out what has come of a write that failed. A refusal may be the
// answer to a second attempt of the transport's, whose first has succeeded.
func (s *Store) settleState(ctx context.Context, key string, body []byte, err error) (string, error) {
	lost := errors.Is(err, errConflict) || errors.Is(err, errNotFound)
	if !lost && !passing(err) {
		return "", err
	}
	is, etag, ferr := s.bucket.fetch(ctx, getRequest{Key: s.keys.state(key)})
	switch {
	case ferr == nil && slices.Equal(is, body):
		return etag, nil
	case ferr != nil && !errors.Is(ferr, errNotFound):
		return "", ferr
	case lost:
		return "", storage.ErrChanged
	}
	return "", err
}

// ListState implements storage.Keeper.
func (s *Store) ListState(ctx context.Context, prefix string) iter.Seq2[string, error] {
	return versioned.Each(func() ([]string, error) { return s.stateKeys(ctx, prefix) })
}

// stateKeys are those under prefix. The bucket's order is theirs: "." and "/" are
// neighbours, with nothing between them that a key could have.
func (s *Store) stateKeys(ctx context.Context, prefix string) ([]string, error) {
	done, err := s.begin()
	if err != nil {
		return nil, err
	}
	defer done()
	var keys []string
	for after, more := "", true; more; {
		var page []listed
		page, more, err = s.bucket.list(ctx, s.keys.state(prefix), after)
		if err != nil {
			return nil, err
		}
		for _, o := range page {
			after = o.Key
			if key, ok := s.keys.stateKey(o.Key); ok && o.Size > versioned.VersionSize && versioned.Under(key, prefix) {
				keys = append(keys, key)
			}
		}
		more = more && len(page) > 0
	}
	return keys, nil
}
