package s3

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caddy-oci/oci-registry/storage"
)

// links are the URLs that clients are sent to. How long one may be good has to be
// known after a restart, and by other processes: what it's for mustn't go before. So
// before one is signed the bucket says until when those that are signed for as long
// may be good, which is said for a while to come.
type links struct {
	good  atomic.Pointer[goodUntil]
	ahead atomic.Bool // it's being said for longer

	mu     sync.Mutex // held by who says so; guards what follows
	failed time.Time  // when that failed last
}

// goodUntil is until when URLs may be good that are signed for as long as life.
type goodUntil struct {
	life  time.Duration
	until time.Time
}

// covers reports whether it's so for a URL that's signed within a time from now.
func (g *goodUntil) covers(life, within time.Duration) bool {
	return g != nil && g.life == life && g.until.After(time.Now().Add(life+within))
}

const (
	linkMargin  = 15 * time.Minute   // by which clocks may differ
	linkRetry   = 10 * time.Second   // after a failure, until it's tried again
	longestLife = 7 * 24 * time.Hour // of a signed URL, which is S3's
)

// ahead is for how long it's said that URLs are signed. Half of it is more than the margin.
func ahead(life time.Duration) time.Duration { return max(life, time.Hour) }

// linkNote is what the bucket says.
type linkNote struct {
	Format int                  `json:"format"`
	Write  string               `json:"write"` // as of condemned
	Good   map[string]time.Time `json:"good"`  // by life, as time.Duration has it: until when
}

// mayLink reports whether a URL may be signed that's good for so long.
func (s *Store) mayLink(ctx context.Context, life time.Duration) bool {
	good := s.links.good.Load()
	switch {
	case s.options().ReadOnly || good.covers(life, ahead(life)/2):
		return true
	case good.covers(life, linkMargin):
		s.linkAhead(context.WithoutCancel(ctx), life)
		return true
	}
	return s.knowLinks(ctx, life)
}

// linkAhead has it said for longer, while nobody waits.
func (s *Store) linkAhead(ctx context.Context, life time.Duration) {
	if !s.links.ahead.CompareAndSwap(false, true) {
		return
	}
	begun := s.background(func() {
		defer s.links.ahead.Store(false)
		s.knowLinks(ctx, life)
	})
	if !begun {
		s.links.ahead.Store(false)
	}
}

// knowLinks makes sure that the bucket says so, and reports whether it does.
func (s *Store) knowLinks(ctx context.Context, life time.Duration) bool {
	l := &s.links
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.good.Load().covers(life, ahead(life)/2) {
		return true
	}
	if time.Since(l.failed) < linkRetry {
		return false
	}
	until, err := s.sayLinks(ctx, life)
	if err != nil {
		if ctx.Err() == nil {
			l.failed = time.Now()
			s.options().Log.WarnContext(ctx, "nobody is redirected, since it can't be written down for how long", slog.Any("error", err))
		}
		return false
	}
	l.good.Store(&goodUntil{life, until})
	return true
}

// sayLinks has the bucket say that URLs are signed from now on that are good for so
// long, and returns until when they may be.
func (s *Store) sayLinks(ctx context.Context, life time.Duration) (until time.Time, err error) {
	if err := s.writable(ctx); err != nil {
		return until, err
	}
	write := newID()
	for tries := s.patience.begin(); ; {
		now, etag, err := s.linkNote(ctx)
		if err != nil {
			return until, err
		}
		until = now.Good[life.String()]
		if now.Write == write || (&goodUntil{life, until}).covers(life, ahead(life)/2) {
			return until, nil
		}
		maps.DeleteFunc(now.Good, func(_ string, until time.Time) bool { return time.Since(until) > longestLife })
		until = time.Now().UTC().Add(life + ahead(life))
		now.Good[life.String()], now.Format, now.Write = until, format, write
		body, err := json.Marshal(now)
		if err != nil {
			return until, err
		}
		_, err = s.bucket.put(ctx, putRequest{Key: s.keys.links(), Body: body, IfMatch: etag, IfAbsent: etag == ""})
		if err == nil {
			return until, nil
		}
		if !passing(err) && !errors.Is(err, errConflict) {
			return until, err
		}
		if err = tries.again(ctx, err); err != nil {
			return until, err
		}
	}
}

func (s *Store) linkNote(ctx context.Context) (n linkNote, etag string, err error) {
	n.Good = make(map[string]time.Time)
	body, etag, err := s.bucket.fetch(ctx, getRequest{Key: s.keys.links()})
	if errors.Is(err, errNotFound) {
		return n, "", nil
	}
	if err != nil {
		return n, "", fmt.Errorf("read how long redirects are good: %w", err)
	}
	if err = json.Unmarshal(body, &n); err == nil && n.Format != format {
		err = fmt.Errorf("format %d, and this program knows %d", n.Format, format)
	}
	if err != nil {
		return n, "", fmt.Errorf("%w: how long redirects are good: %w", storage.ErrBroken, err)
	}
	if n.Good == nil {
		n.Good = make(map[string]time.Time)
	}
	return n, etag, nil
}

// readLinks finds out for how long somebody may come who was sent here, by whatever
// process and before whatever change of its options.
func (w *sweep) readLinks(ctx context.Context) {
	w.linked = w.store.options().linkedFor()
	note, _, err := w.store.linkNote(ctx)
	if err != nil {
		w.linked = max(w.linked, longestLife)
		w.fail(err)
		return
	}
	for text, until := range note.Good {
		life, err := time.ParseDuration(text)
		if err != nil {
			life = longestLife
		}
		if until.After(time.Now().Add(-linkMargin)) {
			w.linked = max(w.linked, life)
		}
	}
}
