package s3

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/caddy-oci/oci-registry/storage"
)

var _ storage.Quarantiner = (*Repository)(nil)

// object tells bytes from all others; those in a record are nobody else's.
func (e *entry) object() string {
	if e.inline() {
		return ""
	}
	return fmt.Sprintf("%s.%d", e.ID, e.Offset)
}

func (e *entry) same(other *entry) bool {
	return e.object() == other.object() && bytes.Equal(e.Raw, other.Raw)
}

// Quarantine implements storage.Quarantiner. What bad bytes lie in is condemned
// before the blob is dropped: so nobody mounts them from where they're named still.
// A grace after the last repository has dropped them they're swept.
func (r *Repository) Quarantine(ctx context.Context, d digest.Digest) (storage.Outcome, error) {
	known, done, err := r.enter()
	if err != nil {
		return "", err
	}
	defer done()
	s, err := known.refresh(ctx)
	if err != nil {
		return "", err
	}
	b := s.find(d)
	if b == nil {
		return "", unknownBlob(d)
	}
	there, sound, err := r.check(ctx, d, b.entry, nil)
	if err != nil {
		return "", fmt.Errorf("read %s: %w", d, err)
	}
	if sound {
		return storage.Sound, nil
	}
	if err := r.store.writable(ctx); err != nil {
		return "", err
	}
	if there && !b.inline() {
		err := r.store.condemn(ctx, b.ID, func(ids map[string]time.Time) { ids[b.ID] = time.Time{} })
		if err != nil {
			return "", err
		}
	}
	return known.lose(ctx, d, b)
}

// check reads bytes, and reports whether they're there and right. It gives way, by
// wait, every now and then, unless that's nil.
func (r *Repository) check(ctx context.Context, d digest.Digest, e entry, wait waiting) (there, sound bool, err error) {
	if !e.inline() {
		o, serr := r.store.bucket.stat(ctx, r.store.keys.data(e.ID))
		if errors.Is(serr, errNotFound) || serr == nil && o.Size < e.Offset+e.Size {
			return serr == nil, false, nil
		}
		if serr != nil {
			return false, false, serr
		}
	}
	content, v := r.content(ctx, d, e), d.Verifier()
	if wait == nil {
		_, err = io.Copy(v, content)
	} else {
		_, err = io.Copy(v, &yielding{content, func() error { return wait(ctx, 0) }, 0})
	}
	if err = errors.Join(err, content.Close()); errors.Is(err, errGone) {
		return false, false, nil
	}
	return true, err == nil && v.Verified(), err
}

// yielding is a Reader that gives way once in a while.
type yielding struct {
	io.Reader

	giveWay func() error
	left    int // bytes until it does
}

// perYield is how many bytes are read in a while.
const perYield = 1 << 20

func (y *yielding) Read(p []byte) (int, error) {
	if y.left <= 0 {
		if err := y.giveWay(); err != nil {
			return 0, err
		}
		y.left = perYield
	}
	n, err := y.Reader.Read(p)
	y.left -= n
	return n, err
}

// lose takes out a blob whose bytes are bad, unless it has other ones by now.
func (r *repo) lose(ctx context.Context, d digest.Digest, bad *blob) (storage.Outcome, error) {
	outcome := storage.Sound
	err := r.change(ctx, func(s *state) ([]change, string, error) {
		now := s.find(d)
		if outcome = storage.Sound; now == nil || !now.same(&bad.entry) {
			return nil, "", nil
		}
		outcome = storage.Taken
		return []change{{Drop: d, Lost: true}}, "", nil
	})
	return outcome, err
}

// Quarantined implements storage.Quarantiner.
func (r *Repository) Quarantined(ctx context.Context) iter.Seq2[digest.Digest, error] {
	return func(yield func(digest.Digest, error) bool) {
		known, done, err := r.enter()
		if err != nil {
			yield("", err)
			return
		}
		s, err := known.refresh(ctx)
		done()
		if err != nil {
			yield("", err)
			return
		}
		for key := range s.lost.All() {
			if !yield(digest.Digest(key), nil) {
				return
			}
		}
	}
}

// Vouch implements storage.Quarantiner. Records say what is shared.
func (r *Repository) Vouch(context.Context, storage.Content) error { return nil }
