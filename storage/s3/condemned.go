package s3

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/caddy-oci/oci-registry/storage"
)

// condemned are IDs of data that no record named when all were read, and that no
// record may name from then on. There's an object of them for each character
// that an ID may begin with.
type condemned struct {
	Format int                  `json:"format"`
	Write  string               `json:"write"` // a random ID for each write, by which a lost answer is settled
	IDs    map[string]time.Time `json:"ids"`   // since when none has named them; zero: some may
}

// condemned reads the condemned that an ID would be among.
func (s *Store) condemned(ctx context.Context, id string) (c condemned, etag string, err error) {
	c.IDs = make(map[string]time.Time)
	body, etag, err := s.bucket.fetch(ctx, getRequest{Key: s.keys.condemned(id)})
	if errors.Is(err, errNotFound) {
		return c, "", nil
	}
	if err != nil {
		return c, "", fmt.Errorf("read what is condemned: %w", err)
	}
	if err = json.Unmarshal(body, &c); err == nil && c.Format != format {
		err = fmt.Errorf("format %d, and this program knows %d", c.Format, format)
	}
	if err != nil {
		return c, "", fmt.Errorf("%w: what is condemned: %w", storage.ErrBroken, err)
	}
	return c, etag, nil
}

// condemn changes the condemned that an ID would be among. edit may be called
// more than once.
func (s *Store) condemn(ctx context.Context, id string, edit func(ids map[string]time.Time)) error {
	if err := s.writable(ctx); err != nil {
		return err
	}
	write := newID()
	for tries := s.patience.begin(); ; {
		now, etag, err := s.condemned(ctx, id)
		if err != nil || now.Write == write {
			return err
		}
		edit(now.IDs)
		now.Format, now.Write = format, write
		body, err := json.Marshal(now)
		if err != nil {
			return err
		}
		_, err = s.bucket.put(ctx, putRequest{Key: s.keys.condemned(id), Body: body, IfMatch: etag, IfAbsent: etag == ""})
		if err == nil {
			return nil
		}
		if !passing(err) && !errors.Is(err, errConflict) {
			return fmt.Errorf("condemn: %w", err)
		}
		if err = tries.again(ctx, err); err != nil {
			return fmt.Errorf("condemn: %w", err)
		}
	}
}
